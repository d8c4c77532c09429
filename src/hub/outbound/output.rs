//! The outbound half of one client.

use std::num::NonZero;

use super::backpressure::Stall;
use super::block_pool::BlockPool;
use super::send_queue::SendQueue;

/// The writability of a client's socket, its registration for events, and its send queue.
#[derive(Debug)]
pub(crate) struct ClientOutput {
    /// What only a client needs whose socket has refused bytes. `None` for most.
    unsent: Option<Box<Unsent>>,
    pub(super) registration: Option<Registered>,
    /// The socket has not returned `WouldBlock` since it was last reported writable.
    pub(super) writable: bool,
}

/// The bytes that a socket has refused, and the stall of their client.
#[derive(Debug, Default)]
struct Unsent {
    queue: SendQueue,
    stall: Option<Stall>,
    /// The index in the list of clients with queued bytes.
    backlog_index: Option<u32>,
}

impl Unsent {
    fn is_unused(&self) -> bool {
        self.queue.is_empty() && self.stall.is_none() && self.backlog_index.is_none()
    }
}

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
        ClientOutput { unsent: None, registration: None, writable: true }
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

    /// Returns the number of bytes that wait for the socket.
    #[inline]
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.queue.len())
    }

    /// Returns whether no bytes wait for the socket.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent_bytes() == 0
    }

    /// Returns whether bytes wait although the socket may accept some.
    pub(crate) fn is_flush_missing(&self) -> bool {
        !self.is_empty() && self.writable
    }

    /// Returns the number of blocks of the send queue.
    pub(super) fn blocks(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.queue.blocks())
    }

    /// Takes the send queue out. The caller puts it back.
    #[inline]
    pub(super) fn take_queue(&mut self) -> SendQueue {
        self.unsent.as_mut().map(|unsent| std::mem::take(&mut unsent.queue)).unwrap_or_default()
    }

    /// Puts a send queue back. An empty one takes no memory.
    #[inline]
    pub(super) fn put_queue(&mut self, queue: SendQueue) {
        if !queue.is_empty() {
            self.unsent_mut().queue = queue;
        }
    }

    /// Frees the send queue with its bytes.
    pub(super) fn clear_queue(&mut self, pool: &mut BlockPool) {
        self.take_queue().clear(pool);
        self.free_if_unused();
    }

    /// Returns the stall of the client, if there is one.
    #[inline]
    pub(super) fn stall(&self) -> Option<&Stall> {
        self.unsent.as_ref()?.stall.as_ref()
    }

    pub(super) fn stall_mut(&mut self) -> Option<&mut Stall> {
        self.unsent.as_mut()?.stall.as_mut()
    }

    pub(super) fn set_stall(&mut self, stall: Stall) {
        self.unsent_mut().stall = Some(stall);
    }

    /// Ends the stall of the client, and returns it, if there is one.
    pub(super) fn take_stall(&mut self) -> Option<Stall> {
        let stall = self.unsent.as_mut()?.stall.take();
        self.free_if_unused();
        stall
    }

    /// Returns the index in the list of clients with queued bytes, if the client is listed.
    #[inline]
    pub(super) fn backlog_index(&self) -> Option<u32> {
        self.unsent.as_ref()?.backlog_index
    }

    pub(super) fn set_backlog_index(&mut self, index: u32) {
        self.unsent_mut().backlog_index = Some(index);
    }

    /// Returns the index in the list of clients with queued bytes, and forgets it, because the client is removed
    /// from that list.
    pub(super) fn take_backlog_index(&mut self) -> Option<u32> {
        let index = self.unsent.as_mut()?.backlog_index.take();
        self.free_if_unused();
        index
    }

    fn unsent_mut(&mut self) -> &mut Unsent {
        self.unsent.get_or_insert_default()
    }

    fn free_if_unused(&mut self) {
        if self.unsent.as_ref().is_some_and(|unsent| unsent.is_unused()) {
            self.unsent = None;
        }
    }
}
