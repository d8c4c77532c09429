//! A client that comes and goes.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::stream_check::{Hearing, Sent};
use crate::client::connection::{Connecting, read_some};
use crate::workload::handshake::Handshake;
use crate::workload::prng::Prng;

/// Nobody stays longer than this on its own account.
const LONGEST_STAY_MS: u64 = 4000;
/// Most that doze do so for a moment: something queues for them. One in some of them dozes on, until
/// its queue is full and all others have to wait, or the server has enough of it; rarely, as
/// latency would be about nothing else.
const LONGEST_DOZE_MS: u64 = 500;
const DOZES_A_LONG_ONE: u64 = 20;
const LONGEST_LONG_DOZE_MS: u64 = 4000;
/// Time for a queue to fill and for the server to wait for it in vain.
const SLEEP: Duration = Duration::from_secs(10);
/// One that dozes has small buffers, so that the server must queue for it: segments of the least
/// usual size, which keep the server's own small, and this for what it has not read.
const SMALL_SEGMENT: u32 = 536;
const SMALL_BUFFER: usize = 4096;

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    /// It reads, and closes.
    Stay,
    /// It reads, and resets its connection.
    Reset,
    /// It does not read for a while; the server may have enough of it.
    Doze,
    /// It does not read for so long that the server must have had enough of it.
    Sleep,
    /// It does not say who it is, and must be closed for that.
    Silent,
    /// It says something that is no id, and must be closed for that.
    BadId,
    /// It sends no more, and must be closed for that.
    HalfClose,
}

impl Conduct {
    /// Most stay, some do everything else but sleep.
    pub(super) fn choose(prng: &mut Prng) -> Conduct {
        match prng.below(20) {
            0..10 => Conduct::Stay,
            10..13 => Conduct::Reset,
            13..16 => Conduct::Doze,
            16..18 => Conduct::Silent,
            18 => Conduct::BadId,
            _ => Conduct::HalfClose,
        }
    }

    /// Whether it is registered until it leaves.
    pub(super) fn identifies(self) -> bool {
        matches!(self, Conduct::Stay | Conduct::Reset | Conduct::Doze | Conduct::Sleep)
    }
}

/// One such client, connected.
pub(super) struct Visitor {
    pub(super) user: u64,
    conduct: Conduct,
    stream: TcpStream,
    readable: bool,
    hearing: Hearing,
    /// It does not read before.
    reads_from: Instant,
    leaves: Instant,
    /// When the server must have closed it, and why.
    must_end: Option<(Instant, &'static str)>,
}

impl Visitor {
    /// Connects; a server that must close it has `patience` to do so.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect(
        to: SocketAddr,
        user: u64,
        conduct: Conduct,
        prng: &mut Prng,
        patience: Duration,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Visitor> {
        let handshake = match conduct {
            Conduct::Silent => Handshake::default(),
            Conduct::BadId => {
                Handshake { text: format!("user {user}\n").into(), expected_suffix: b"" }
            }
            _ => Handshake::of_user(user),
        };
        let mut stream = match conduct {
            Conduct::Doze | Conduct::Sleep => connect_small(to, &handshake)?,
            _ => Connecting::open(to, "a visitor", &handshake)?.finish()?,
        };
        if conduct == Conduct::HalfClose {
            stream.shutdown(Shutdown::Write)?;
        }
        registry.register(&mut stream, token, Interest::READABLE)?;
        let now = Instant::now();
        let must_end = match conduct {
            Conduct::Stay | Conduct::Reset | Conduct::Doze | Conduct::Sleep => None,
            Conduct::Silent => Some("it did not say who it is"),
            Conduct::BadId => Some("its id is none"),
            Conduct::HalfClose => Some("it sends no more"),
        };
        let reads_from = match conduct {
            Conduct::Doze => now + doze(prng),
            Conduct::Sleep => now + SLEEP,
            _ => now,
        };
        let is_anonymous = matches!(conduct, Conduct::Silent | Conduct::BadId);
        Ok(Visitor {
            user,
            conduct,
            stream,
            readable: false,
            hearing: Hearing::of((!is_anonymous).then_some(user)),
            reads_from,
            leaves: reads_from + Duration::from_millis(prng.below(LONGEST_STAY_MS)),
            must_end: must_end.map(|why| (now + patience, why)),
        })
    }

    /// Something came.
    pub(super) fn note(&mut self) {
        self.readable = true;
    }

    /// Another one has connected with the same id.
    pub(super) fn is_taken_over(&mut self, now: Instant, patience: Duration) {
        // It must read, or it would not see its end.
        self.reads_from = now;
        self.must_end = Some((now + patience, "another took over from it"));
    }

    /// Reads and checks; returns whether it is gone or may be dropped.
    ///
    /// # Errors
    ///
    /// It got something wrong, was closed for no reason, or was not closed where it should be.
    pub(super) fn look(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        sent: Sent<'_>,
    ) -> io::Result<bool> {
        while self.readable && now >= self.reads_from {
            match read_some(&mut self.stream, buffer)? {
                None => self.readable = false,
                Some(0) => return self.ended(),
                Some(count) => {
                    self.hearing.take(&buffer[..count], sent).map_err(io::Error::other)?;
                }
            }
        }
        match self.must_end {
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
        if self.must_end.is_some() || matches!(self.conduct, Conduct::Doze | Conduct::Sleep) {
            return Ok(true);
        }
        Err(io::Error::other(format!("visiting user {} was closed", self.user)))
    }

    fn leave(&self) -> io::Result<()> {
        match self.conduct {
            Conduct::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)),
            _ => Ok(()),
        }
    }
}

fn doze(prng: &mut Prng) -> Duration {
    let longest = match prng.below(DOZES_A_LONG_ONE) {
        0 => LONGEST_LONG_DOZE_MS,
        _ => LONGEST_DOZE_MS,
    };
    Duration::from_millis(prng.below(longest))
}

fn connect_small(to: SocketAddr, handshake: &Handshake) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.set_tcp_mss(SMALL_SEGMENT)?;
    socket.connect(&to.into())?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(&handshake.text)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}
