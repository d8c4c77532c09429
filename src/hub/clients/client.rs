//! The state of one user client.

use std::net::SocketAddr;
use std::time::Instant;

use crate::hub::outbound::send_queue::SendQueue;
use crate::protocol::{LineBuffer, UserId};

/// The maximum length of an id line, without its terminator.
pub(crate) const MAX_ID_LINE_BYTES: usize = 64;

/// The part of the id line received so far.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) lines: LineBuffer,
    /// When the client connected.
    pub(crate) since: Instant,
}

/// The state of a client: whether it has identified itself.
#[derive(Debug)]
pub(crate) enum ClientState {
    /// The id line is incomplete.
    AwaitingId(Box<Handshake>),
    /// The client is registered, with its index in the list of registered clients and its recipient
    /// number.
    Registered { user: UserId, index: u32, recipient: u32 },
    /// The client was registered, and is about to be closed.
    Closing { user: UserId },
}

/// The cause of a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallCause {
    /// An event did not fit the queue of the client: applying waits for this client.
    OwnQueue,
    /// All queues together are full, and the client has bytes queued.
    TotalQueue,
}

/// A queue that has to fall to its low watermark within the stall timeout.
#[derive(Debug)]
pub(crate) struct Stall {
    pub(crate) since: Instant,
    /// The stall ends when the queue has at most this many bytes.
    pub(crate) low_watermark: u64,
    pub(crate) cause: StallCause,
}

/// A connection that receives events.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) state: ClientState,
    pub(crate) send_queue: SendQueue,
    /// The socket has not returned `WouldBlock` since it was last reported writable.
    pub(crate) writable: bool,
    /// The client is closed within this turn, and receives no more events.
    pub(crate) is_closing: bool,
    /// Its key is in the list of readable clients.
    pub(crate) in_read_list: bool,
    /// The client is over a limit, until the decision whether to admit it.
    pub(crate) awaits_admission: bool,
    /// The peer has closed its sending side; bytes before that may be unread.
    pub(crate) peer_closed: bool,
    /// All input has been read, up to the end of the stream.
    pub(crate) is_read_to_end: bool,
    pub(crate) stall: Option<Box<Stall>>,
    /// Bytes of a queue that was dropped before the client is closed.
    pub(crate) dropped_bytes: u64,
}

/// A connection whose sending side is shut down. Its input is still read, because closing a socket
/// with unread bytes resets the connection and loses bytes in flight.
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    pub(crate) stream: S,
    /// When the sending side was shut down.
    pub(crate) since: Instant,
    /// Its key is in the list of readable clients.
    pub(crate) in_read_list: bool,
}

impl<S> Client<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, since: Instant) -> Client<S> {
        let lines = LineBuffer::new(MAX_ID_LINE_BYTES);
        Client {
            stream,
            peer,
            state: ClientState::AwaitingId(Box::new(Handshake { lines, since })),
            send_queue: SendQueue::default(),
            writable: true,
            is_closing: false,
            in_read_list: true,
            awaits_admission: false,
            peer_closed: false,
            is_read_to_end: false,
            stall: None,
            dropped_bytes: 0,
        }
    }

    /// Returns whether the client connected at `since` and has not identified itself yet.
    pub(crate) fn is_awaiting_id_since(&self, since: Instant) -> bool {
        matches!(&self.state, ClientState::AwaitingId(handshake) if handshake.since == since)
    }

    /// Returns the user id, once known.
    pub(crate) fn user(&self) -> Option<UserId> {
        match self.state {
            ClientState::AwaitingId(_) => None,
            ClientState::Registered { user, .. } | ClientState::Closing { user } => Some(user),
        }
    }

    /// Returns the recipient number while the client is registered.
    pub(crate) fn recipient(&self) -> Option<u32> {
        match self.state {
            ClientState::Registered { recipient, .. } => Some(recipient),
            ClientState::AwaitingId(_) | ClientState::Closing { .. } => None,
        }
    }
}
