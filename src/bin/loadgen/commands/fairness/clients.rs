//! Probe clients that measure waiting times during the flood.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::wait_times::{WaitTimes, record};
use crate::client::connection::{Connecting, read_some};
use crate::client::persistent_client::PersistentClient;
use crate::codec::{Event, Line};
use crate::oracle::in_flight::InFlight;
use crate::target::server::Addresses;
use crate::workload::handshake::Handshake;

/// Reads within this time belong to the same write of the server.
const WRITE_MERGE_INTERVAL: Duration = Duration::from_micros(200);
/// Bytes per read of the write-interval probe: more than a turn typically writes to it.
const READ_BYTES: usize = 256 * 1024;
/// Bytes per read of a new client; only its first line matters.
const READ_PREFIX_BYTES: usize = 4096;

/// A connection that waits for one thing.
pub(super) enum ProbeClient {
    /// A new client that waits for its first event.
    New {
        stream: TcpStream,
        connecting: Instant,
        /// Time when its id was written.
        identified: Instant,
        /// Received part of its first line.
        prefix: Vec<u8>,
    },
    /// A client that sends no id, and waits to be closed.
    Unidentified { stream: TcpStream, due: Instant },
}

impl ProbeClient {
    /// Connects as `user`, which receives only broadcasts.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect_new(
        to: Addresses,
        user: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<ProbeClient> {
        let connecting = Instant::now();
        let connection = Connecting::open(to.clients, "a new client", &Handshake::of_user(user))?;
        let identified = Instant::now();
        let mut stream = connection.finish()?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(ProbeClient::New { stream, connecting, identified, prefix: Vec::new() })
    }

    /// Connects without an id, to be closed after `timeout`.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect_unidentified(
        to: Addresses,
        timeout: Duration,
        registry: &Registry,
        token: Token,
    ) -> io::Result<ProbeClient> {
        let due = Instant::now() + timeout;
        let mut stream =
            Connecting::open(to.clients, "a silent client", &Handshake::default())?.finish()?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(ProbeClient::Unidentified { stream, due })
    }

    /// Returns the time from which it waits.
    pub(super) fn due(&self) -> Instant {
        match self {
            ProbeClient::New { connecting, .. } => *connecting,
            ProbeClient::Unidentified { due, .. } => *due,
        }
    }

    /// Returns the error message of a timeout.
    pub(super) fn timeout_message(&self) -> &'static str {
        match self {
            ProbeClient::New { .. } => "a new client got no event",
            ProbeClient::Unidentified { .. } => "an unidentified client was not closed",
        }
    }

    /// Polls; returns whether it is done. Sequences below `next_sequence` may have been sent.
    ///
    /// # Errors
    ///
    /// Unexpected bytes arrived, or the connection ended.
    pub(super) fn poll(&mut self, next_sequence: u64, waits: &mut WaitTimes) -> io::Result<bool> {
        match self {
            ProbeClient::New { stream, connecting, identified, prefix } => {
                let mut bytes = [0; READ_PREFIX_BYTES];
                let Some(count) = read_some(stream, &mut bytes)? else { return Ok(false) };
                if count == 0 {
                    return Err(io::Error::other("a new client was closed"));
                }
                if prefix.is_empty() {
                    record(&mut waits.first_event_from_connecting, connecting.elapsed());
                    record(&mut waits.first_event_from_id, identified.elapsed());
                }
                prefix.extend_from_slice(&bytes[..count]);
                is_valid_first_line(prefix, next_sequence)
            }
            ProbeClient::Unidentified { stream, due } => {
                let mut bytes = [0; 64];
                let Some(count) = read_some(stream, &mut bytes)? else { return Ok(false) };
                if count > 0 {
                    let got = bytes[..count].escape_ascii();
                    let message = format!("an unidentified client got `{got}`");
                    return Err(io::Error::other(message));
                }
                let now = Instant::now();
                record(&mut waits.timeout_lateness, now.saturating_duration_since(*due));
                let early = due.saturating_duration_since(now);
                waits.timeout_earliness = waits.timeout_earliness.max(early);
                Ok(true)
            }
        }
    }
}

/// Returns whether the first line is complete. It must be a broadcast that has been sent.
fn is_valid_first_line(prefix: &[u8], next_sequence: u64) -> io::Result<bool> {
    let Some(line) = prefix.split_inclusive(|&byte| byte == b'\n').next() else { return Ok(false) };
    if !line.ends_with(b"\n") && line.len() < READ_PREFIX_BYTES {
        return Ok(false);
    }
    match line.strip_suffix(b"\r\n").map(Line::read) {
        Some(Line::Event(sequence, Event::Broadcast)) if sequence < next_sequence => Ok(true),
        _ => {
            let got = line[..line.len().min(64)].escape_ascii();
            Err(io::Error::other(format!(
                "a new client got `{got}` first, which is no broadcast sent"
            )))
        }
    }
}

/// A client that is read at once, to measure the time between the server's writes.
pub(super) struct WriteIntervalProbe {
    client: PersistentClient,
    /// Start of the last write, and time of the last read.
    begun: Option<Instant>,
    last_read: Instant,
    buffer: Box<[u8]>,
}

impl WriteIntervalProbe {
    /// Wraps a client that receives only broadcasts.
    pub(super) fn new(client: PersistentClient) -> WriteIntervalProbe {
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        WriteIntervalProbe { client, begun: None, last_read: Instant::now(), buffer }
    }

    /// Returns the wrapped client.
    pub(super) fn client(&mut self) -> &mut PersistentClient {
        &mut self.client
    }

    /// Reads all available bytes, and records the time between two writes.
    ///
    /// # Errors
    ///
    /// The connection ends, or unexpected bytes arrive.
    pub(super) fn read(
        &mut self,
        in_flight: &mut InFlight,
        intervals: &mut Histogram<u64>,
    ) -> io::Result<()> {
        let now = Instant::now();
        if now - self.last_read > WRITE_MERGE_INTERVAL
            && let Some(begun) = self.begun.replace(now)
        {
            record(intervals, now - begun);
        }
        while self.client.read(&mut self.buffer, in_flight, &mut |_| {})? {}
        self.last_read = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_must_be_a_broadcast_that_was_sent() {
        assert!(is_valid_first_line(b"41|B\r\n42|B\r\n", 42).unwrap());
        assert!(!is_valid_first_line(b"", 42).unwrap());
        assert!(!is_valid_first_line(b"41|", 42).unwrap());
        for wrong in ["42|B\r\n", "41|P|1|2\r\n", "41|B\n", "B\r\n", "\r\n"] {
            assert!(is_valid_first_line(wrong.as_bytes(), 42).is_err(), "{wrong}");
        }
        assert!(is_valid_first_line(&[b'1'; READ_PREFIX_BYTES], 42).is_err());
    }
}
