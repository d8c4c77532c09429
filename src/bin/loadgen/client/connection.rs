//! Connections to a server, with their opening handshake.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
            let mut stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.write_all(&handshake.text)?;
            Ok(Connecting { stream, expected_suffix: handshake.expected_suffix })
        };
        let name = |error: io::Error| match Interrupted::of(&error) {
            Some(_) => error,
            None => io::Error::new(error.kind(), format!("{who} to {to}: {error}")),
        };
        open().map_err(name)
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
            match self.stream.read(&mut part)? {
                0 => {
                    return Err(io::Error::other(
                        "the server closed the connection before its reply",
                    ));
                }
                count => answer.extend_from_slice(&part[..count]),
            }
        }
        self.stream.set_nonblocking(true)?;
        Ok(mio::net::TcpStream::from_std(self.stream))
    }
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
