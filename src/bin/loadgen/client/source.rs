//! The source of a session.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use log::warn;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::connection::Connecting;
use crate::client::run_end::{source_answered, source_failed};
use crate::client::sync::{Answers, SYNC};
use crate::codec::lines_from;
use crate::workload::handshake::Handshake;

/// Maximum bytes written before clients are read again.
const WRITE_BYTES: usize = 1024 * 1024;
/// Time between two attempts to connect again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The handshake of a source that asks for answers. They are read later, while clients are read.
pub(crate) fn sync_handshake() -> Handshake {
    Handshake { text: SYNC.to_vec(), expected_suffix: b"" }
}

/// A connected source.
pub(crate) struct Source {
    stream: TcpStream,
    registry: Registry,
    token: Token,
    pub(crate) writable: bool,
    /// Bytes of the segment that need not be sent any more.
    pub(crate) sent: usize,
    replies: Replies,
    /// Closed by this side; the server may then close it too.
    closed: bool,
    /// Closed by the server.
    pub(crate) ended: bool,
}

/// What the server may write to the source.
enum Replies {
    /// Nothing.
    Forbidden,
    /// Anything.
    Ignored,
    /// Answers, because the source has sent `SYNC`.
    Answers(Box<Synced>),
}

/// The part of a source that speaks `SYNC`. When its connection fails, it connects again and goes on from
/// the awaited sequence.
struct Synced {
    to: SocketAddr,
    answers: Answers,
    /// What is left of the segment after a new connection: its last bytes are unsent.
    resumed: Option<Vec<u8>>,
    link: Link,
    /// Connections that were lost.
    reconnects: u64,
}

/// The state of the connection of a source that speaks `SYNC`.
#[derive(Clone, Copy)]
enum Link {
    Up,
    /// Connected again, and `SYNC` is sent.
    Asking,
    /// Lost, and to be connected again.
    Lost(Instant),
}

impl Source {
    /// A source whose connection has shaken hands.
    pub(crate) fn new(
        stream: TcpStream,
        expects_replies: bool,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Source> {
        let replies = if expects_replies { Replies::Ignored } else { Replies::Forbidden };
        Source::with_replies(stream, replies, registry, token)
    }

    /// A source that has sent `SYNC`, and continues one with these answers.
    pub(crate) fn synced(
        stream: TcpStream,
        answers: Answers,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Source> {
        let to = stream.peer_addr()?;
        let synced = Synced { to, answers, resumed: None, link: Link::Up, reconnects: 0 };
        Source::with_replies(stream, Replies::Answers(Box::new(synced)), registry, token)
    }

    fn with_replies(
        mut stream: TcpStream,
        replies: Replies,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Source> {
        registry.register(&mut stream, token, INTEREST)?;
        Ok(Source {
            stream,
            registry: registry.try_clone()?,
            token,
            writable: true,
            sent: 0,
            replies,
            closed: false,
            ended: false,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Returns what the server has said; `None` if it was not asked.
    pub(crate) fn answers(&mut self) -> Option<&mut Answers> {
        match &mut self.replies {
            Replies::Answers(synced) => Some(&mut synced.answers),
            Replies::Forbidden | Replies::Ignored => None,
        }
    }

    /// Returns the number of connections that were lost.
    pub(crate) fn reconnects(&self) -> u64 {
        match &self.replies {
            Replies::Answers(synced) => synced.reconnects,
            Replies::Forbidden | Replies::Ignored => 0,
        }
    }

    /// Begins a segment.
    pub(crate) fn start(&mut self) {
        self.sent = 0;
        if let Replies::Answers(synced) = &mut self.replies {
            synced.resumed = None;
        }
    }

    /// Writes the unsent bytes of `text`, up to what the socket accepts.
    pub(crate) fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.go_on(text)?;
        let unsent = match &self.replies {
            Replies::Answers(synced) if !matches!(synced.link, Link::Up) => return Ok(0),
            Replies::Answers(synced) => match &synced.resumed {
                Some(lines) => &lines[lines.len() - (text.len() - self.sent)..],
                None => &text[self.sent..],
            },
            Replies::Forbidden | Replies::Ignored => &text[self.sent..],
        };
        let unsent = &unsent[..unsent.len().min(WRITE_BYTES)];
        if unsent.is_empty() || !self.writable {
            return Ok(0);
        }
        match self.stream.write(unsent) {
            Ok(count) => {
                // A short write means that the socket buffer is full; the next edge will report
                // space.
                self.writable = count == unsent.len();
                self.sent += count;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => self.on_failure(&error.to_string()).map(|()| 0),
        }
    }

    /// Reads and checks: an event server writes nothing but answers to a source, and closes it only after
    /// an error.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.closed => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(0) => return self.on_failure("the server closed it"),
                Ok(count) => match &mut self.replies {
                    Replies::Ignored => {}
                    Replies::Answers(synced) => synced.answers.read(&buffer[..count])?,
                    Replies::Forbidden => return Err(source_answered(&buffer[..count])),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.closed => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) => return self.on_failure(&error.to_string()),
            }
        }
    }

    /// Reads the answers that have arrived before the end of a server that was killed.
    pub(crate) fn read_last_answers(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.closed = true;
        self.read(buffer)
    }

    /// Connects again if the connection was lost, and takes the answer that says where to go on.
    fn go_on(&mut self, text: &[u8]) -> io::Result<()> {
        let Replies::Answers(synced) = &mut self.replies else { return Ok(()) };
        match synced.link {
            Link::Up => {}
            Link::Asking => {
                if let Some(awaited) = synced.answers.take_awaited() {
                    let lines = lines_from(text, awaited);
                    self.sent = text.len() - lines.len();
                    synced.resumed = Some(lines);
                    synced.link = Link::Up;
                }
            }
            Link::Lost(since) if since.elapsed() < RETRY_INTERVAL => {}
            Link::Lost(_) => {
                match Connecting::open(synced.to, "the event source", &sync_handshake())
                    .and_then(Connecting::finish)
                {
                    Ok(mut stream) => {
                        self.registry.register(&mut stream, self.token, INTEREST)?;
                        synced.link = Link::Asking;
                        self.stream = stream;
                        self.writable = true;
                    }
                    Err(_) => synced.link = Link::Lost(Instant::now()),
                }
            }
        }
        Ok(())
    }

    /// A source that speaks `SYNC` connects again; for any other it is an error.
    fn on_failure(&mut self, why: &str) -> io::Result<()> {
        let Replies::Answers(synced) = &mut self.replies else { return Err(source_failed(why)) };
        if matches!(synced.link, Link::Lost(_)) {
            return Ok(());
        }
        warn!("the event source's connection: {why}; connecting again");
        synced.answers.on_disconnected();
        synced.reconnects += 1;
        synced.link = Link::Lost(Instant::now());
        Ok(())
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.closed = true;
        self.stream.shutdown(Shutdown::Write)
    }
}
