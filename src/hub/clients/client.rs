//! One user client: its stream, who it is, and what is queued for it.

use std::net::SocketAddr;
use std::time::Instant;

use crate::hub::outbound::send_queue::SendQueue;
use crate::protocol::{LineBuffer, UserId};

/// The longest id line that is looked at, without its terminator.
pub(crate) const MAX_ID_LINE_BYTES: usize = 64;

/// What a client has sent of its id line.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) lines: LineBuffer,
    /// When the client connected.
    pub(crate) since: Instant,
}

/// Who a client is.
#[derive(Debug)]
pub(crate) enum ClientState {
    /// It has not sent its id line yet, or not all of it.
    AwaitingId(Box<Handshake>),
    /// It is registered, at this place in the list of those who are, and reached at this recipient.
    Registered { user: UserId, place: u32, recipient: u32 },
    /// It was registered, and waits to be closed.
    Closing { user: UserId },
}

/// Why a client has a stall running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallCause {
    /// An event did not fit its own queue: applying waits for this client.
    OwnQueue,
    /// All queues together are full, and it has a share in that.
    TotalQueue,
}

/// A queue that has to come down, or its client is given up.
#[derive(Debug)]
pub(crate) struct Stall {
    pub(crate) since: Instant,
    /// The stall is over when the queue has no more bytes than this.
    pub(crate) target: u64,
    pub(crate) cause: StallCause,
}

/// A connection that receives events.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) state: ClientState,
    pub(crate) send_queue: SendQueue,
    /// The socket has not refused bytes since it last said that it takes some.
    pub(crate) writable: bool,
    /// It is to be closed within this turn, and receives nothing more.
    pub(crate) is_closing: bool,
    /// It stands on the list of those to read.
    pub(crate) in_read_list: bool,
    /// A limit keeps it out, unless a connection that counts turns out to have ended.
    pub(crate) awaits_admission: bool,
    /// The kernel holds the end of what the client sends, after bytes that may be unread.
    pub(crate) peer_closed: bool,
    /// Everything that the client sent has been read.
    pub(crate) is_read_to_end: bool,
    pub(crate) stall: Option<Box<Stall>>,
    /// Bytes of a queue that was given up before the client was closed.
    pub(crate) dropped_bytes: u64,
}

/// A connection that the server has closed for writing. What its peer still sends is read, because
/// closing a socket with unread bytes resets the connection and loses what is on its way.
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    pub(crate) stream: S,
    /// When the sending side was shut down.
    pub(crate) since: Instant,
    /// It stands on the list of those to read.
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

    /// Returns whether it connected at `since` and has not sent its id yet.
    pub(crate) fn is_awaiting_id_since(&self, since: Instant) -> bool {
        matches!(&self.state, ClientState::AwaitingId(id_line) if id_line.since == since)
    }

    /// Its user id, once known.
    pub(crate) fn user(&self) -> Option<UserId> {
        match self.state {
            ClientState::AwaitingId(_) => None,
            ClientState::Registered { user, .. } | ClientState::Closing { user } => Some(user),
        }
    }

    /// Where its deliveries go, while it is registered.
    pub(crate) fn recipient(&self) -> Option<u32> {
        match self.state {
            ClientState::Registered { recipient, .. } => Some(recipient),
            ClientState::AwaitingId(_) | ClientState::Closing { .. } => None,
        }
    }
}
