//! How long a delivery takes at a given rate.
//!
//! The loop is open: events leave on a schedule that nothing slows down but a bound on the memory of
//! what is outstanding, and each delivery is timed from the moment when its event was *due*. A
//! server, or this program, that falls behind is charged for the whole time that the messages
//! waited; timing from the moment of sending would leave that out (Gil Tene's coordinated omission,
//! as in wrk2). The latter is kept beside it as the raw figure.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use super::connect::{Addresses, Greeted, Greeting, read_some};
use super::event::{Event, write_event, write_number};
use super::interrupt::{self, LONGEST_WAIT};
use super::process::allow_clients;
use super::random::Random;
use super::silence::{Served, check_source, expect_silence, extra, source_failed};
use super::timer::Timer;

/// Latencies above this are recorded as this, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Significant digits of a recorded latency.
const DIGITS: u8 = 3;
/// Of one client or of the source's schedule, at a time.
const READ_BYTES: usize = 64 * 1024;
/// Events formatted at once when the schedule is behind, so that clients are read in between.
const MOST_EVENTS_A_TURN: u64 = 1024;
/// Deliveries that may be outstanding, and bytes that may wait to be sent, before another event is
/// formatted: where a server cannot keep up, memory stays bounded, and the events that are late
/// meanwhile are charged for it from when they were due.
const MAX_OUTSTANDING: u64 = 1 << 24;
const MAX_UNSENT: usize = 256 * 1024;

const SOURCE: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);

/// Who receives an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A private message to one client at random.
    Private,
    /// Every client.
    Broadcast,
}

/// What is sent, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) kind: Kind,
    /// Events a second, evenly spaced; above 0.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Spin instead of sleeping until the next event is due.
    pub(crate) busy: bool,
}

impl Schedule {
    fn events(&self) -> u64 {
        ((self.rate * self.duration.as_secs_f64()) as u64).max(1)
    }

    /// When event `index` is due, from the start.
    fn due(&self, index: u64) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// How many events are due when so much time has passed.
    fn due_by(&self, elapsed: Duration) -> u64 {
        ((elapsed.as_secs_f64() * self.rate) as u64 + 1).min(self.events())
    }
}

/// The latencies of one measurement, in nanoseconds.
pub(crate) struct Latencies {
    /// From the moment when the event was due.
    pub(crate) corrected: Histogram<u64>,
    /// From the moment when the event was sent, or when the kernel first had no room for it.
    pub(crate) raw: Histogram<u64>,
    /// The time in which the events were sent, above the schedule's where it could not be kept.
    pub(crate) sending: Duration,
}

/// A source and clients that measure.
pub(crate) struct Probe {
    poll: Poll,
    events: Events,
    timer: Timer,
    source: TcpStream,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    random: Random,
    next_sequence: u64,
    timeout: Duration,
}

struct Client {
    stream: TcpStream,
    user: u64,
    /// Events sent to this client that have not arrived.
    awaited: VecDeque<Sent>,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

/// An event on its way.
#[derive(Clone, Copy)]
struct Sent {
    sequence: u64,
    /// From the start.
    at: Duration,
}

/// The measurement under way.
struct Measurement {
    schedule: Schedule,
    start: Instant,
    first_sequence: u64,
    outstanding: u64,
    latencies: Latencies,
}

impl Probe {
    /// Connects the source, then clients for the users 1 to `clients`.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(crate) fn connect(
        to: Addresses,
        clients: usize,
        timeout: Duration,
        seed: u64,
    ) -> io::Result<Probe> {
        allow_clients(clients)?;
        let poll = Poll::new()?;
        let registry = poll.registry();
        let timer = Timer::new(registry, TIMER)?;
        let mut source =
            Greeted::open(to.events, "the event source", &Greeting::default())?.ready()?;
        registry.register(&mut source, SOURCE, Interest::READABLE | Interest::WRITABLE)?;
        let mut connected = Vec::with_capacity(clients);
        for place in 0..clients {
            let user = place as u64 + 1;
            let id = Greeting::of_user(user);
            let mut stream = Greeted::open(to.clients, "a client", &id)?.ready()?;
            registry.register(&mut stream, Token(place), Interest::READABLE)?;
            let (awaited, partial) = (VecDeque::new(), Vec::new());
            connected.push(Client { stream, user, awaited, partial });
        }
        Ok(Probe {
            poll,
            events: Events::with_capacity(1024),
            timer,
            source,
            clients: connected,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            random: Random::from_seed(seed),
            next_sequence: 1,
            timeout,
        })
    }

    /// Sends what `schedule` says and waits until everything has arrived. Where a signal comes, it
    /// returns what has.
    ///
    /// # Errors
    ///
    /// A connection fails, a client receives another line than it should, or nothing has arrived
    /// for the timeout.
    pub(crate) fn measure(&mut self, schedule: Schedule) -> io::Result<Latencies> {
        let events = schedule.events();
        let mut measurement = Measurement::start(schedule, self.next_sequence)?;
        let mut unsent = Vec::new();
        let mut formatted = 0;
        let mut last_arrival = measurement.start;
        loop {
            let elapsed = measurement.start.elapsed();
            let due = schedule.due_by(elapsed).min(formatted + MOST_EVENTS_A_TURN);
            while formatted < due
                && measurement.outstanding < MAX_OUTSTANDING
                && unsent.len() < MAX_UNSENT
            {
                self.format_next(&mut measurement, elapsed, &mut unsent);
                formatted += 1;
            }
            self.send(&mut unsent)?;
            let is_done = formatted == events && unsent.is_empty() && measurement.outstanding == 0;
            if is_done || interrupt::has_come() {
                return Ok(measurement.latencies);
            }
            self.wait(&measurement, formatted)?;
            if self.read_clients(&mut measurement)? {
                last_arrival = Instant::now();
            } else if measurement.outstanding > 0 && last_arrival.elapsed() > self.timeout {
                let missing = measurement.outstanding;
                return Err(io::Error::other(format!("{missing} deliveries never came")));
            }
        }
    }

    /// Appends the next event to `text` and notes who must receive it.
    fn format_next(&mut self, measurement: &mut Measurement, at: Duration, text: &mut Vec<u8>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let sent = Sent { sequence, at };
        measurement.latencies.sending = at;
        match measurement.schedule.kind {
            Kind::Private => {
                let place = self.random.index(self.clients.len());
                let client = &mut self.clients[place];
                client.awaited.push_back(sent);
                measurement.outstanding += 1;
                write_event(text, sequence, private_to(client.user));
            }
            Kind::Broadcast => {
                self.clients.iter_mut().for_each(|client| client.awaited.push_back(sent));
                measurement.outstanding += self.clients.len() as u64;
                write_event(text, sequence, Event::Broadcast);
            }
        }
        text.push(b'\n');
    }

    fn send(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        if unsent.is_empty() {
            return Ok(());
        }
        match self.source.write(unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(source_failed(&error.to_string())),
        }
        Ok(())
    }

    /// Sleeps until the next event is due or something can be read.
    fn wait(&mut self, measurement: &Measurement, formatted: u64) -> io::Result<()> {
        let schedule = &measurement.schedule;
        let elapsed = measurement.start.elapsed();
        let next = (formatted < schedule.events()).then(|| schedule.due(formatted));
        let patience = match next {
            _ if schedule.busy => Duration::ZERO,
            Some(next) if next <= elapsed => Duration::ZERO,
            // mio's timeout has whole milliseconds, which is an age; the timer has nanoseconds.
            Some(next) => {
                self.timer.set(next - elapsed)?;
                LONGEST_WAIT
            }
            None => LONGEST_WAIT.min(self.timeout),
        };
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Reads every client that the last wait named; returns whether anything came.
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
                // Less than asked for means that the kernel has no more: the next edge will tell.
                if count < self.buffer.len() {
                    break;
                }
            }
        }
        Ok(came)
    }

    /// Sees to it that nothing more comes, and closes the source. To be called when all has arrived.
    ///
    /// # Errors
    ///
    /// Something comes, or the server closes a connection too early.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(client) = self.clients.iter().find(|client| !client.partial.is_empty()) {
            return Err(extra(client.user, &client.partial));
        }
        let mut clients: Vec<Served<'_>> = self.clients.iter_mut().map(Client::served).collect();
        expect_silence(&mut [&mut self.source], &mut clients)
    }
}

fn private_to(user: u64) -> Event {
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
            io::Error::other(format!("user {user} got `{line}`, which was not due"))
        };
        let sent = self.awaited.front().copied().ok_or_else(wrong)?;
        if !is_line_of(line, sent.sequence, self.user, measurement.schedule.kind) {
            return Err(wrong());
        }
        self.awaited.pop_front();
        measurement.record(sent, now);
        Ok(())
    }
}

fn is_line_of(line: &[u8], sequence: u64, user: u64, kind: Kind) -> bool {
    let mut expected = Vec::with_capacity(64);
    match kind {
        Kind::Private => write_event(&mut expected, sequence, private_to(user)),
        Kind::Broadcast => {
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
            Latencies { corrected: histogram()?, raw: histogram()?, sending: Duration::ZERO };
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

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64) -> Schedule {
        Schedule { kind: Kind::Private, rate, duration: Duration::from_secs(2), busy: false }
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
