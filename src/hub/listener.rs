//! A listening socket with readiness and accept back-off.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::hub::transport::Acceptor;

/// The pause after an accept error such as a lack of descriptors or memory.
pub(super) const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// An acceptor, whether connections may be pending on it, and its back-off.
#[derive(Debug)]
pub(crate) struct Listener<A> {
    /// `None` once the listener is closed.
    acceptor: Option<A>,
    readable: bool,
    backoff_until: Option<Instant>,
}

impl<A: Acceptor> Listener<A> {
    pub(crate) fn new(acceptor: A) -> Listener<A> {
        Listener { acceptor: Some(acceptor), readable: true, backoff_until: None }
    }

    /// Returns the listening socket, until it is closed.
    pub(super) fn acceptor_mut(&mut self) -> Option<&mut A> {
        self.acceptor.as_mut()
    }

    /// Records that connections may be pending.
    pub(crate) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Returns whether [`accept`](Self::accept) may return a connection: the listener is open, a
    /// connection may be pending, and no back-off is running.
    pub(crate) fn is_ready(&self) -> bool {
        self.acceptor.is_some() && self.readable && self.backoff_until.is_none()
    }

    /// Returns the end of the back-off, if one is running.
    pub(crate) fn backoff_until(&self) -> Option<Instant> {
        self.backoff_until
    }

    /// Closes the listening socket. No connection is accepted any more.
    pub(super) fn close(&mut self) {
        self.acceptor = None;
        self.backoff_until = None;
    }

    /// Returns whether the listener was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.acceptor.is_none()
    }

    /// Accepts the next pending connection, if any. Skips errors that concern only that connection;
    /// any other error starts the back-off.
    pub(crate) fn accept(
        &mut self,
        token: usize,
        now: Instant,
    ) -> io::Result<Option<(A::Stream, SocketAddr)>> {
        self.backoff_until = self.backoff_until.filter(|&until| now < until);
        while self.is_ready()
            && let Some(acceptor) = &mut self.acceptor
        {
            match acceptor.accept(token) {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::InvalidInput
                    | ErrorKind::NotConnected
                    | ErrorKind::PermissionDenied => {}
                    _ => {
                        self.backoff_until = Some(now + ACCEPT_BACKOFF);
                        return Err(error);
                    }
                },
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::hub::test_stream::TestStream;

    /// An acceptor with planned results; `WouldBlock` after the last one.
    struct Plan(VecDeque<Result<(), ErrorKind>>);

    impl Acceptor for Plan {
        type Stream = TestStream;

        fn accept(&mut self, _: usize) -> io::Result<(TestStream, SocketAddr)> {
            let result = self.0.pop_front().unwrap_or(Err(ErrorKind::WouldBlock));
            result?;
            Ok((TestStream::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
        }
    }

    fn listener<const N: usize>(plan: [Result<(), ErrorKind>; N]) -> Listener<Plan> {
        Listener::new(Plan(plan.into()))
    }

    #[test]
    fn errors_of_one_connection_are_skipped() {
        let now = Instant::now();
        let mut listener = listener([Err(ErrorKind::ConnectionAborted), Ok(())]);
        assert!(listener.accept(0, now).unwrap().is_some());
        assert!(listener.accept(0, now).unwrap().is_none() && !listener.is_ready());
        listener.set_readable();
        assert!(listener.is_ready());
    }

    #[test]
    fn any_other_error_starts_a_back_off() {
        let now = Instant::now();
        let mut listener = listener([Err(ErrorKind::OutOfMemory), Ok(())]);
        assert!(listener.accept(0, now).is_err() && !listener.is_ready());
        assert_eq!(listener.backoff_until(), Some(now + ACCEPT_BACKOFF));
        assert!(listener.accept(0, now).unwrap().is_none(), "the back-off is running");
        assert!(listener.accept(0, now + ACCEPT_BACKOFF).unwrap().is_some());
        assert_eq!(listener.backoff_until(), None);
    }

    #[test]
    fn a_closed_listener_accepts_nothing_and_awaits_no_deadline() {
        let now = Instant::now();
        let mut listener = listener([Err(ErrorKind::OutOfMemory), Ok(())]);
        assert!(listener.accept(0, now).is_err());
        listener.close();
        listener.set_readable();
        assert!(listener.is_closed() && !listener.is_ready());
        assert_eq!(listener.backoff_until(), None);
        assert!(listener.accept(0, now + ACCEPT_BACKOFF).unwrap().is_none());
    }
}
