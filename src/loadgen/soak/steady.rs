//! The clients that stay for the whole run, every byte of which is checked.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::super::connect::{Greeted, Greeting, read_some};
use super::super::expected::Cursor;
use super::super::fault::{Fault, FaultKind};
use super::ticks::Ticks;

/// One such client.
pub(super) struct Steady {
    user: u64,
    /// Among the steady clients.
    place: usize,
    stream: TcpStream,
    /// The tick that it receives, and how much of that has come.
    tick: u64,
    cursor: Cursor,
    /// Of the ticks before that one.
    events_before: u64,
    bytes_before: u64,
}

impl Steady {
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect(
        to: SocketAddr,
        user: u64,
        place: usize,
        registry: &Registry,
    ) -> io::Result<Steady> {
        let mut stream = Greeted::open(to, "a client", &Greeting::of_user(user))?.ready()?;
        registry.register(&mut stream, Token(place), Interest::READABLE)?;
        Ok(Steady {
            user,
            place,
            stream,
            tick: 0,
            cursor: Cursor::default(),
            events_before: 0,
            bytes_before: 0,
        })
    }

    /// Reads what is there, compares it, and records for each tick how long after its time the last
    /// of it came.
    ///
    /// # Errors
    ///
    /// The connection ends, or anything else came than is due.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        ticks: &mut Ticks,
        latencies: &mut Histogram<u64>,
    ) -> io::Result<()> {
        while let Some(count) = read_some(&mut self.stream, buffer)? {
            if count == 0 {
                let kind = FaultKind::ClosedEarly("end of file".to_owned());
                return Err(self.fault(kind, ticks, b""));
            }
            self.check(&buffer[..count], ticks, latencies)?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        mut received: &[u8],
        ticks: &mut Ticks,
        latencies: &mut Histogram<u64>,
    ) -> io::Result<()> {
        let now = Instant::now();
        while !received.is_empty() {
            let Some((number, tick)) = ticks.get(self.tick) else {
                return Err(self.fault(FaultKind::Extra, ticks, received));
            };
            self.tick = number;
            let expected = &tick.deliveries.clients[self.place];
            let left = (expected.len() - self.cursor.offset) as usize;
            let (now_due, later) = received.split_at(left.min(received.len()));
            if let Err(right) = self.cursor.check(now_due, expected, &tick.deliveries.shared) {
                return Err(self.fault(FaultKind::Different, ticks, &received[right..]));
            }
            received = later;
            if self.cursor.offset < expected.len() {
                continue;
            }
            self.events_before += expected.lines();
            self.bytes_before += expected.len();
            if expected.len() > 0 {
                let late = now.saturating_duration_since(tick.due);
                latencies.saturating_record(late.as_nanos() as u64);
                tick.waiting -= 1;
            }
            self.tick += 1;
            self.cursor = Cursor::default();
            ticks.forget_arrived();
        }
        Ok(())
    }

    /// What differs at the next byte due, where `received` came.
    fn fault(&self, kind: FaultKind, ticks: &mut Ticks, received: &[u8]) -> io::Error {
        let line = ticks.get(self.tick).and_then(|(_, tick)| {
            let expected = &tick.deliveries.clients[self.place];
            expected.line_at(self.cursor.offset, &tick.deliveries.shared)
        });
        let number = line.as_ref().map_or(0, |line| line.number);
        let event = self.events_before + number + 1;
        let mut fault = Fault::new(self.user, kind, event, self.bytes_before + self.cursor.offset);
        if let Some(line) = line {
            let known = (self.cursor.offset - line.start) as usize;
            fault.note_received(&line.text[..known]);
            fault = fault.expecting(line.text);
        }
        fault.note_received(received);
        io::Error::other(fault.to_string())
    }

    /// What it misses, if it waits for anything.
    pub(super) fn missing(&mut self, ticks: &mut Ticks) -> Option<io::Error> {
        loop {
            let (number, tick) = ticks.get(self.tick)?;
            let expected = &tick.deliveries.clients[self.place];
            if self.cursor.offset < expected.len() {
                let lines = expected.lines();
                return Some(self.fault(FaultKind::Missing(lines), ticks, b""));
            }
            self.tick = number + 1;
        }
    }
}
