//! The log of a child server, read during the run.

use std::io::{self, ErrorKind, Read};
use std::ops::Add;
use std::process::ChildStderr;

use log::debug;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

/// Bytes per read.
const READ_BYTES: usize = 16 * 1024;

/// Current values in a line of totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) clients_connected: u64,
    pub(crate) sources_connected: u64,
    pub(crate) queued_bytes: u64,
}

impl Add for Totals {
    type Output = Totals;

    fn add(self, other: Totals) -> Totals {
        Totals {
            clients_connected: self.clients_connected + other.clients_connected,
            sources_connected: self.sources_connected + other.sources_connected,
            queued_bytes: self.queued_bytes + other.queued_bytes,
        }
    }
}

/// Non-blocking reader of a log.
pub(crate) struct ServerLog {
    pipe: Receiver,
    /// Beginning of an incomplete line.
    partial: Vec<u8>,
}

impl ServerLog {
    /// Registers the log under `token`.
    ///
    /// # Errors
    ///
    /// The registration fails.
    pub(crate) fn new(
        log: ChildStderr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<ServerLog> {
        let mut pipe = Receiver::from(log);
        pipe.set_nonblocking(true)?;
        registry.register(&mut pipe, token, Interest::READABLE)?;
        Ok(ServerLog { pipe, partial: Vec::new() })
    }

    /// Reads all available lines and returns the last totals among them.
    ///
    /// # Errors
    ///
    /// The server has ended, or its log cannot be read.
    pub(crate) fn read(&mut self) -> io::Result<Option<Totals>> {
        let mut buffer = [0; READ_BYTES];
        let mut totals = None;
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server has ended")),
                Ok(count) => totals = self.parse_lines(&buffer[..count]).or(totals),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(totals),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn parse_lines(&mut self, bytes: &[u8]) -> Option<Totals> {
        let mut totals = None;
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(self.partial.trim_ascii_end());
                debug!("server: {line}");
                totals = Totals::read(&line).or(totals);
                self.partial.clear();
            }
        }
        totals
    }
}

impl Totals {
    /// Parses a log line; `None` if it has no totals.
    fn read(line: &str) -> Option<Totals> {
        let (_, totals) = line.split_once("totals: ")?;
        let value_of = |name: &str| {
            let mut pairs = totals.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find(|&(other, _)| other == name)?.1.parse().ok()
        };
        Some(Totals {
            clients_connected: value_of("clients_connected")?,
            sources_connected: value_of("sources_connected")?,
            queued_bytes: value_of("queued_bytes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_in_a_line() {
        let line = "2026-01-31T12:00:00Z [INFO] totals: events=9 awaited=10 lines_queued=5 \
                    queued_bytes=17 clients_connected=103 clients_closed=2 \
                    clients_closed.stalled=2 sources_connected=2 accept_errors=0";
        let totals = Totals { clients_connected: 103, sources_connected: 2, queued_bytes: 17 };
        assert_eq!(Totals::read(line), Some(totals));
        assert_eq!(Totals::read("2026-01-31T12:00:00Z [INFO] clients_connected=5"), None);
    }
}
