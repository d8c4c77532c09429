//! Connections in memory: input is available at once, output is counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use eventserver::hub::{self, Acceptor};

/// What a peer does after it has sent everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterSend {
    Stay,
    Leave,
}

/// A connection whose peer has sent everything, and accepts all output.
pub(crate) struct Stream {
    sent: Rc<[u8]>,
    read: usize,
    after_send: AfterSend,
    written: Rc<Cell<u64>>,
}

/// A backlog of peers that wait to be accepted.
#[derive(Clone, Default)]
pub(crate) struct InMemoryAcceptor {
    waiting: Rc<RefCell<VecDeque<Stream>>>,
    /// Bytes written to all its connections.
    written: Rc<Cell<u64>>,
    /// The token of the connection accepted last.
    last_token: Rc<Cell<usize>>,
}

impl InMemoryAcceptor {
    /// Connects a peer.
    pub(crate) fn connect(&self, sent: Rc<[u8]>, after_send: AfterSend) {
        let stream = Stream { sent, read: 0, after_send, written: Rc::clone(&self.written) };
        self.waiting.borrow_mut().push_back(stream);
    }

    /// Returns the token of the connection accepted last.
    pub(crate) fn last_token(&self) -> usize {
        self.last_token.get()
    }

    /// Takes the number of bytes written since the last call.
    pub(crate) fn take_written(&self) -> u64 {
        self.written.take()
    }
}

impl Acceptor for InMemoryAcceptor {
    type Stream = Stream;

    fn accept(&mut self, token: usize) -> io::Result<(Stream, SocketAddr)> {
        let stream = self.waiting.borrow_mut().pop_front().ok_or(ErrorKind::WouldBlock)?;
        self.last_token.set(token);
        Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (&self.sent[self.read..]).read(buffer)?;
        self.read += bytes;
        if bytes == 0 && self.after_send == AfterSend::Stay {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.update(|written| written + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        self.written.update(|written| written + bytes as u64);
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl hub::Stream for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}
