//! Connections to a server, with their opening handshake.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;

use crate::sys::interrupt::{self, Interrupted};
use crate::workload::handshake::Handshake;

/// Timeout of the reply to a handshake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that has sent its handshake.
pub(crate) struct Connecting {
    stream: TcpStream,
    expected_suffix: &'static [u8],
}

impl Connecting {
    /// Connects and sends the handshake.
    ///
    /// # Errors
    ///
    /// The connection is refused or fails; the error names `who` wanted it.
    pub(crate) fn open(to: SocketAddr, who: &str, handshake: &Handshake) -> io::Result<Connecting> {
        let open = || {
            interrupt::check()?;
            let mut stream = TcpStream::connect_timeout(&to, ANSWER_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.write_all(&handshake.text)?;
            Ok(Connecting { stream, expected_suffix: handshake.expected_suffix })
        };
        open().map_err(|error| connect_error(who, to, error))
    }

    /// Waits for the reply and makes the connection non-blocking. The server sends nothing after
    /// the reply before the source sends.
    ///
    /// # Errors
    ///
    /// The connection is closed, or the reply takes longer than [`ANSWER_TIMEOUT`].
    pub(crate) fn finish(mut self) -> io::Result<mio::net::TcpStream> {
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        self.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        while !answer.ends_with(self.expected_suffix) {
            match self.stream.read(&mut part) {
                Ok(0) => {
                    return Err(no_reply(self.stream.peer_addr(), "closed the connection"));
                }
                Ok(count) => answer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let what = format!("sent nothing for {ANSWER_TIMEOUT:?}");
                    return Err(no_reply(self.stream.peer_addr(), &what));
                }
                Err(error) => return Err(error),
            }
        }
        self.stream.set_nonblocking(true)?;
        Ok(mio::net::TcpStream::from_std(self.stream))
    }
}

/// Error of a server that did `what` instead of replying to a handshake.
fn no_reply(server: io::Result<SocketAddr>, what: &str) -> io::Error {
    let at = server.map(|address| format!(" at {address}")).unwrap_or_default();
    io::Error::other(format!(
        "the server{at} {what} instead of replying: is it another kind of server?"
    ))
}

/// Describes a failed connection, and what to do about it.
pub(crate) fn connect_error(who: &str, to: SocketAddr, error: io::Error) -> io::Error {
    if Interrupted::of(&error).is_some() {
        return error;
    }
    let message = match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => format!(
            "no server at {to}, to which {who} connects: start it (`cargo run --release`) or use --spawn"
        ),
        Some(Errno::MFILE | Errno::NFILE) => format!(
            "{who} to {to}: too few descriptors: raise the limit (`ulimit -n`) or connect fewer clients"
        ),
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{who} to {to}: no local port is free: connect fewer clients, or widen \
             net.ipv4.ip_local_port_range"
        ),
        None if error.kind() == ErrorKind::TimedOut => format!(
            "{who} to {to}: no answer within {ANSWER_TIMEOUT:?}: is the address right, and no firewall \
             between?"
        ),
        _ => format!("{who} to {to}: {error}"),
    };
    io::Error::new(error.kind(), message)
}

/// Reads once. Returns `None` if nothing is available, and 0 at the end of file or after a reset.
///
/// # Errors
///
/// The connection fails other than by a reset.
pub(crate) fn read_some(
    stream: &mut mio::net::TcpStream,
    bytes: &mut [u8],
) -> io::Result<Option<usize>> {
    match stream.read(bytes) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
