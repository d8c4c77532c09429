//! The outbound half of one client.

use std::num::NonZero;

use super::backpressure::Stall;
use super::send_queue::SendQueue;

/// The send queue of a client, the writability of its socket, and its registration for events.
#[derive(Debug)]
pub(crate) struct ClientOutput {
    pub(super) queue: SendQueue,
    /// The socket has not returned `WouldBlock` since it was last reported writable.
    pub(super) writable: bool,
    pub(super) registration: Option<Registered>,
    pub(super) stall: Option<Box<Stall>>,
    /// The index in the list of clients with queued bytes, or [`NOT_LISTED`].
    pub(super) backlog_index: u32,
}

/// The index of a client that is not in the list.
pub(super) const NOT_LISTED: u32 = u32::MAX;

/// Stands for the recipient number of a client that gets no live events yet. No fan-out batch has it.
pub(super) const REPLAYING: u32 = u32::MAX;

/// The recipient number of a registered client, and its index in the list of the registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// The index in the list of registered clients, plus one: so `None` takes no memory of its own.
    number: NonZero<u32>,
    /// The recipient number.
    pub(super) recipient: u32,
}

impl Registered {
    pub(super) fn new(index: usize, recipient: u32) -> Registered {
        // There are less than 2³¹ descriptors.
        Registered { number: NonZero::<u32>::MIN.saturating_add(index as u32), recipient }
    }

    /// Returns the index in the list of registered clients.
    pub(super) fn index(self) -> usize {
        self.number.get() as usize - 1
    }

    pub(super) fn set_index(&mut self, index: usize) {
        *self = Registered::new(index, self.recipient);
    }
}

impl Default for ClientOutput {
    fn default() -> ClientOutput {
        ClientOutput {
            queue: SendQueue::default(),
            writable: true,
            registration: None,
            stall: None,
            backlog_index: NOT_LISTED,
        }
    }
}

impl ClientOutput {
    /// Returns the recipient number while the client is registered.
    #[inline]
    pub(crate) fn recipient(&self) -> Option<u32> {
        self.registration.map(|registered| registered.recipient)
    }

    /// Returns whether the client is registered and gets no live events yet.
    pub(crate) fn is_replaying(&self) -> bool {
        self.recipient() == Some(REPLAYING)
    }

    /// Returns whether no bytes wait for the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether bytes wait although the socket may accept some.
    pub(crate) fn is_flush_missing(&self) -> bool {
        !self.queue.is_empty() && self.writable
    }
}
