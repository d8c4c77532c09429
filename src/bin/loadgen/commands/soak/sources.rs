//! Several sources that share one stream and are replaced from time to time.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::connection::Connecting;
use crate::client::run_end::{check_source, source_failed};
use crate::workload::handshake::Handshake;
use crate::workload::prng::Prng;

/// The connected sources. Their tokens start at `first_token`.
pub(super) struct Sources {
    /// Where the servers listen. The sources are spread over them.
    to: Vec<SocketAddr>,
    first_token: usize,
    all: Vec<Source>,
    /// Sources that were replaced.
    replaced: usize,
    /// Index of the source that sends the next tick.
    next: usize,
}

struct Source {
    stream: TcpStream,
    writable: bool,
    readable: bool,
    /// Lines to send, of which the first `written` bytes have been written.
    text: Vec<u8>,
    written: usize,
    exit: Option<SourceExit>,
}

/// The end of a source, after all its lines have been written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceExit {
    AtLineEnd,
    /// After an unterminated line, which the server must discard.
    MidLine,
}

impl Sources {
    /// Connects `count` sources to the servers in turn. They send ticks in turn.
    ///
    /// # Errors
    ///
    /// A connection fails.
    pub(super) fn connect(
        to: Vec<SocketAddr>,
        count: usize,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Sources> {
        let open =
            |index| Source::connect(to[index % to.len()], registry, Token(first_token + index));
        let all = (0..count).map(open).collect::<io::Result<_>>()?;
        Ok(Sources { to, first_token, all, replaced: 0, next: 0 })
    }

    /// Applies readiness.
    pub(super) fn set_ready(&mut self, event: &Event) {
        if let Some(source) = self.all.get_mut(event.token().0.wrapping_sub(self.first_token)) {
            source.writable |= event.is_writable();
            source.readable |= event.is_readable();
        }
    }

    /// Returns the local address of one of the connections.
    ///
    /// # Errors
    ///
    /// The connection has failed.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.all[0].stream.local_addr()
    }

    /// Returns the current connections.
    pub(super) fn streams(&mut self) -> impl Iterator<Item = &mut TcpStream> {
        self.all.iter_mut().map(|source| &mut source.stream)
    }

    /// Enqueues whole lines at the next source.
    pub(super) fn enqueue(&mut self, lines: &[u8]) {
        self.all[self.next].text.extend_from_slice(lines);
        self.next = (self.next + 1) % self.all.len();
    }

    /// Marks a random source for replacement.
    pub(super) fn replace_one(&mut self, prng: &mut Prng) {
        let index = prng.index(self.all.len());
        let source = &mut self.all[index];
        let exit = [SourceExit::AtLineEnd, SourceExit::MidLine][prng.index(2)];
        source.exit.get_or_insert(exit);
    }

    /// Writes what the sockets accept, and replaces the marked sources. `next_sequence` has not
    /// been sent yet.
    ///
    /// # Errors
    ///
    /// A connection fails, or the server writes to one.
    pub(super) fn write(&mut self, registry: &Registry, next_sequence: u64) -> io::Result<()> {
        for (index, source) in self.all.iter_mut().enumerate() {
            if std::mem::take(&mut source.readable) {
                check_source(&mut source.stream)?;
            }
            source.write().map_err(|error| source_failed(&error.to_string()))?;
            if source.is_done()
                && let Some(exit) = source.exit
            {
                if exit == SourceExit::MidLine {
                    // If it were parsed as a line, the real line with its sequence would be lost.
                    // If the socket does not accept it, the source ends after a line.
                    let _ = source.stream.write(format!("{next_sequence}|B").as_bytes());
                }
                // At another server than its predecessor.
                self.replaced += 1;
                let to = self.to[(index + self.replaced) % self.to.len()];
                let successor = Source::connect(to, registry, Token(self.first_token + index))?;
                let text = std::mem::take(&mut source.text);
                *source = Source { text, ..successor };
            }
        }
        Ok(())
    }
}

impl Source {
    fn connect(to: SocketAddr, registry: &Registry, token: Token) -> io::Result<Source> {
        let mut stream =
            Connecting::open(to, "an event source", &Handshake::default())?.finish()?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Source {
            stream,
            writable: true,
            readable: false,
            text: Vec::new(),
            written: 0,
            exit: None,
        })
    }

    fn is_done(&self) -> bool {
        self.written == self.text.len()
    }

    fn write(&mut self) -> io::Result<()> {
        while self.writable && !self.is_done() {
            match self.stream.write(&self.text[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_done() {
            self.text.clear();
            self.written = 0;
        }
        Ok(())
    }
}
