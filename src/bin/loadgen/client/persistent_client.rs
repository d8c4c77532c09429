//! A client that stays connected for the whole run, and compares every byte that it receives with
//! the expected output in flight.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::connection::{Connecting, read_some};
use crate::client::run_end::Served;
use crate::oracle::expected::Cursor;
use crate::oracle::in_flight::InFlight;
use crate::oracle::mismatch::{Mismatch, MismatchKind};
use crate::workload::handshake::Handshake;

/// A client that stays connected for the whole run.
pub(crate) struct PersistentClient {
    user: u64,
    /// Index among the clients of the expected output.
    index: usize,
    stream: TcpStream,
    /// The current part, and the position in it.
    part: u64,
    cursor: Cursor,
    /// Totals of the earlier parts.
    events_before: u64,
    bytes_before: u64,
}

impl PersistentClient {
    /// Connects as `user` and registers the connection.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(crate) fn connect(
        to: SocketAddr,
        user: u64,
        index: usize,
        (registry, token): (&Registry, Token),
    ) -> io::Result<PersistentClient> {
        let mut stream = Connecting::open(to, "a client", &Handshake::of_user(user))?.finish()?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(PersistentClient {
            user,
            index,
            stream,
            part: 0,
            cursor: Cursor::default(),
            events_before: 0,
            bytes_before: 0,
        })
    }

    /// Reads once and compares; returns whether more may be available. `arrived` receives the
    /// latency of each completed part, from its due time.
    ///
    /// # Errors
    ///
    /// The connection ends, or unexpected bytes arrive.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        in_flight: &mut InFlight,
        arrived: &mut dyn FnMut(Duration),
    ) -> io::Result<bool> {
        match read_some(&mut self.stream, buffer)? {
            None => Ok(false),
            Some(0) => {
                let kind = MismatchKind::ClosedEarly("end of file".to_owned());
                Err(self.mismatch(kind, in_flight, b""))
            }
            Some(count) => self.check(&buffer[..count], in_flight, arrived).map(|()| true),
        }
    }

    fn check(
        &mut self,
        mut received: &[u8],
        in_flight: &mut InFlight,
        arrived: &mut dyn FnMut(Duration),
    ) -> io::Result<()> {
        let now = Instant::now();
        while !received.is_empty() {
            let Some((number, part)) = in_flight.get(self.part) else {
                return Err(self.mismatch(MismatchKind::Extra, in_flight, received));
            };
            self.part = number;
            let expected = &part.deliveries.clients[self.index];
            let left = (expected.len() - self.cursor.offset) as usize;
            let (now_due, later) = received.split_at(left.min(received.len()));
            if let Err(matched) = self.cursor.check(now_due, expected, &part.deliveries.broadcasts)
            {
                return Err(self.mismatch(
                    MismatchKind::Different,
                    in_flight,
                    &received[matched..],
                ));
            }
            received = later;
            if self.cursor.offset < expected.len() {
                continue;
            }
            self.events_before += expected.lines();
            self.bytes_before += expected.len();
            if expected.len() > 0 {
                arrived(now.saturating_duration_since(part.due));
                part.waiting -= 1;
            }
            self.part += 1;
            self.cursor = Cursor::default();
            in_flight.retire_completed();
        }
        Ok(())
    }

    /// Describes the mismatch at the next expected byte, where `received` arrived.
    fn mismatch(&self, kind: MismatchKind, in_flight: &mut InFlight, received: &[u8]) -> io::Error {
        let line = in_flight.get(self.part).and_then(|(_, part)| {
            let expected = &part.deliveries.clients[self.index];
            expected.line_at(self.cursor.offset, &part.deliveries.broadcasts)
        });
        let number = line.as_ref().map_or(0, |line| line.number);
        let event = self.events_before + number + 1;
        let mut mismatch =
            Mismatch::new(self.user, kind, event, self.bytes_before + self.cursor.offset);
        if let Some(line) = line {
            let known = (self.cursor.offset - line.start) as usize;
            mismatch.add_received(&line.text[..known]);
            mismatch = mismatch.expecting(line.text);
        }
        mismatch.add_received(received);
        let hint = mismatch.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        io::Error::other(format!("{mismatch}{hint}"))
    }

    /// Returns an error for the first missing line, if any.
    pub(crate) fn missing(&mut self, in_flight: &mut InFlight) -> Option<io::Error> {
        loop {
            let (number, part) = in_flight.get(self.part)?;
            let expected = &part.deliveries.clients[self.index];
            if self.cursor.offset < expected.len() {
                let lines = expected.lines();
                return Some(self.mismatch(MismatchKind::Missing(lines), in_flight, b""));
            }
            self.part = number + 1;
        }
    }

    /// Returns the connection, for the end of the run.
    pub(crate) fn served(&mut self) -> Served<'_> {
        Served { user: self.user, stream: &mut self.stream }
    }
}
