//! Why a connection ends.

use std::fmt;

/// Why the server closed a connection, or took its end as final. The names serve log lines and
/// totals alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended it; a half-close counts.
    ClosedByPeer,
    /// Reading from it or writing to it failed.
    IoError,
    /// The first line is that of an HTTP request, or a source has sent a `Host:` field.
    HttpRequest,
    /// The client's first line is no user id.
    BadId,
    /// The client sent no complete id line in time.
    IdentifyTimeout,
    /// A newer connection has the same user id.
    TakenOver,
    /// The client's queue was full, and slow clients are to be disconnected.
    QueueFull,
    /// The client did not bring its queue down in time.
    Stalled,
    /// There are `max_clients` already.
    TooManyClients,
    /// There are `max_clients_per_address` from its address already.
    TooManyFromAddress,
    /// There are `max_sources` already.
    TooManySources,
    /// The source is a window or more ahead of the awaited sequence.
    WindowExceeded,
    /// The server stops, and nothing waits for the peer any more.
    Stopped,
    /// The server stops, and what waits for the client did not leave in time.
    DrainTimeout,
}

impl CloseReason {
    /// How many reasons there are.
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

    /// The reason's name, as logs and totals show it.
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

    /// Returns whether the peer did nothing but what peers do.
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
    fn every_reason_stands_at_its_own_place_in_the_list() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason}");
        }
    }
}
