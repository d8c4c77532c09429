//! How many sockets the process may have.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors kept for other things than clients: standard streams, listeners, poll, signals, a
/// capture file, and some sources.
const RESERVED: u64 = 16;

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

/// Raises the limit of open descriptors to the hard one, and returns what it is then.
pub(crate) fn raise_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        limit = getrlimit(Resource::Nofile);
    }
    // No limit at all is said by `None`.
    limit.current.unwrap_or(u64::MAX)
}

/// How many clients fit a limit of `descriptors`: at least one, and no more than keys can count.
pub(crate) fn clients_that_fit(descriptors: u64) -> usize {
    const MOST: u64 = 1 << 24;
    descriptors.saturating_sub(RESERVED).clamp(1, MOST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_kept_in_reserve() {
        assert_eq!(clients_that_fit(20_000), 19_984);
        assert_eq!(clients_that_fit(3), 1);
        assert_eq!(clients_that_fit(u64::MAX), 1 << 24);
    }
}
