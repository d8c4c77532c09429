//! Open-loop latency measurement at a given rate.
//!
//! Events are sent on a fixed schedule, limited only by a bound on the memory of outstanding
//! deliveries. The latency of a delivery is measured from the time its event was *due*. If the
//! server or this program falls behind, the delay is included; measured from the time of sending it
//! would not be (coordinated omission, as in wrk2). The latter is kept as the raw latency.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::client::connection::{Connecting, read_some};
use crate::client::first_delivery::FirstDelivery;
use crate::client::run_end::{Served, check_source, expect_silence, extra, source_failed};
use crate::codec::{Event, write_event, write_number};
use crate::oracle::mismatch::RESET_HINT;
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::{self, MAX_WAIT};
use crate::sys::timerfd::Timer;
use crate::target::server::Addresses;
use crate::workload::handshake::Handshake;
use crate::workload::prng::Prng;

/// Maximum recorded latency, in nanoseconds.
const MAX_LATENCY_NS: u64 = 60_000_000_000;
/// Significant digits of the histograms.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Bytes per read from a client.
const READ_BYTES: usize = 64 * 1024;
/// Maximum events encoded per turn when the schedule is behind, so that clients are read in
/// between.
const MAX_EVENTS_PER_TURN: u64 = 1024;
/// Limits on outstanding deliveries and unsent bytes. They bound memory if the server cannot keep
/// up; the delayed events are still measured from their due time.
const MAX_OUTSTANDING: u64 = 1 << 24;
const MAX_UNSENT_BYTES: usize = 256 * 1024;

/// A longer pause than it takes to print a line.
const IDLE: Duration = Duration::from_micros(300);

const SOURCE: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);

/// Recipients of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageKind {
    /// A private message to one client at random.
    Private,
    /// A broadcast to every client.
    Broadcast,
}

/// Rate and duration of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) kind: MessageKind,
    /// Events per second, evenly spaced; above 0.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Spin instead of sleeping until the next event is due.
    pub(crate) busy: bool,
}

impl Schedule {
    fn events(&self) -> u64 {
        ((self.rate * self.duration.as_secs_f64()) as u64).max(1)
    }

    /// Returns the due time of event `index`, relative to the start.
    fn due(&self, index: u64) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// Returns the number of events due after `elapsed`.
    fn due_by(&self, elapsed: Duration) -> u64 {
        ((elapsed.as_secs_f64() * self.rate) as u64 + 1).min(self.events())
    }
}

/// The latencies of one measurement, in nanoseconds.
pub(crate) struct Latencies {
    /// From the due time of the event.
    pub(crate) corrected: Histogram<u64>,
    /// From the time of sending, or of the first attempt if the socket buffer was full.
    pub(crate) raw: Histogram<u64>,
    /// Time spent sending; longer than scheduled if the schedule could not be kept.
    pub(crate) send_duration: Duration,
}

/// A source and clients that measure latency.
pub(crate) struct LatencyProbe {
    poll: Poll,
    events: Events,
    timer: Timer,
    source: TcpStream,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    prng: Prng,
    next_sequence: u64,
    timeout: Duration,
    first_delivery: FirstDelivery,
}

struct Client {
    stream: TcpStream,
    user: u64,
    /// Outstanding deliveries, oldest first.
    awaited: VecDeque<Sent>,
    /// Beginning of an incomplete line.
    partial: Vec<u8>,
    /// Whether an expected line has arrived.
    has_received: bool,
}

/// An event that has been sent.
#[derive(Clone, Copy)]
struct Sent {
    sequence: u64,
    /// Relative to the start.
    at: Duration,
}

/// A measurement in progress.
struct Measurement {
    schedule: Schedule,
    start: Instant,
    first_sequence: u64,
    outstanding: u64,
    latencies: Latencies,
}

impl LatencyProbe {
    /// Connects the source to the first of these servers, then clients for the users 1 to `clients` to all
    /// in turn. There is at least one server.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(crate) fn connect(
        to: &[Addresses],
        clients: usize,
        timeout: Duration,
        seed: u64,
    ) -> io::Result<LatencyProbe> {
        allow_clients(clients)?;
        let poll = Poll::new()?;
        let registry = poll.registry();
        let timer = Timer::new(registry, TIMER)?;
        let mut source =
            Connecting::open(to[0].events, "the event source", &Handshake::default())?.finish()?;
        registry.register(&mut source, SOURCE, Interest::READABLE | Interest::WRITABLE)?;
        let mut connected = Vec::with_capacity(clients);
        for index in 0..clients {
            let user = index as u64 + 1;
            let id = Handshake::of_user(user);
            let at = to[index % to.len()].clients;
            let mut stream = Connecting::open(at, "a client", &id)?.finish()?;
            registry.register(&mut stream, Token(index), Interest::READABLE)?;
            let (awaited, partial) = (VecDeque::new(), Vec::new());
            connected.push(Client { stream, user, awaited, partial, has_received: false });
        }
        Ok(LatencyProbe {
            poll,
            events: Events::with_capacity(1024),
            timer,
            source,
            clients: connected,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            prng: Prng::from_seed(seed),
            next_sequence: 1,
            timeout,
            first_delivery: FirstDelivery::new(to[0].events),
        })
    }

    /// Sends the events of `schedule` and waits for their deliveries. After a signal it returns the
    /// latencies so far. `observer` is called often, with the time since the start, and with whether
    /// it may take [`IDLE`] without delaying an event or its timing.
    ///
    /// # Errors
    ///
    /// A connection fails, a client receives an unexpected line, or nothing has arrived for the
    /// timeout.
    pub(crate) fn measure(
        &mut self,
        schedule: Schedule,
        observer: &mut dyn FnMut(Duration, bool),
    ) -> io::Result<Latencies> {
        let events = schedule.events();
        let mut measurement = Measurement::start(schedule, self.next_sequence)?;
        let mut unsent = Vec::new();
        let mut encoded = 0;
        let mut last_arrival = measurement.start;
        let mut sent = 0;
        loop {
            let elapsed = measurement.start.elapsed();
            let due = schedule.due_by(elapsed).min(encoded + MAX_EVENTS_PER_TURN);
            while encoded < due
                && measurement.outstanding < MAX_OUTSTANDING
                && unsent.len() < MAX_UNSENT_BYTES
            {
                self.encode_next(&mut measurement, elapsed, &mut unsent);
                encoded += 1;
            }
            sent += self.send(&mut unsent)?;
            let is_done = encoded == events && unsent.is_empty() && measurement.outstanding == 0;
            if is_done || interrupt::has_come() {
                return Ok(measurement.latencies);
            }
            let is_idle = measurement.outstanding == 0 && schedule.due(encoded) > elapsed + IDLE;
            observer(elapsed, is_idle);
            self.wait(&measurement, encoded)?;
            if self.read_clients(&mut measurement)? {
                last_arrival = Instant::now();
                self.first_delivery.arrived();
            } else if measurement.outstanding > 0 {
                let source = &self.source;
                self.first_delivery.check(sent, || source.local_addr())?;
            }
            if measurement.outstanding > 0 && last_arrival.elapsed() > self.timeout {
                let missing = measurement.outstanding;
                return Err(io::Error::other(format!("{missing} deliveries are missing")));
            }
        }
    }

    /// Appends the next event to `text` and records its recipients.
    fn encode_next(&mut self, measurement: &mut Measurement, at: Duration, text: &mut Vec<u8>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let sent = Sent { sequence, at };
        measurement.latencies.send_duration = at;
        match measurement.schedule.kind {
            MessageKind::Private => {
                let index = self.prng.index(self.clients.len());
                let client = &mut self.clients[index];
                client.awaited.push_back(sent);
                measurement.outstanding += 1;
                write_event(text, sequence, private_message_to(client.user));
            }
            MessageKind::Broadcast => {
                self.clients.iter_mut().for_each(|client| client.awaited.push_back(sent));
                measurement.outstanding += self.clients.len() as u64;
                write_event(text, sequence, Event::Broadcast);
            }
        }
        text.push(b'\n');
    }

    /// Writes what the socket accepts; returns the number of bytes.
    fn send(&mut self, unsent: &mut Vec<u8>) -> io::Result<u64> {
        if unsent.is_empty() {
            return Ok(0);
        }
        match self.source.write(unsent) {
            Ok(count) => {
                unsent.drain(..count);
                Ok(count as u64)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(source_failed(&error.to_string())),
        }
    }

    /// Sleeps until the next event is due or a connection is readable.
    fn wait(&mut self, measurement: &Measurement, encoded: u64) -> io::Result<()> {
        let schedule = &measurement.schedule;
        let elapsed = measurement.start.elapsed();
        let next = (encoded < schedule.events()).then(|| schedule.due(encoded));
        let timeout = match next {
            _ if schedule.busy => Duration::ZERO,
            Some(next) if next <= elapsed => Duration::ZERO,
            // A poll timeout has whole milliseconds, which is too coarse; the timer has
            // nanoseconds.
            Some(next) => {
                self.timer.set(next - elapsed)?;
                MAX_WAIT
            }
            None => MAX_WAIT.min(self.timeout),
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Reads every client that was reported readable; returns whether anything arrived.
    fn read_clients(&mut self, measurement: &mut Measurement) -> io::Result<bool> {
        let mut came = false;
        for event in &self.events {
            if event.token() == SOURCE && event.is_readable() {
                check_source(&mut self.source)?;
            }
            let Some(client) = self.clients.get_mut(event.token().0) else { continue };
            while let Some(count) = read_some(&mut client.stream, &mut self.buffer)? {
                let now = measurement.start.elapsed();
                if count == 0 {
                    let user = client.user;
                    return Err(io::Error::other(format!("user {user} was closed")));
                }
                client.receive(&self.buffer[..count], now, measurement)?;
                came = true;
                // A short read means that the socket is drained; the next edge will report more.
                if count < self.buffer.len() {
                    break;
                }
            }
        }
        Ok(came)
    }

    /// Checks that nothing more arrives, and closes the source. Call it after all deliveries.
    ///
    /// # Errors
    ///
    /// Bytes arrive, or the server closes a connection too early.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(client) = self.clients.iter().find(|client| !client.partial.is_empty()) {
            return Err(extra(client.user, &client.partial));
        }
        let mut clients: Vec<Served<'_>> = self.clients.iter_mut().map(Client::served).collect();
        expect_silence(&mut [&mut self.source], &mut clients)
    }
}

fn private_message_to(user: u64) -> Event {
    Event::Private { from: 1, to: user }
}

impl Client {
    fn served(&mut self) -> Served<'_> {
        Served { user: self.user, stream: &mut self.stream }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        now: Duration,
        measurement: &mut Measurement,
    ) -> io::Result<()> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.partial.is_empty() && part.ends_with(b"\n") {
                self.receive_line(part, now, measurement)?;
                continue;
            }
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.receive_line(&line, now, measurement)?;
            }
        }
        Ok(())
    }

    fn receive_line(
        &mut self,
        line: &[u8],
        now: Duration,
        measurement: &mut Measurement,
    ) -> io::Result<()> {
        let wrong = || {
            let (user, line) = (self.user, line.escape_ascii());
            let hint = if self.has_received { String::new() } else { format!("; {RESET_HINT}") };
            io::Error::other(format!("user {user} got `{line}`, which is unexpected{hint}"))
        };
        let sent = self.awaited.front().copied().ok_or_else(wrong)?;
        if !is_line_of(line, sent.sequence, self.user, measurement.schedule.kind) {
            return Err(wrong());
        }
        self.awaited.pop_front();
        self.has_received = true;
        measurement.record(sent, now);
        Ok(())
    }
}

fn is_line_of(line: &[u8], sequence: u64, user: u64, kind: MessageKind) -> bool {
    let mut expected = Vec::with_capacity(64);
    match kind {
        MessageKind::Private => write_event(&mut expected, sequence, private_message_to(user)),
        MessageKind::Broadcast => {
            write_number(&mut expected, sequence);
            expected.extend_from_slice(b"|B");
        }
    }
    expected.extend_from_slice(b"\r\n");
    line == expected
}

impl Measurement {
    fn start(schedule: Schedule, first_sequence: u64) -> io::Result<Measurement> {
        let latencies =
            Latencies { corrected: histogram()?, raw: histogram()?, send_duration: Duration::ZERO };
        Ok(Measurement {
            schedule,
            first_sequence,
            outstanding: 0,
            latencies,
            start: Instant::now(),
        })
    }

    fn record(&mut self, sent: Sent, now: Duration) {
        let due = self.schedule.due(sent.sequence - self.first_sequence);
        let since = |then: Duration| now.saturating_sub(then).as_nanos() as u64;
        self.latencies.corrected.saturating_record(since(due));
        self.latencies.raw.saturating_record(since(sent.at));
        self.outstanding -= 1;
    }
}

/// Creates an empty histogram of nanoseconds.
pub(crate) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, SIGNIFICANT_DIGITS).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64) -> Schedule {
        Schedule { kind: MessageKind::Private, rate, duration: Duration::from_secs(2), busy: false }
    }

    #[test]
    fn events_are_due_evenly_and_no_more_than_there_are() {
        let schedule = schedule(1000.0);
        assert_eq!(schedule.events(), 2000);
        assert_eq!(schedule.due(1000), Duration::from_secs(1));
        assert_eq!(schedule.due_by(Duration::ZERO), 1);
        assert_eq!(schedule.due_by(Duration::from_micros(1500)), 2);
        assert_eq!(schedule.due_by(Duration::from_secs(9)), 2000);
    }

    #[test]
    fn waiting_to_be_sent_counts_in_the_corrected_latency_only() {
        let mut measurement = Measurement::start(schedule(1000.0), 1).unwrap();
        measurement.outstanding = 2;
        for sequence in [1, 2] {
            let sent = Sent { sequence, at: Duration::from_millis(100) };
            measurement.record(sent, Duration::from_millis(101));
        }
        let Latencies { corrected, raw, .. } = measurement.latencies;
        assert_eq!(raw.max(), raw.highest_equivalent(1_000_000));
        assert_eq!(corrected.max(), corrected.highest_equivalent(101_000_000));
        assert_eq!(corrected.min(), corrected.lowest_equivalent(100_000_000));
    }
}
