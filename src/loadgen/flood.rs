//! A source that sends as fast as the server takes it, and a crowd that reads what comes of it.
//!
//! It moves by small steps, so that the caller can measure on the same core in between. Computing the
//! expected bytes of every client of a large crowd takes longer than the server needs to send them:
//! the server would wait instead of being flooded. So the first clients of the crowd are checked byte
//! for byte. The others must stay connected and receive the last event last.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::connect::{Addresses, Greeted, Greeting, read_some};
use super::in_flight::InFlight;
use super::mix::Mix;
use super::model::Model;
use super::process::allow_clients;
use super::random::Random;
use super::silence::{Served, check_source, expect_silence, source_failed};
use super::steady::Steady;
use super::stream::EventStream;

/// A step writes no more than this, and some …
const WRITE_BYTES: usize = 16 * 1024;
/// … and reads no more than this, of one client: each about a tenth of a millisecond.
const READ_BYTES: usize = 256 * 1024;
/// Clients of the crowd that are checked.
pub(crate) const MAX_CHECKED: usize = 8;
/// No last line of a flood is longer.
const LAST_LINE_BYTES: usize = 32;
/// Events are shuffled in batches of up to this many.
const LARGEST_BATCH: u64 = 100;
/// The stream is the same in every run.
const SEED: u64 = 666;

/// The source's token; the crowd has those from 0 on.
const SOURCE: Token = Token(usize::MAX - 1);

/// What is sent, and to how many.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) mix: Mix,
    /// Users have the ids `1..=users`; the first of them are the crowd.
    pub(crate) users: u64,
    pub(crate) crowd: usize,
}

/// The source and its crowd.
pub(crate) struct Flood {
    source: TcpStream,
    source_writable: bool,
    source_readable: bool,
    stream: EventStream,
    /// Lines, of which the first `written` bytes are on their way.
    text: Vec<u8>,
    written: usize,
    model: Model,
    in_flight: InFlight,
    crowd: Vec<Receiver>,
    /// Those of the crowd that may have something to read, and who stands there.
    readable: VecDeque<usize>,
    listed: Vec<bool>,
    buffer: Box<[u8]>,
    /// The last line, as clients receive it, once there is one.
    last_line: Option<Vec<u8>>,
    last_arrival: Instant,
}

/// A client of the crowd.
enum Receiver {
    Checked(Steady),
    Unchecked(Unchecked),
}

/// A client that reads and discards.
struct Unchecked {
    user: u64,
    stream: TcpStream,
    /// The last bytes that it received, as many as the last line may have.
    tail: Vec<u8>,
}

impl Flood {
    /// Connects the source and the crowd; nothing is sent yet. The deliveries of the user `witness`
    /// are tracked too; [`Flood::connect_witness`] connects its client.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(crate) fn connect(
        to: Addresses,
        load: &Load,
        witness: u64,
        registry: &Registry,
    ) -> io::Result<Flood> {
        allow_clients(load.crowd)?;
        let mut source =
            Greeted::open(to.events, "the event source", &Greeting::default())?.ready()?;
        registry.register(&mut source, SOURCE, Interest::READABLE | Interest::WRITABLE)?;
        let checked = load.crowd.min(MAX_CHECKED);
        let mut crowd = Vec::with_capacity(load.crowd);
        for place in 0..load.crowd {
            let (user, registration) = (place as u64 + 1, (registry, Token(place)));
            crowd.push(if place < checked {
                Receiver::Checked(Steady::connect(to.clients, user, place, registration)?)
            } else {
                Receiver::Unchecked(Unchecked::connect(to, user, registration)?)
            });
        }
        let known: Vec<u64> = (1..=checked as u64).chain([witness]).collect();
        Ok(Flood {
            source,
            source_writable: true,
            source_readable: false,
            stream: EventStream::new(
                load.mix.clone(),
                load.users,
                LARGEST_BATCH,
                Random::from_seed(SEED),
            ),
            text: Vec::new(),
            written: 0,
            model: Model::new(&known),
            in_flight: InFlight::for_clients(known.len()),
            readable: VecDeque::new(),
            listed: vec![false; crowd.len()],
            crowd,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            last_line: None,
            last_arrival: Instant::now(),
        })
    }

    /// Connects the client of `witness`, which is not part of the crowd.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(crate) fn connect_witness(
        &self,
        to: Addresses,
        witness: u64,
        registration: (&Registry, Token),
    ) -> io::Result<Steady> {
        Steady::connect(to.clients, witness, self.crowd.len().min(MAX_CHECKED), registration)
    }

    /// Returns the events that have not arrived at every checked client.
    pub(crate) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    /// The sequence of the first event that has not been thought of.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.stream.next_sequence()
    }

    /// Takes readiness that is the flood's; returns whether it is.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        if event.token() == SOURCE {
            self.source_writable |= event.is_writable();
            self.source_readable |= event.is_readable();
            return true;
        }
        let place = event.token().0;
        let Some(listed) = self.listed.get_mut(place) else { return false };
        if !std::mem::replace(listed, true) {
            self.readable.push_back(place);
        }
        true
    }

    /// Whether a step would do something.
    pub(crate) fn has_work(&self) -> bool {
        let may_write = self.source_writable && !(self.last_line.is_some() && self.is_written());
        may_write || !self.readable.is_empty()
    }

    /// Writes one piece and reads one piece.
    ///
    /// # Errors
    ///
    /// A connection fails or ends, or something comes that is not due.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.source_readable) {
            check_source(&mut self.source)?;
        }
        self.write()?;
        self.read()
    }

    /// Adds a last event, a broadcast, to what is on its way.
    pub(crate) fn end(&mut self) {
        let mut part = self.in_flight.new_part(Instant::now());
        let mut line = self.stream.write_broadcast(&mut self.text);
        part.deliveries.add_for_all(&line);
        self.in_flight.push(part);
        line.extend_from_slice(b"\r\n");
        self.last_line = Some(line);
        self.last_arrival = Instant::now();
    }

    /// Returns whether the last event has arrived at every client.
    pub(crate) fn has_arrived(&mut self) -> bool {
        self.in_flight.is_empty() && self.missing().is_none()
    }

    /// When something last arrived at the crowd.
    pub(crate) fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// Returns an error that names what a client of the crowd has not received, if there is one.
    pub(crate) fn missing(&mut self) -> Option<io::Error> {
        let last_line = self.last_line.as_deref().unwrap_or_default();
        let in_flight = &mut self.in_flight;
        self.crowd.iter_mut().find_map(|receiver| match receiver {
            Receiver::Checked(client) => client.missing(in_flight),
            Receiver::Unchecked(client) => client.missing(last_line),
        })
    }

    /// Sees to it that nothing more comes, and closes the source. To be called when the last event has
    /// arrived.
    ///
    /// # Errors
    ///
    /// Something comes, or the server closes a connection too early.
    pub(crate) fn finish(&mut self, witness: &mut Steady) -> io::Result<()> {
        let mut clients: Vec<Served<'_>> = self.crowd.iter_mut().map(Receiver::served).collect();
        clients.push(witness.served());
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
        let rest = &self.text[self.written..];
        match self.source.write(rest) {
            Ok(count) => {
                self.source_writable = count == rest.len();
                self.written += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.source_writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(source_failed(&error.to_string())),
        }
        Ok(())
    }

    /// Fills the text with the next events.
    fn prepare(&mut self) {
        self.text.clear();
        self.written = 0;
        let mut part = self.in_flight.new_part(Instant::now());
        while self.text.len() < WRITE_BYTES {
            let (model, deliveries) = (&mut self.model, &mut part.deliveries);
            self.stream.write_batch(LARGEST_BATCH, &mut self.text, |event, line| {
                model.apply(event, line, deliveries);
            });
        }
        self.in_flight.push(part);
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(place) = self.readable.pop_front() else { return Ok(()) };
        let buffer = &mut self.buffer;
        let may_have_more = match &mut self.crowd[place] {
            Receiver::Checked(client) => client.read(buffer, &mut self.in_flight, &mut |_| {})?,
            Receiver::Unchecked(client) => client.read(buffer)?,
        };
        self.listed[place] = may_have_more;
        if may_have_more {
            self.last_arrival = Instant::now();
            self.readable.push_back(place);
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
            Greeted::open(to.clients, "a client", &Greeting::of_user(user))?.ready()?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Unchecked { user, stream, tail: Vec::new() })
    }

    /// Reads once; returns whether there may be more to read.
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
