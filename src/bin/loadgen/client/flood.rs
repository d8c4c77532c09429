//! A saturating source, and the receivers of its events.
//!
//! It advances in small steps, so that a measurement on the same core can poll in between.
//! Computing the expected output of many receivers would be slower than the server, which would
//! then be idle instead of flooded. So only the first receivers are checked byte for byte. The
//! others must stay connected, and must receive the last event last.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::connection::{Connecting, read_some};
use crate::client::first_delivery::FirstDelivery;
use crate::client::persistent_client::PersistentClient;
use crate::client::run_end::{Served, check_source, expect_silence, source_failed};
use crate::oracle::in_flight::InFlight;
use crate::oracle::model::Model;
use crate::sys::descriptors::allow_clients;
use crate::target::server::Addresses;
use crate::workload::generator::EventGenerator;
use crate::workload::handshake::Handshake;
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;

/// Approximate maximum bytes written per step …
const WRITE_BYTES: usize = 16 * 1024;
/// … and maximum bytes read per step from one client: each about a tenth of a millisecond.
const READ_BYTES: usize = 256 * 1024;
/// Number of checked receivers.
pub(crate) const MAX_CHECKED: usize = 8;
/// Maximum length of the last line of a flood.
const LAST_LINE_BYTES: usize = 32;
/// Events are shuffled in batches of up to this size.
const MAX_BATCH: u64 = 100;
/// Every run sends the same stream.
const SEED: u64 = 666;

/// Token of the source; receivers have tokens from 0 on.
const SOURCE: Token = Token(usize::MAX - 1);

/// Events and number of receivers.
#[derive(Clone, Debug)]
pub(crate) struct FloodSpec {
    pub(crate) mix: Mix,
    /// Users have the ids `1..=users`; the first of them are the receivers.
    pub(crate) users: u64,
    pub(crate) receivers: usize,
}

/// A source and its receivers.
pub(crate) struct Flood {
    source: TcpStream,
    source_writable: bool,
    source_readable: bool,
    generator: EventGenerator,
    /// Lines to send, of which the first `written` bytes have been written.
    text: Vec<u8>,
    written: usize,
    model: Model,
    in_flight: InFlight,
    receivers: Vec<Receiver>,
    /// Receivers that may be readable, and whether each is in the list.
    readable: VecDeque<usize>,
    in_ready_list: Vec<bool>,
    buffer: Box<[u8]>,
    /// The last line as clients receive it, once it has been sent.
    last_line: Option<Vec<u8>>,
    last_arrival: Instant,
    first_delivery: FirstDelivery,
    /// Bytes written so far.
    sent: u64,
}

/// A connected receiver.
enum Receiver {
    Checked(PersistentClient),
    Unchecked(Unchecked),
}

/// A receiver that discards what it reads.
struct Unchecked {
    user: u64,
    stream: TcpStream,
    /// The last received bytes, up to [`LAST_LINE_BYTES`].
    tail: Vec<u8>,
}

impl Flood {
    /// Connects the source and the receivers; sends nothing yet. Output for `probe_user` is
    /// expected too; its client is [`Flood::connect_probe`].
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(crate) fn connect(
        to: Addresses,
        spec: &FloodSpec,
        probe_user: u64,
        registry: &Registry,
    ) -> io::Result<Flood> {
        allow_clients(spec.receivers)?;
        let mut source =
            Connecting::open(to.events, "the event source", &Handshake::default())?.finish()?;
        registry.register(&mut source, SOURCE, Interest::READABLE | Interest::WRITABLE)?;
        let checked = spec.receivers.min(MAX_CHECKED);
        let mut receivers = Vec::with_capacity(spec.receivers);
        for index in 0..spec.receivers {
            let (user, registration) = (index as u64 + 1, (registry, Token(index)));
            receivers.push(if index < checked {
                Receiver::Checked(PersistentClient::connect(to.clients, user, index, registration)?)
            } else {
                Receiver::Unchecked(Unchecked::connect(to, user, registration)?)
            });
        }
        let known: Vec<u64> = (1..=checked as u64).chain([probe_user]).collect();
        Ok(Flood {
            source,
            source_writable: true,
            source_readable: false,
            generator: EventGenerator::new(
                spec.mix.clone(),
                spec.users,
                MAX_BATCH,
                Prng::from_seed(SEED),
            ),
            text: Vec::new(),
            written: 0,
            model: Model::new(&known),
            in_flight: InFlight::for_clients(known.len()),
            readable: VecDeque::new(),
            in_ready_list: vec![false; receivers.len()],
            receivers,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            last_line: None,
            last_arrival: Instant::now(),
            first_delivery: FirstDelivery::new(to.events),
            sent: 0,
        })
    }

    /// Connects the client of `probe_user`, which is not one of the receivers.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(crate) fn connect_probe(
        &self,
        to: Addresses,
        probe_user: u64,
        registration: (&Registry, Token),
    ) -> io::Result<PersistentClient> {
        PersistentClient::connect(
            to.clients,
            probe_user,
            self.receivers.len().min(MAX_CHECKED),
            registration,
        )
    }

    /// Returns the expected output that has not arrived at all checked clients.
    pub(crate) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    /// Returns the sequence of the next event to be generated.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.generator.next_sequence()
    }

    /// Applies readiness; returns whether the token belongs to the flood.
    pub(crate) fn set_ready(&mut self, event: &Event) -> bool {
        if event.token() == SOURCE {
            self.source_writable |= event.is_writable();
            self.source_readable |= event.is_readable();
            return true;
        }
        let index = event.token().0;
        let Some(in_ready_list) = self.in_ready_list.get_mut(index) else { return false };
        if !std::mem::replace(in_ready_list, true) {
            self.readable.push_back(index);
        }
        true
    }

    /// Returns whether a step can make progress.
    pub(crate) fn has_work(&self) -> bool {
        let may_write = self.source_writable && !(self.last_line.is_some() && self.is_written());
        may_write || !self.readable.is_empty()
    }

    /// Writes once to the source and reads once from a receiver.
    ///
    /// # Errors
    ///
    /// A connection fails or ends, unexpected bytes arrive, or nothing arrives at all.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.source_readable) {
            check_source(&mut self.source)?;
        }
        self.write()?;
        self.read()?;
        // A flood has broadcasts from the beginning.
        if self.sent == 0 {
            return Ok(());
        }
        let source = &self.source;
        self.first_delivery.check(self.sent, || source.local_addr())
    }

    /// Appends the last event, a broadcast.
    pub(crate) fn end(&mut self) {
        let mut part = self.in_flight.new_part(Instant::now());
        let mut line = self.generator.write_broadcast(&mut self.text);
        part.deliveries.push_to_all(&line);
        self.in_flight.push(part);
        line.extend_from_slice(b"\r\n");
        self.last_line = Some(line);
        self.last_arrival = Instant::now();
    }

    /// Returns whether the last event has arrived at all receivers.
    pub(crate) fn has_arrived(&mut self) -> bool {
        self.in_flight.is_empty() && self.missing().is_none()
    }

    /// Returns the time when bytes last arrived at a receiver.
    pub(crate) fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// Returns an error for a receiver that still waits, if any.
    pub(crate) fn missing(&mut self) -> Option<io::Error> {
        let last_line = self.last_line.as_deref().unwrap_or_default();
        let in_flight = &mut self.in_flight;
        self.receivers.iter_mut().find_map(|receiver| match receiver {
            Receiver::Checked(client) => client.missing(in_flight),
            Receiver::Unchecked(client) => client.missing(last_line),
        })
    }

    /// Checks that nothing more arrives, and closes the source. Call it after the last event has
    /// arrived.
    ///
    /// # Errors
    ///
    /// Bytes arrive, or the server closes a connection too early.
    pub(crate) fn finish(&mut self, probe: &mut PersistentClient) -> io::Result<()> {
        let mut clients: Vec<Served<'_>> =
            self.receivers.iter_mut().map(Receiver::served).collect();
        clients.push(probe.served());
        expect_silence(&mut [&mut self.source], &mut clients)
    }

    fn is_written(&self) -> bool {
        self.written == self.text.len()
    }

    fn write(&mut self) -> io::Result<()> {
        if self.is_written() && self.last_line.is_none() {
            self.prepare();
        }
        if !self.source_writable || self.is_written() {
            return Ok(());
        }
        let unwritten = &self.text[self.written..];
        match self.source.write(unwritten) {
            Ok(count) => {
                self.source_writable = count == unwritten.len();
                self.written += count;
                self.sent += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.source_writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(source_failed(&error.to_string())),
        }
        Ok(())
    }

    /// Refills the text with the next events.
    fn prepare(&mut self) {
        self.text.clear();
        self.written = 0;
        let mut part = self.in_flight.new_part(Instant::now());
        while self.text.len() < WRITE_BYTES {
            let (model, deliveries) = (&mut self.model, &mut part.deliveries);
            self.generator.write_batch(MAX_BATCH, &mut self.text, |event, line| {
                model.apply(event, line, deliveries);
            });
        }
        self.in_flight.push(part);
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(index) = self.readable.pop_front() else { return Ok(()) };
        let buffer = &mut self.buffer;
        let may_have_more = match &mut self.receivers[index] {
            Receiver::Checked(client) => client.read(buffer, &mut self.in_flight, &mut |_| {})?,
            Receiver::Unchecked(client) => client.read(buffer)?,
        };
        self.in_ready_list[index] = may_have_more;
        if may_have_more {
            self.last_arrival = Instant::now();
            self.first_delivery.arrived();
            self.readable.push_back(index);
        }
        Ok(())
    }
}

impl Receiver {
    fn served(&mut self) -> Served<'_> {
        match self {
            Receiver::Checked(client) => client.served(),
            Receiver::Unchecked(Unchecked { user, stream, .. }) => Served { user: *user, stream },
        }
    }
}

impl Unchecked {
    fn connect(
        to: Addresses,
        user: u64,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Unchecked> {
        let mut stream =
            Connecting::open(to.clients, "a client", &Handshake::of_user(user))?.finish()?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Unchecked { user, stream, tail: Vec::new() })
    }

    /// Reads once; returns whether more may be available.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(count) = read_some(&mut self.stream, buffer)? else { return Ok(false) };
        if count == 0 {
            return Err(io::Error::other(format!("user {} was closed", self.user)));
        }
        self.tail.extend_from_slice(&buffer[count.saturating_sub(LAST_LINE_BYTES)..count]);
        self.tail.drain(..self.tail.len().saturating_sub(LAST_LINE_BYTES));
        Ok(true)
    }

    fn missing(&self, last_line: &[u8]) -> Option<io::Error> {
        (!self.tail.ends_with(last_line)).then(|| {
            let (user, line) = (self.user, last_line.escape_ascii());
            io::Error::other(format!("user {user} has not received `{line}`, the last event"))
        })
    }
}
