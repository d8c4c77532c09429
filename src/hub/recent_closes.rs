//! The last closed connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crate::hub::close_reason::CloseReason;
use crate::protocol::UserId;

/// The maximum number of connections that are kept.
const MAX_CLOSES: usize = 64;

/// The port that a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The event port.
    Source,
    /// The client port.
    Client,
}

/// A closed connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedConnection {
    /// The port that it came to.
    pub side: Side,
    /// The user of a client that had identified itself.
    pub user: Option<UserId>,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The reason.
    pub reason: CloseReason,
    /// Whether the close is normal, and logged at info.
    pub is_expected: bool,
    /// The line of the peer that is the reason, escaped and truncated.
    pub input: Option<Box<str>>,
    /// Queued bytes that were not written.
    pub unwritten_bytes: u64,
    /// The time of the close.
    pub at: Instant,
}

/// The last closed connections, the newest last.
#[derive(Debug, Default)]
pub(super) struct RecentCloses(VecDeque<ClosedConnection>);

impl RecentCloses {
    pub(super) fn push(&mut self, closed: ClosedConnection) {
        if self.0.len() == MAX_CLOSES {
            self.0.pop_front();
        }
        self.0.push_back(closed);
    }

    /// Iterates from the newest to the oldest.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &ClosedConnection> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut closes = RecentCloses::default();
        let at = Instant::now();
        for port in 0..100 {
            closes.push(ClosedConnection {
                side: Side::Client,
                user: None,
                peer: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                reason: CloseReason::ClosedByPeer,
                is_expected: true,
                input: None,
                unwritten_bytes: 0,
                at,
            });
        }
        let ports: Vec<u16> = closes.newest_first().map(|closed| closed.peer.port()).collect();
        assert_eq!(ports, (36..100).rev().collect::<Vec<u16>>());
    }
}
