//! A source that speaks `SYNC` and moves between servers that share a stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use log::debug;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::RETRY_INTERVAL;
use crate::client::connection::Connecting;
use crate::client::source::sync_handshake;
use crate::client::sync::Answers;
use crate::codec::{Line, lines_from};
use crate::run::FIRST_SEQUENCE;
use crate::workload::prng::Prng;

/// Maximum bytes written before clients are read again.
const WRITE_BYTES: usize = 256 * 1024;
/// Time that a server has to answer `SYNC` before the source turns to the next one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The source. It keeps a chunk of the stream until that is committed, and goes on at each server from the
/// sequence that it awaits.
pub(super) struct MovingSource {
    servers: Vec<SocketAddr>,
    registry: Registry,
    token: Token,
    /// Index of the server that it is connected to, or will be.
    at: usize,
    link: Link,
    writable: bool,
    /// What this server has said.
    answers: Answers,
    /// Lines for this server, of which the first `written` bytes are written.
    lines: Vec<u8>,
    written: usize,
    /// The sequence after the last one in the complete lines of earlier connections.
    sent_before: u64,
    /// The sequence after the last one that any server has said to be committed.
    committed_before: u64,
    /// The sequence after the last one of the chunk.
    end: u64,
    pub(super) moves: u64,
    /// Connections that were lost, or failed.
    pub(super) losses: u64,
}

enum Link {
    /// Not connected, to be connected at this time.
    Down(Instant),
    /// Has sent `SYNC` at this time, and waits for the answer.
    Asking(TcpStream, Instant),
    Up(TcpStream),
}

impl MovingSource {
    /// A source that connects to the first server.
    pub(super) fn new(
        servers: Vec<SocketAddr>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<MovingSource> {
        Ok(MovingSource {
            servers,
            registry: registry.try_clone()?,
            token,
            at: 0,
            link: Link::Down(Instant::now()),
            writable: false,
            answers: Answers::default(),
            lines: Vec::new(),
            written: 0,
            sent_before: 0,
            committed_before: 0,
            end: 0,
            moves: 0,
            losses: 0,
        })
    }

    /// Adds lines to what is to be sent: a chunk, or the end of a longer one. `end` is the sequence after the
    /// last one.
    pub(super) fn extend(&mut self, lines: &[u8], end: u64) {
        self.end = end;
        self.answers.set_sent_before(end);
        if self.is_drained() {
            self.sent_before = self.sent_before();
            self.lines.clear();
            self.written = 0;
        }
        if matches!(self.link, Link::Up(_)) {
            self.lines.extend_from_slice(lines);
        }
    }

    fn is_drained(&self) -> bool {
        self.written == self.lines.len()
    }

    /// Returns whether it can write, or has to connect.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.link, Link::Up(_)) && self.writable && !self.is_drained()
    }

    /// Returns the sequence after the last one that any server has said to be committed.
    pub(super) fn committed_before(&self) -> u64 {
        self.committed_before
    }

    /// Returns whether a server has said that the whole chunk is committed.
    pub(super) fn is_committed(&self) -> bool {
        self.committed_before >= self.end
    }

    /// Returns the sequence after the last one that is written.
    pub(super) fn sent_before(&self) -> u64 {
        self.sent_before.max(next_sequence(&self.lines[..self.written]))
    }

    /// Connects where that is due, and writes what the socket accepts of `wire`, the lines of the chunk with
    /// these sequences. Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// A server awaits a sequence that was never sent.
    pub(super) fn step(&mut self, wire: &[u8], chunk: &Range<u64>) -> io::Result<usize> {
        match &mut self.link {
            Link::Down(until) if Instant::now() < *until => Ok(0),
            Link::Down(_) => self.connect().map(|()| 0),
            Link::Asking(_, since) => {
                let is_late = since.elapsed() > ANSWER_TIMEOUT;
                match self.answers.take_awaited() {
                    Some(awaited) => self.on_awaited(awaited, wire, chunk)?,
                    None if is_late => self.on_lost("no answer to SYNC"),
                    None => {}
                }
                Ok(0)
            }
            Link::Up(_) => self.write(),
        }
    }

    /// Goes on from the sequence that the server awaits.
    fn on_awaited(&mut self, awaited: u64, wire: &[u8], chunk: &Range<u64>) -> io::Result<()> {
        let (at, sent_before) = (self.servers[self.at], self.sent_before());
        if awaited > sent_before.max(FIRST_SEQUENCE) {
            let why = match sent_before {
                0 => format!("the stream of this run begins at {FIRST_SEQUENCE}: use a new stream"),
                _ => format!("only those before {sent_before} were sent"),
            };
            return Err(io::Error::other(format!(
                "the server at {at} awaits sequence {awaited}, but {why}"
            )));
        }
        // It has to catch up. Further than its window behind the stream nothing could be taken.
        if awaited < chunk.start {
            debug!("the server at {at} awaits {awaited} and has to catch up with {}", chunk.start);
            self.leave_for((self.at + 1) % self.servers.len());
            return Ok(());
        }
        self.lines = lines_from(wire, awaited);
        self.written = 0;
        if awaited == chunk.end {
            self.committed_before = self.committed_before.max(awaited);
        }
        let link = std::mem::replace(&mut self.link, Link::Down(Instant::now()));
        if let Link::Asking(stream, _) = link {
            self.link = Link::Up(stream);
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<usize> {
        let Link::Up(stream) = &mut self.link else { return Ok(0) };
        let unsent = &self.lines[self.written..];
        let unsent = &unsent[..unsent.len().min(WRITE_BYTES)];
        if unsent.is_empty() || !self.writable {
            return Ok(0);
        }
        let result = stream.write(unsent);
        self.writable = result.as_ref().is_ok_and(|&count| count == unsent.len());
        self.written += result.as_ref().copied().unwrap_or(0);
        self.on_result(result)
    }

    /// Applies readiness.
    ///
    /// # Errors
    ///
    /// The server has sent something else than answers, or they contradict each other.
    pub(super) fn on_ready(&mut self, is_writable: bool, buffer: &mut [u8]) -> io::Result<()> {
        self.writable |= is_writable;
        loop {
            let (Link::Asking(stream, _) | Link::Up(stream)) = &mut self.link else {
                return Ok(());
            };
            match stream.read(buffer) {
                Ok(0) => {
                    self.on_lost("was closed");
                    return Ok(());
                }
                Ok(count) => {
                    let named = |error| {
                        io::Error::other(format!(
                            "the server at {}: {error}",
                            self.servers[self.at]
                        ))
                    };
                    self.answers.read(&buffer[..count]).map_err(named)?;
                    let committed = self.answers.committed().map_or(0, |last| last + 1);
                    self.committed_before = self.committed_before.max(committed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                result => self.on_result(result).map(drop)?,
            }
        }
    }

    /// Leaves the server, whatever is on the way, and goes to another one.
    pub(super) fn move_on(&mut self, prng: &mut Prng) {
        let next = (self.at + 1 + prng.index(self.servers.len() - 1)) % self.servers.len();
        debug!("the source moves from {} to {}", self.servers[self.at], self.servers[next]);
        self.moves += 1;
        self.leave_for(next);
        self.link = Link::Down(Instant::now());
    }

    fn connect(&mut self) -> io::Result<()> {
        let to = self.servers[self.at];
        match Connecting::open(to, "the event source", &sync_handshake())
            .and_then(Connecting::finish)
        {
            Ok(mut stream) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.registry.register(&mut stream, self.token, interest)?;
                self.answers = Answers::default();
                self.answers.set_sent_before(self.end);
                self.writable = true;
                self.link = Link::Asking(stream, Instant::now());
            }
            Err(error) => self.on_lost(&error.to_string()),
        }
        Ok(())
    }

    fn on_result(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(count) => Ok(count),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(0)
            }
            Err(error) => {
                self.on_lost(&error.to_string());
                Ok(0)
            }
        }
    }

    fn on_lost(&mut self, why: &str) {
        debug!("the source at {}: {why}", self.servers[self.at]);
        self.losses += 1;
        self.leave_for((self.at + 1) % self.servers.len());
    }

    fn leave_for(&mut self, next: usize) {
        self.sent_before = self.sent_before();
        self.lines.clear();
        self.written = 0;
        self.at = next;
        self.link = Link::Down(Instant::now() + RETRY_INTERVAL);
    }
}

/// Returns the sequence after the last one of the complete lines; 0 if there is none.
fn next_sequence(lines: &[u8]) -> u64 {
    let complete =
        lines.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let sequences = complete.filter_map(|line| Line::read(&line[..line.len() - 1]).sequence());
    sequences.max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_sent() {
        assert_eq!(next_sequence(b""), 0);
        assert_eq!(next_sequence(b"7|B\n5|B\n12|S|1"), 8);
        assert_eq!(next_sequence(b"7|B\n5|B\n12|S|1\n"), 13);
    }
}
