//! Clients that all come back at once during the flood.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::connection::{Connecting, read_some};
use crate::target::server::Addresses;
use crate::workload::handshake::Handshake;

/// Bytes per read: about a tenth of a millisecond.
const READ_BYTES: usize = 256 * 1024;
/// IDs per step. A thousand at once would be a pause of this program of more than the bound of the waits.
const IDS_PER_STEP: usize = 4;
/// The last bytes of a client that are kept: more than two lines.
const TAIL_BYTES: usize = 160;

/// What became of the clients.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CrowdOutcome {
    pub(super) clients: usize,
    /// Clients that have got what they had missed, so that they get what is sent now.
    pub(super) caught_up: usize,
    /// Clients that were told a gap first.
    pub(super) gaps: usize,
    /// Until the last of them had caught up.
    pub(super) time: Duration,
}

/// Connected clients, which send their IDs one right after the other.
pub(super) struct Crowd {
    clients: Vec<Returning>,
    /// The clients that are about to send their IDs.
    coming_back: Range<usize>,
    first_token: usize,
    readable: VecDeque<usize>,
    buffer: Box<[u8]>,
    /// When the first ID was sent.
    since: Option<Instant>,
    /// The clients have everything up to this sequence.
    after: u64,
    /// A client that has got this sequence or a later one has caught up.
    target: u64,
    outcome: CrowdOutcome,
}

struct Returning {
    stream: TcpStream,
    user: u64,
    /// The first bytes, up to the end of the first line.
    head: Vec<u8>,
    tail: Vec<u8>,
    has_caught_up: bool,
    is_listed: bool,
}

impl Crowd {
    /// Connects `count` users from `first_user` on, which send nothing yet.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(super) fn connect(
        to: Addresses,
        count: usize,
        first_user: u64,
        (registry, first_token): (&Registry, usize),
    ) -> io::Result<Crowd> {
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let connecting =
                Connecting::open(to.clients, "a client that comes back", &Handshake::default())?;
            let mut stream = connecting.finish()?;
            registry.register(&mut stream, Token(first_token + index), Interest::READABLE)?;
            clients.push(Returning {
                stream,
                user: first_user + index as u64,
                head: Vec::new(),
                tail: Vec::new(),
                has_caught_up: false,
                is_listed: false,
            });
        }
        Ok(Crowd {
            outcome: CrowdOutcome { clients: count, ..CrowdOutcome::default() },
            clients,
            coming_back: 0..0,
            first_token,
            readable: VecDeque::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            since: None,
            after: 0,
            target: 0,
        })
    }

    /// Lets all clients send their IDs in the next steps: they have everything up to `after`, and `next` is the
    /// next sequence to be sent.
    pub(super) fn come_back(&mut self, after: u64, next: u64) {
        (self.after, self.target) = (after, next);
        self.since = Some(Instant::now());
        self.coming_back = 0..self.clients.len();
    }

    /// Applies readiness; returns whether the token belongs to a client.
    pub(super) fn set_ready(&mut self, event: &Event) -> bool {
        let Some(index) = event.token().0.checked_sub(self.first_token) else { return false };
        let Some(client) = self.clients.get_mut(index) else { return false };
        if !std::mem::replace(&mut client.is_listed, true) {
            self.readable.push_back(index);
        }
        true
    }

    /// Returns whether a client may have something to read, or is about to send its ID.
    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty() || !self.coming_back.is_empty()
    }

    /// Sends a few IDs, and reads once from one client.
    ///
    /// # Errors
    ///
    /// A client was closed, or got something else than later events or a gap first.
    pub(super) fn step(&mut self) -> io::Result<()> {
        for index in self.coming_back.by_ref().take(IDS_PER_STEP) {
            let client = &mut self.clients[index];
            let handshake = Handshake::of_returning_user(client.user, self.after);
            client.stream.write_all(&handshake.text)?;
        }
        let Some(index) = self.readable.pop_front() else { return Ok(()) };
        let client = &mut self.clients[index];
        let Some(count) = read_some(&mut client.stream, &mut self.buffer)? else {
            client.is_listed = false;
            return Ok(());
        };
        if count == 0 {
            return Err(io::Error::other(format!(
                "user {}, who came back, was closed",
                client.user
            )));
        }
        self.readable.push_back(index);
        self.outcome.gaps += usize::from(client.check_head(&self.buffer[..count], self.after)?);
        if !client.has_caught_up && client.last_sequence(&self.buffer[..count]) >= Some(self.target)
        {
            client.has_caught_up = true;
            self.outcome.caught_up += 1;
            self.outcome.time = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        }
        Ok(())
    }

    /// Returns what became of the clients so far.
    pub(super) fn outcome(&self) -> CrowdOutcome {
        self.outcome
    }
}

impl Returning {
    /// Checks the first line of a client that has everything up to `after`. Returns whether it is a gap, once.
    fn check_head(&mut self, received: &[u8], after: u64) -> io::Result<bool> {
        if self.head.ends_with(b"\n") {
            return Ok(false);
        }
        let line = received.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        self.head.extend_from_slice(line);
        if !self.head.ends_with(b"\n") {
            return Ok(false);
        }
        let gap = self.head.strip_prefix(b"gap ");
        let first =
            gap.map_or_else(|| number_before(&self.head, b'|'), |gap| number_before(gap, b' '));
        let is_due = match gap {
            Some(_) => first == Some(after + 1),
            None => first > Some(after),
        };
        match is_due {
            true => Ok(gap.is_some()),
            false => Err(io::Error::other(format!(
                "user {}, who came back with everything up to {after}, got `{}` first",
                self.user,
                self.head.escape_ascii()
            ))),
        }
    }

    /// Returns the sequence of the last complete line.
    fn last_sequence(&mut self, received: &[u8]) -> Option<u64> {
        self.tail.extend_from_slice(&received[received.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        let end = self.tail.iter().rposition(|&byte| byte == b'\n')?;
        let start = self.tail[..end].iter().rposition(|&byte| byte == b'\n')? + 1;
        number_before(&self.tail[start..end], b'|')
    }
}

fn number_before(line: &[u8], separator: u8) -> Option<u64> {
    let end = line.iter().position(|&byte| byte == separator)?;
    str::from_utf8(&line[..end]).ok()?.parse().ok()
}
