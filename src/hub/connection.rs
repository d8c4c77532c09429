//! One connection: its stream, what it is, and what has been read of it.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Instant;

use crate::hub::close_reason::CloseReason;
use crate::hub::outbound::send_queue::SendQueue;
use crate::protocol::{EventDecoder, LineBuffer, UserId};

/// The longest id line that is looked at, without its terminator.
pub(crate) const MAX_ID_LINE_BYTES: usize = 64;

/// An open connection.
#[derive(Debug)]
pub(crate) enum Connection<S> {
    Source(Box<Source<S>>),
    Client(Client<S>),
    Lingering(Lingering<S>),
    /// A source whose lines are being applied, held elsewhere for so long.
    Lent,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Disconnect {
    pub(crate) reason: CloseReason,
    pub(crate) error: Option<io::Error>,
}

/// A connection that sends events.
#[derive(Debug)]
pub(crate) struct Source<S> {
    pub(crate) stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) events: EventDecoder,
    /// The kernel may hold bytes that were not read.
    pub(crate) readable: bool,
    /// `events` may hold complete lines that were not handed out.
    pub(crate) may_have_lines: bool,
    /// Lines handed out so far.
    pub(crate) lines_received: u64,
    /// One of them was an event.
    pub(crate) has_sent_event: bool,
    /// The kernel holds the end of the stream, after bytes that may be unread.
    pub(crate) peer_closed: bool,
    /// Nothing more can be read; takes effect once all that was read has been applied.
    pub(crate) end: Option<Disconnect>,
}

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

/// What a read brought.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// So many bytes.
    Data(usize),
    /// Nothing for now.
    WouldBlock,
    /// Nothing ever again.
    Closed(Disconnect),
}

/// Reads once, and again only if interrupted.
pub(crate) fn try_read(stream: &mut impl Read, buffer: &mut [u8]) -> ReadOutcome {
    loop {
        return match stream.read(buffer) {
            Ok(0) => {
                ReadOutcome::Closed(Disconnect { reason: CloseReason::ClosedByPeer, error: None })
            }
            Ok(bytes) => ReadOutcome::Data(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => ReadOutcome::WouldBlock,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                ReadOutcome::Closed(Disconnect { reason: CloseReason::IoError, error: Some(error) })
            }
        };
    }
}

impl<S> Source<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, max_line_bytes: usize) -> Source<S> {
        Source {
            stream,
            peer,
            events: EventDecoder::new(max_line_bytes),
            readable: true,
            may_have_lines: false,
            lines_received: 0,
            has_sent_event: false,
            peer_closed: false,
            end: None,
        }
    }

    /// Ends the source, whatever else it sent.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.events = EventDecoder::default();
        self.may_have_lines = false;
        self.readable = false;
        self.end = Some(Disconnect { reason, error: None });
    }

    /// Whether it has sent a whole line, handed out or not.
    pub(crate) fn has_sent_line(&self) -> bool {
        self.lines_received > 0 || self.events.lines.has_line()
    }

    /// Whether it has sent a whole line, and nothing more will come.
    pub(crate) fn closed_after_line(&self) -> bool {
        self.end.is_some() && self.has_sent_line()
    }

    /// Whether the peer is known to have ended the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some() || self.peer_closed
    }

    /// Whether it has ended and all its lines are taken: it counts no more against the limit.
    pub(crate) fn is_spent(&self) -> bool {
        self.end.is_some() && !self.may_have_lines
    }

    /// Whether the kernel held nothing more when it was last read, and all of that was handed out.
    pub(crate) fn is_drained(&self) -> bool {
        !self.readable && !self.may_have_lines
    }
}

impl<S: Read> Source<S> {
    /// Reads until `most` bytes have come, or none are left.
    pub(crate) fn read(&mut self, most: usize) {
        let mut room = most;
        while room > 0 {
            match try_read(&mut self.stream, self.events.lines.unfilled_mut(room)) {
                ReadOutcome::Data(bytes) => {
                    self.events.lines.advance(bytes);
                    self.may_have_lines = true;
                    room -= bytes;
                }
                ReadOutcome::WouldBlock => {
                    self.readable = false;
                    return;
                }
                ReadOutcome::Closed(end) => {
                    self.readable = false;
                    self.end = Some(end);
                    return;
                }
            }
        }
    }
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

    /// Whether it connected at `since` and has not sent its id yet.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_source_that_has_sent_half_a_line_has_sent_none() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut source = Source::new(&b"1|"[..], peer, 256);
        source.read(100);
        assert!(
            source.may_have_lines && !source.has_sent_line(),
            "that there may be lines is not that there is one"
        );
        source.stream = b"B\n";
        source.read(100);
        assert!(source.has_sent_line());
    }
}
