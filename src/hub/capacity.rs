//! How many clients there may be.

/// How many client connections the hub takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Registered clients, at most.
    pub max_clients: usize,
    /// Connections that may await identification although there are `max_clients` others: a user who is
    /// connected can take over in a full house. At least one.
    pub max_awaiting_id: usize,
}

impl Capacity {
    /// How many connections may await identification where the descriptor limit allows it.
    pub const MAX_AWAITING_ID: usize = 64;

    /// Returns the capacity for `max_clients` where descriptors are plentiful.
    #[must_use]
    pub fn for_clients(max_clients: usize) -> Capacity {
        Capacity { max_clients, max_awaiting_id: Capacity::MAX_AWAITING_ID }
    }
}
