//! Limits on the number of clients.

/// Limits on client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The maximum number of registered clients.
    pub max_clients: usize,
    /// Connections that may await identification beyond `max_clients`, so that a registered user
    /// can take over at the limit. At least one.
    pub max_awaiting_id: usize,
}

impl Capacity {
    /// The maximum number of connections that await identification, if the descriptor limit allows
    /// it.
    pub const MAX_AWAITING_ID: usize = 64;

    /// Returns the capacity for `max_clients` if the descriptor limit is not a constraint.
    #[must_use]
    pub fn for_clients(max_clients: usize) -> Capacity {
        Capacity { max_clients, max_awaiting_id: Capacity::MAX_AWAITING_ID }
    }

    /// Returns the maximum number of open clients, registered or not.
    pub(crate) fn max_open(self) -> usize {
        self.max_clients + self.max_awaiting_id
    }
}
