//! The reasons for closing a connection.

use std::fmt;

/// The reason why a connection was closed. The names appear in log lines and totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed the connection, or only its sending side.
    ClosedByPeer,
    /// A read or a write failed.
    IoError,
    /// The first line is an HTTP request line, or a source has sent a `Host:` field.
    HttpRequest,
    /// The client's first line is not a user id.
    BadId,
    /// The client sent no complete id line within the timeout.
    IdentifyTimeout,
    /// A newer connection has the same user id.
    TakenOver,
    /// The client's queue was full, and slow clients are configured to be disconnected.
    QueueFull,
    /// The client's queue did not fall to its low watermark within the stall timeout.
    Stalled,
    /// `max_clients` were connected already.
    TooManyClients,
    /// `max_clients_per_address` were connected from its address already.
    TooManyFromAddress,
    /// `max_sources` were connected already.
    TooManySources,
    /// The source sent a sequence outside the reorder window.
    WindowExceeded,
    /// The server is stopping, and nothing is queued for the peer.
    Stopped,
    /// The server is stopping, and the client did not take its queue within the drain timeout.
    DrainTimeout,
}

impl CloseReason {
    /// The number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason, in the order of the totals.
    pub const ALL: [CloseReason; 14] = [
        CloseReason::ClosedByPeer,
        CloseReason::IoError,
        CloseReason::HttpRequest,
        CloseReason::BadId,
        CloseReason::IdentifyTimeout,
        CloseReason::TakenOver,
        CloseReason::QueueFull,
        CloseReason::Stalled,
        CloseReason::TooManyClients,
        CloseReason::TooManyFromAddress,
        CloseReason::TooManySources,
        CloseReason::WindowExceeded,
        CloseReason::Stopped,
        CloseReason::DrainTimeout,
    ];

    /// Returns the name that logs and totals show.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::ClosedByPeer => "closed_by_peer",
            CloseReason::IoError => "io_error",
            CloseReason::HttpRequest => "http_request",
            CloseReason::BadId => "bad_id",
            CloseReason::IdentifyTimeout => "identify_timeout",
            CloseReason::TakenOver => "taken_over",
            CloseReason::QueueFull => "queue_full",
            CloseReason::Stalled => "stalled",
            CloseReason::TooManyClients => "too_many_clients",
            CloseReason::TooManyFromAddress => "too_many_from_address",
            CloseReason::TooManySources => "too_many_sources",
            CloseReason::WindowExceeded => "window_exceeded",
            CloseReason::Stopped => "stopped",
            CloseReason::DrainTimeout => "drain_timeout",
        }
    }

    /// Returns whether this is normal peer behaviour (logged at info).
    #[must_use]
    pub fn is_expected(self) -> bool {
        matches!(self, CloseReason::ClosedByPeer | CloseReason::TakenOver | CloseReason::Stopped)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_at_its_own_index_in_the_list() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
    }
}
