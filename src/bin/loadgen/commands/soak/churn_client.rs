//! A client that comes and goes.

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

/// Nobody stays longer than this on its own account.
const MAX_STAY_MS: u64 = 4000;
/// Most that doze do so for a moment: something queues for them. One in some of them dozes on, until
/// its queue is full and all others have to wait, or the server has enough of it; rarely, as
/// latency would be about nothing else.
const MAX_PAUSE_MS: u64 = 500;
const PAUSES_PER_LONG_ONE: u64 = 20;
const MAX_LONG_PAUSE_MS: u64 = 4000;
/// Time for a queue to fill and for the server to wait for it in vain.
const SLEEP: Duration = Duration::from_secs(10);
/// One that dozes has small buffers, so that the server must queue for it: segments of the least
/// usual size, which keep the server's own small, and this for what it has not read.
const SMALL_SEGMENT: u32 = 536;
const SMALL_BUFFER: usize = 4096;

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    /// It reads, and closes.
    Normal,
    /// It reads, and resets its connection.
    Reset,
    /// It does not read for a while; the server may have enough of it.
    SlowReader,
    /// It does not read for so long that the server must have had enough of it.
    StalledReader,
    /// It does not say who it is, and must be closed for that.
    Unidentified,
    /// It says something that is no id, and must be closed for that.
    BadId,
    /// It sends no more, and must be closed for that.
    HalfClose,
}

impl Behavior {
    /// Most stay, some do everything else but sleep.
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

    /// Whether it is registered until it leaves.
    pub(super) fn identifies(self) -> bool {
        matches!(
            self,
            Behavior::Normal | Behavior::Reset | Behavior::SlowReader | Behavior::StalledReader
        )
    }
}

/// One such client, connected.
pub(super) struct ChurnClient {
    pub(super) user: u64,
    behavior: Behavior,
    stream: TcpStream,
    readable: bool,
    checker: StreamChecker,
    /// It does not read before.
    reads_again_at: Instant,
    leaves: Instant,
    /// When the server must have closed it, and why.
    must_be_closed_by: Option<(Instant, &'static str)>,
}

impl ChurnClient {
    /// Connects; a server that must close it has `close_timeout` to do so.
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
            _ => Connecting::open(to, "a visitor", &handshake)?.finish()?,
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
            Behavior::Unidentified => Some("it did not say who it is"),
            Behavior::BadId => Some("its id is none"),
            Behavior::HalfClose => Some("it sends no more"),
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

    /// Something came.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Another one has connected with the same id.
    pub(super) fn on_takeover(&mut self, now: Instant, close_timeout: Duration) {
        // It must read, or it would not see its end.
        self.reads_again_at = now;
        self.must_be_closed_by = Some((now + close_timeout, "another took over from it"));
    }

    /// Reads and checks; returns whether it is gone or may be dropped.
    ///
    /// # Errors
    ///
    /// It got something wrong, was closed for no reason, or was not closed where it should be.
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
                Err(io::Error::other(format!("visiting user {user} was not closed though {why}")))
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
        Err(io::Error::other(format!("visiting user {} was closed", self.user)))
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
