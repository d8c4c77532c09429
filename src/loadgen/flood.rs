//! A source that sends as fast as the server takes it, and a crowd that reads what comes of it and
//! throws it away.
//!
//! It moves by small steps, so that whoever measures on the same core can look around in between.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::connect::{Addresses, Greeted, Greeting};
use super::mix::Mix;
use super::random::Random;
use super::stream::EventStream;

/// A step writes no more than this, and some …
const WRITE_BYTES: usize = 64 * 1024;
/// … and reads no more than this, of one client: each about a tenth of a millisecond.
const READ_BYTES: usize = 256 * 1024;
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
    stream: EventStream,
    /// Lines, of which the first `written` bytes are on their way.
    text: Vec<u8>,
    written: usize,
    crowd: Vec<TcpStream>,
    /// Those of the crowd that may have something to read, and who stands there.
    readable: VecDeque<usize>,
    listed: Vec<bool>,
    buffer: Box<[u8]>,
}

impl Flood {
    /// Connects the source and the crowd; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(crate) fn connect(to: Addresses, load: &Load, registry: &Registry) -> io::Result<Flood> {
        let mut source =
            Greeted::open(to.events, "the event source", &Greeting::default())?.ready()?;
        registry.register(&mut source, SOURCE, Interest::WRITABLE)?;
        let mut crowd = Vec::with_capacity(load.crowd);
        for place in 0..load.crowd {
            let id = Greeting::of_user(place as u64 + 1);
            let mut client = Greeted::open(to.clients, "a client", &id)?.ready()?;
            registry.register(&mut client, Token(place), Interest::READABLE)?;
            crowd.push(client);
        }
        let random = Random::from_seed(SEED);
        Ok(Flood {
            source,
            source_writable: true,
            stream: EventStream::new(load.mix.clone(), load.users, LARGEST_BATCH, random),
            text: Vec::new(),
            written: 0,
            readable: VecDeque::new(),
            listed: vec![false; crowd.len()],
            crowd,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// The sequence of the first event that has not been thought of.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.stream.next_sequence()
    }

    /// Takes readiness that is the flood's; returns whether it is.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        if event.token() == SOURCE {
            self.source_writable = true;
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
        self.source_writable || !self.readable.is_empty()
    }

    /// Writes one piece and reads one piece.
    ///
    /// # Errors
    ///
    /// A connection fails or ends.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        self.write()?;
        self.read()
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.source_writable {
            return Ok(());
        }
        if self.written == self.text.len() {
            self.text.clear();
            self.written = 0;
            while self.text.len() < WRITE_BYTES {
                self.stream.write_batch(LARGEST_BATCH, &mut self.text, |_, _| {});
            }
        }
        let rest = &self.text[self.written..];
        match self.source.write(rest) {
            Ok(count) => {
                self.source_writable = count == rest.len();
                self.written += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.source_writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let message = format!("the event source's connection: {error}");
                return Err(io::Error::new(error.kind(), message));
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(place) = self.readable.pop_front() else { return Ok(()) };
        let may_have_more = match self.crowd[place].read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other(format!("user {} was closed", place + 1))),
            Ok(count) => count == self.buffer.len(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => return Err(error),
        };
        self.listed[place] = may_have_more;
        if may_have_more {
            self.readable.push_back(place);
        }
        Ok(())
    }
}
