use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::source::is_close;
use super::{DEADLINE, Server};

/// The approximate number of bytes that the kernel buffers for a client with a small window.
const SMALL_WINDOW: usize = 4096;

/// A user client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects without sending an ID.
    #[track_caller]
    pub(crate) fn connect_unidentified(server: &Server) -> Client {
        Client::from(TcpStream::connect(server.client_address).unwrap())
    }

    /// Connects a user.
    #[track_caller]
    pub(crate) fn connect(server: &Server, user: impl Display) -> Client {
        let mut client = Client::connect_unidentified(server);
        client.sends(format!("{user}\n"));
        client
    }

    /// Connects a user for whom the kernel buffers little while it does not read.
    #[track_caller]
    pub(crate) fn connect_slow(server: &Server, user: impl Display) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(SMALL_WINDOW).unwrap();
        socket.connect(&server.client_address.into()).unwrap();
        let mut client = Client::from(TcpStream::from(socket));
        client.sends(format!("{user}\n"));
        client
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    #[track_caller]
    pub(crate) fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
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

    /// Asserts that these lines come next.
    #[track_caller]
    pub(crate) fn receives(&mut self, lines: &[&str]) {
        let expected: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        let mut received = vec![0; expected.len()];
        let mut count = 0;
        while count < received.len() {
            match self.stream.read(&mut received[count..]) {
                Ok(0) => panic!("the server closed after {}", text(&received[..count])),
                Ok(bytes) => count += bytes,
                Err(error) => panic!("{error} after {}", text(&received[..count])),
            }
        }
        assert_eq!(text(&received), text(expected.as_bytes()));
    }

    /// Asserts that exactly these bytes come next; for large amounts.
    #[track_caller]
    pub(crate) fn receives_bytes(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        self.stream.read_exact(&mut received).unwrap();
        if let Some(place) = (0..expected.len()).find(|&at| received[at] != expected[at]) {
            let around = place.saturating_sub(60)..(place + 60).min(expected.len());
            panic!(
                "byte {place}: {} instead of {}",
                text(&received[around.clone()]),
                text(&expected[around])
            );
        }
    }

    /// Returns what comes next, nothing at the end.
    #[track_caller]
    pub(crate) fn receives_some(&mut self) -> Vec<u8> {
        let mut piece = vec![0; 4096];
        let bytes = self.stream.read(&mut piece).unwrap();
        piece.truncate(bytes);
        piece
    }

    /// Returns everything up to this line and its terminator.
    #[track_caller]
    pub(crate) fn receives_up_to(&mut self, last: &[u8]) -> Vec<u8> {
        let end = [last, b"\r\n"].concat();
        let mut received = Vec::new();
        while !received.ends_with(&end) {
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("the server closed after {} bytes", received.len()),
                Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
                Err(error) => panic!("{error} after {} bytes", received.len()),
            }
        }
        received
    }

    /// Reads this many bytes and drops them.
    #[track_caller]
    pub(crate) fn skips(&mut self, bytes: usize) {
        self.stream.read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// Reads one byte; `None` at the end.
    #[track_caller]
    pub(crate) fn receives_a_byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => (count > 0).then_some(byte[0]),
            Err(error) => {
                assert!(is_close(error.kind()), "{error}");
                None
            }
        }
    }

    /// Returns everything until the server closes.
    #[track_caller]
    pub(crate) fn receives_until_closed(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut received) {
            assert!(is_close(error.kind()), "{error} after {} bytes", received.len());
        }
        received
    }

    /// Asserts that the server closes the connection in order, and sends nothing before.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received).unwrap();
        assert_eq!(text(&received), "");
    }

    /// Asserts that the server closes or resets the connection, and sends nothing before.
    #[track_caller]
    pub(crate) fn is_cut_off(&mut self) {
        assert_eq!(text(&self.receives_until_closed()), "");
    }

    /// Shuts down the sending side, but still reads.
    pub(crate) fn half_closes(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection, and waits until the server's kernel knows: this close waits for the acknowledgement. On a
    /// busy machine the end is on its way for a while, even to the same host.
    pub(crate) fn ends(self) {
        SockRef::from(&self.stream).set_linger(Some(DEADLINE)).unwrap();
    }

    /// Ends the connection with a reset.
    pub(crate) fn resets(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends the connection, and waits until the server has closed it.
    #[track_caller]
    pub(crate) fn leaves(self, server: &Server) {
        let address = self.address();
        drop(self);
        server.logs(&[&format!(" at {address} closed: closed_by_peer")]);
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client { stream }
    }
}

/// The connection as the standard input of another process.
impl From<Client> for Stdio {
    fn from(client: Client) -> Stdio {
        OwnedFd::from(client.stream).into()
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
