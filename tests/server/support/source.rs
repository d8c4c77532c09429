use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::{DEADLINE, Server};

/// An event source.
#[derive(Debug)]
pub(crate) struct Source {
    stream: TcpStream,
}

impl Source {
    #[track_caller]
    pub(crate) fn connect(server: &Server) -> Source {
        let stream = TcpStream::connect(server.event_address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Source { stream }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Returns the connection again, to read from it.
    pub(crate) fn try_clone(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Asserts that the server has sent nothing.
    #[track_caller]
    pub(crate) fn receives_nothing(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        let received = self.stream.read(&mut [0; 100]);
        self.stream.set_nonblocking(false).unwrap();
        assert_eq!(received.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    }

    /// Sends bytes unchanged.
    #[track_caller]
    pub(crate) fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends each of these with a terminator, in one write.
    #[track_caller]
    pub(crate) fn sends_lines(&mut self, lines: &[&str]) {
        self.sends(lines.join("\n") + "\n");
    }

    /// Sends bytes in pieces of these sizes, repeated in turn.
    #[track_caller]
    pub(crate) fn sends_in_pieces(&mut self, mut bytes: &[u8], sizes: &[usize]) {
        for &size in sizes.iter().cycle() {
            if bytes.is_empty() {
                return;
            }
            let (piece, rest) = bytes.split_at(size.min(bytes.len()));
            self.sends(piece);
            bytes = rest;
        }
    }

    /// Sends bytes until the server closes. Returns whether all were sent.
    #[track_caller]
    pub(crate) fn sends_unless_closed(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) => {
                assert!(is_close(error.kind()), "{error}");
                false
            }
        }
    }

    /// Sends bytes on another thread, which may block.
    pub(crate) fn sends_in_background(mut self, bytes: Vec<u8>) -> JoinHandle<Source> {
        thread::spawn(move || {
            self.sends(bytes);
            self
        })
    }

    /// Asserts that the server closes the connection, and sends nothing before.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => panic!("a source received something"),
            Err(error) => assert!(is_close(error.kind()), "{error}"),
        }
    }

    /// Ends the connection, and waits until the server has closed it.
    #[track_caller]
    pub(crate) fn leaves(self, server: &Server) {
        let address = self.address();
        drop(self);
        server.logs(&[&format!("source {address} closed: closed_by_peer")]);
    }

    /// Ends the connection with a reset.
    pub(crate) fn resets(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Shuts down the sending side, but keeps the connection.
    pub(crate) fn ends(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// The connection as the standard output of another process.
impl From<Source> for Stdio {
    fn from(source: Source) -> Stdio {
        OwnedFd::from(source.stream).into()
    }
}

/// Returns whether an error can be caused by a peer's close.
pub(crate) fn is_close(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
