//! Acceptor and streams over the simulated kernel.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use eventserver::hub::{Acceptor, Stream};
use eventserver::protocol::UserId;

use super::kernel::{Call, Kernel, SocketId};
use super::socket::Side;

/// A simulated listening socket.
pub(crate) struct SimulatedAcceptor {
    pub(crate) kernel: Rc<RefCell<Kernel>>,
    pub(crate) side: Side,
}

/// Returns the address of a peer, one of three.
pub(crate) fn address_of(socket: SocketId) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, (socket % 3) as u8)
}

/// A simulated connection.
pub(crate) struct SimulatedStream {
    kernel: Rc<RefCell<Kernel>>,
    socket: SocketId,
}

impl Acceptor for SimulatedAcceptor {
    type Stream = SimulatedStream;

    fn accept(&mut self, token: usize) -> io::Result<(SimulatedStream, SocketAddr)> {
        let socket = self.kernel.borrow_mut().accept(self.side, token)?;
        let peer = SocketAddr::from((address_of(socket), socket as u16));
        Ok((SimulatedStream { kernel: Rc::clone(&self.kernel), socket }, peer))
    }
}

impl Drop for SimulatedAcceptor {
    fn drop(&mut self) {
        self.kernel.borrow_mut().close_listener(self.side);
    }
}

impl Stream for SimulatedStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.kernel.borrow_mut().shut_down(self.socket)
    }

    fn on_registered(&mut self, user: UserId) {
        self.kernel.borrow_mut().calls.push(Call::Registered(self.socket, user.0));
    }

    fn on_gap_told(&mut self, first: u64, last: u64) {
        self.kernel.borrow_mut().calls.push(Call::GapTold(self.socket, first, last));
    }

    fn on_caught_up(&mut self) {
        self.kernel.borrow_mut().calls.push(Call::CaughtUp(self.socket));
    }
}

impl Read for SimulatedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.kernel.borrow_mut().read(self.socket, buffer)
    }
}

impl Write for SimulatedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kernel.borrow_mut().write(self.socket, bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        self.kernel.borrow_mut().close(self.socket);
    }
}
