//! A client that connects and disconnects during a soak.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream_check::{SentSoFar, StreamChecker};
use crate::client::connection::{Connecting, read_some};
use crate::workload::handshake::Handshake;
use crate::workload::prng::Prng;

/// Maximum time that a client stays on its own account.
const MAX_STAY_MS: u64 = 4000;
/// Most slow readers pause briefly, so that some bytes are queued. One in twenty pauses until its
/// queue is full and back-pressure or a disconnect sets in; more often would dominate the latency
/// figures.
const MAX_PAUSE_MS: u64 = 500;
const PAUSES_PER_LONG_ONE: u64 = 20;
const MAX_LONG_PAUSE_MS: u64 = 4000;
/// Pause of a stalled reader: long enough for its queue to fill and for the stall timeout to
/// expire.
const SLEEP: Duration = Duration::from_secs(10);
/// Slow readers have small buffers, so that the server must queue: the minimum segment size, which
/// keeps the server's send buffer small, and a small receive buffer.
const SMALL_SEGMENT: u32 = 536;
const SMALL_BUFFER: usize = 4096;

/// Behavior of a churn client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    /// It reads, and closes.
    Normal,
    /// It reads, and resets its connection.
    Reset,
    /// It pauses reading; the server may close it.
    SlowReader,
    /// It pauses reading for so long that the server must close it.
    StalledReader,
    /// It sends no id, and must be closed.
    Unidentified,
    /// It sends an invalid id, and must be closed.
    BadId,
    /// It shuts down its sending side, and must be closed.
    HalfClose,
}

impl Behavior {
    /// Chooses at random: half are normal; none is a stalled reader.
    pub(super) fn choose(prng: &mut Prng) -> Behavior {
        match prng.below(20) {
            0..10 => Behavior::Normal,
            10..13 => Behavior::Reset,
            13..16 => Behavior::SlowReader,
            16..18 => Behavior::Unidentified,
            18 => Behavior::BadId,
            _ => Behavior::HalfClose,
        }
    }

    /// Returns whether it stays registered until it disconnects.
    pub(super) fn identifies(self) -> bool {
        matches!(
            self,
            Behavior::Normal | Behavior::Reset | Behavior::SlowReader | Behavior::StalledReader
        )
    }
}

/// A connected churn client.
pub(super) struct ChurnClient {
    pub(super) user: u64,
    behavior: Behavior,
    stream: TcpStream,
    readable: bool,
    checker: StreamChecker,
    /// It does not read before this time.
    reads_again_at: Instant,
    leaves: Instant,
    /// Deadline for the server to close it, and the reason.
    must_be_closed_by: Option<(Instant, &'static str)>,
}

impl ChurnClient {
    /// Connects. A server that must close it has `close_timeout` to do so.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect(
        to: SocketAddr,
        user: u64,
        behavior: Behavior,
        prng: &mut Prng,
        close_timeout: Duration,
        (registry, token): (&Registry, Token),
    ) -> io::Result<ChurnClient> {
        let handshake = match behavior {
            Behavior::Unidentified => Handshake::default(),
            Behavior::BadId => {
                Handshake { text: format!("user {user}\n").into(), expected_suffix: b"" }
            }
            _ => Handshake::of_user(user),
        };
        let mut stream = match behavior {
            Behavior::SlowReader | Behavior::StalledReader => {
                connect_with_small_buffers(to, &handshake)?
            }
            _ => Connecting::open(to, "a churn client", &handshake)?.finish()?,
        };
        if behavior == Behavior::HalfClose {
            stream.shutdown(Shutdown::Write)?;
        }
        registry.register(&mut stream, token, Interest::READABLE)?;
        let now = Instant::now();
        let must_be_closed_by = match behavior {
            Behavior::Normal | Behavior::Reset | Behavior::SlowReader | Behavior::StalledReader => {
                None
            }
            Behavior::Unidentified => Some("it sent no id"),
            Behavior::BadId => Some("its id is invalid"),
            Behavior::HalfClose => Some("it shut down its sending side"),
        };
        let reads_again_at = match behavior {
            Behavior::SlowReader => now + pause_duration(prng),
            Behavior::StalledReader => now + SLEEP,
            _ => now,
        };
        let is_anonymous = matches!(behavior, Behavior::Unidentified | Behavior::BadId);
        Ok(ChurnClient {
            user,
            behavior,
            stream,
            readable: false,
            checker: StreamChecker::of((!is_anonymous).then_some(user)),
            reads_again_at,
            leaves: reads_again_at + Duration::from_millis(prng.below(MAX_STAY_MS)),
            must_be_closed_by: must_be_closed_by.map(|why| (now + close_timeout, why)),
        })
    }

    /// Marks it as readable.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Handles a takeover by another client with the same id.
    pub(super) fn on_takeover(&mut self, now: Instant, close_timeout: Duration) {
        // It must read to see the end of file.
        self.reads_again_at = now;
        self.must_be_closed_by = Some((now + close_timeout, "another client took over its id"));
    }

    /// Reads and checks; returns whether it is done.
    ///
    /// # Errors
    ///
    /// It received something wrong, was closed without a reason, or was not closed in time.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        sent: SentSoFar<'_>,
    ) -> io::Result<bool> {
        while self.readable && now >= self.reads_again_at {
            match read_some(&mut self.stream, buffer)? {
                None => self.readable = false,
                Some(0) => return self.ended(),
                Some(count) => {
                    self.checker.check(&buffer[..count], sent).map_err(io::Error::other)?;
                }
            }
        }
        match self.must_be_closed_by {
            Some((deadline, why)) if now > deadline => {
                let user = self.user;
                Err(io::Error::other(format!(
                    "the churn client of user {user} was not closed though {why}"
                )))
            }
            Some(_) => Ok(false),
            None if now >= self.leaves => self.leave().map(|()| true),
            None => Ok(false),
        }
    }

    fn ended(&self) -> io::Result<bool> {
        if self.must_be_closed_by.is_some()
            || matches!(self.behavior, Behavior::SlowReader | Behavior::StalledReader)
        {
            return Ok(true);
        }
        Err(io::Error::other(format!("the churn client of user {} was closed", self.user)))
    }

    fn leave(&self) -> io::Result<()> {
        match self.behavior {
            Behavior::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)),
            _ => Ok(()),
        }
    }
}

fn pause_duration(prng: &mut Prng) -> Duration {
    let max = match prng.below(PAUSES_PER_LONG_ONE) {
        0 => MAX_LONG_PAUSE_MS,
        _ => MAX_PAUSE_MS,
    };
    Duration::from_millis(prng.below(max))
}

fn connect_with_small_buffers(to: SocketAddr, handshake: &Handshake) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.set_tcp_mss(SMALL_SEGMENT)?;
    socket.connect(&to.into())?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(&handshake.text)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}
