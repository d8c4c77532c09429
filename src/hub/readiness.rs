//! What a turn takes from the poll, and when the next one must start.

use std::time::Instant;

/// The readiness of a connection or a listener, as reported by the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The connection's token, or [`EVENT_LISTENER`](super::EVENT_LISTENER) or
    /// [`CLIENT_LISTENER`](super::CLIENT_LISTENER).
    pub token: usize,
    /// Bytes, the end of the stream, an error or a new connection may be pending.
    pub readable: bool,
    /// The socket accepts bytes again.
    pub writable: bool,
    /// The peer has closed its sending side: the end of the stream or an error follows the bytes in
    /// the kernel.
    pub read_closed: bool,
    /// Urgent data is pending, at which a read stops: a short read does not mean that the kernel has no more
    /// bytes.
    pub urgent: bool,
}

/// The time of the next turn. The earlier one is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextTurn {
    /// Immediately, because there is work left.
    Now,
    /// When a connection or a listener is ready, or at this time at the latest.
    Until(Instant),
    /// When a connection or a listener is ready.
    WhenReady,
}
