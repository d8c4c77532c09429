//! The descriptor limit and its division between sources and clients.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::hub::Capacity;

/// The number of descriptors reserved for files and for connections that are accepted only to be rejected.
const RESERVED: u64 = 16;

/// The number of descriptors that sources leave to clients, at most half of the usable ones.
const MIN_FOR_CLIENTS: u64 = 8;

/// The assumed number of open descriptors on a system that does not list them.
const ASSUMED_OPEN: u64 = 16;

/// The largest number of clients, because keys count connections with 32 bits.
const MAX_CLIENTS: u64 = 1 << 24;

/// The descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorBudget {
    /// The limit: all descriptors are less than this number.
    pub(crate) limit: u64,
    /// The number of open descriptors below the limit.
    pub(crate) open: u64,
    /// The number of descriptors set aside for operators.
    pub(crate) admin: u64,
}

impl DescriptorBudget {
    /// Counts the descriptors that are open below `limit`.
    pub(crate) fn measure(limit: u64) -> DescriptorBudget {
        DescriptorBudget { limit, open: count_open(limit), admin: 0 }
    }

    /// Returns the budget without `count` of the open descriptors.
    pub(crate) fn without_open(self, count: usize) -> DescriptorBudget {
        DescriptorBudget { open: self.open.saturating_sub(count as u64), ..self }
    }

    /// Sets descriptors aside for `wanted` connections of operators, at most a quarter of the usable ones and
    /// at least one.
    pub(crate) fn with_admin(self, wanted: usize) -> DescriptorBudget {
        DescriptorBudget { admin: (wanted as u64).min(self.usable() / 4).max(1), ..self }
    }

    /// Returns how many of the `wanted` sources fit.
    pub(crate) fn max_sources(self, wanted: usize) -> usize {
        let for_clients = MIN_FOR_CLIENTS.min(self.usable() / 2);
        wanted.min(to_count(self.usable() - for_clients)).max(1)
    }

    /// Returns the capacity for clients beside `max_sources` sources: the `wanted` one, or all that fits. In
    /// the latter case at most a quarter is for clients that await identification.
    pub(crate) fn capacity(self, max_sources: usize, wanted: Option<usize>) -> Capacity {
        let available = to_count(self.usable().saturating_sub(max_sources as u64));
        let max_clients = wanted.unwrap_or_else(|| {
            let max_clients = available - Capacity::MAX_AWAITING_ID.min(available / 4);
            max_clients.clamp(1, MAX_CLIENTS as usize)
        });
        let left = available.saturating_sub(max_clients);
        Capacity { max_clients, max_awaiting_id: left.clamp(1, Capacity::MAX_AWAITING_ID) }
    }

    fn usable(self) -> u64 {
        self.limit.saturating_sub(self.open).saturating_sub(RESERVED).saturating_sub(self.admin)
    }
}

fn to_count(descriptors: u64) -> usize {
    usize::try_from(descriptors).unwrap_or(usize::MAX)
}

/// Raises the soft limit of open descriptors to the hard limit, and returns the resulting limit.
pub(crate) fn raise_fd_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        limit = getrlimit(Resource::Nofile);
    }
    // `None` means unlimited.
    limit.current.unwrap_or(u64::MAX)
}

/// Counts the open descriptors below `limit`. An inherited one may be above it.
fn count_open(limit: u64) -> u64 {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return ASSUMED_OPEN };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    // One of them belongs to the listing itself.
    (numbers.filter(|&number| number < limit).count() as u64).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: u64, open: u64) -> DescriptorBudget {
        DescriptorBudget { limit, open, admin: 0 }
    }

    #[test]
    fn connections_of_operators_are_set_aside() {
        let with_admin = budget(20_000, 12).with_admin(32);
        assert_eq!((with_admin.admin, with_admin.usable()), (32, 20_000 - 12 - 16 - 32));
        assert_eq!(budget(68, 12).with_admin(32).admin, 10);
        assert_eq!(budget(12, 12).with_admin(32).admin, 1);
    }

    #[test]
    fn open_descriptors_sources_and_a_reserve_are_set_aside_for_clients() {
        let budget = budget(20_000, 12);
        assert_eq!(budget.max_sources(64), 64);
        assert_eq!(budget.capacity(64, None), Capacity::for_clients(20_000 - 12 - 64 - 16 - 64));
        assert_eq!(budget.capacity(1000, None).max_clients, 20_000 - 12 - 1000 - 16 - 64);
    }

    #[test]
    fn the_defaults_fit_a_low_limit() {
        let budget = budget(100, 12);
        assert_eq!(budget.max_sources(64), 64);
        assert_eq!(budget.capacity(64, None), Capacity { max_clients: 6, max_awaiting_id: 2 });
    }

    #[test]
    fn sources_that_do_not_fit_leave_some_descriptors_to_clients() {
        let budget = budget(64, 12);
        assert_eq!(budget.max_sources(64), 28);
        assert_eq!(budget.max_sources(10), 10);
        assert_eq!(budget.capacity(28, None), Capacity { max_clients: 6, max_awaiting_id: 2 });
    }

    #[test]
    fn a_wanted_number_of_clients_is_kept_and_the_rest_may_await_identification() {
        let budget = budget(200, 12);
        let max_awaiting_id = |wanted| {
            let capacity = budget.capacity(64, Some(wanted));
            assert_eq!(capacity.max_clients, wanted);
            capacity.max_awaiting_id
        };
        assert_eq!(max_awaiting_id(1), 64);
        assert_eq!(max_awaiting_id(100), 8);
        assert_eq!(max_awaiting_id(108), 1);
        assert_eq!(max_awaiting_id(1 << 24), 1);
    }

    #[test]
    fn every_limit_allows_a_source_and_a_client_and_no_more_than_fits() {
        for limit in (0..2000).chain([u64::from(u32::MAX), u64::MAX]) {
            for wanted in [1, 2, 64, 1024] {
                let budget = budget(limit, 12);
                let sources = budget.max_sources(wanted);
                let Capacity { max_clients, max_awaiting_id } = budget.capacity(sources, None);
                assert!((1..=wanted).contains(&sources) && max_clients > 0 && max_awaiting_id > 0);
                assert!(max_clients <= 1 << 24 && max_awaiting_id <= Capacity::MAX_AWAITING_ID);
                let used = (sources + max_clients + max_awaiting_id) as u64;
                // Under a very low limit, one of each is taken from the reserve.
                let usable = budget.usable();
                let borrowed = if usable < 2 * MIN_FOR_CLIENTS { 3 } else { 0 };
                assert!(used <= usable + borrowed, "limit {limit}: {used} used");
            }
        }
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = count_open(u64::MAX);
        let files: Vec<fs::File> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Concurrent tests of this process open and close descriptors.
        assert!(count_open(u64::MAX) + 10 > before + files.len() as u64);
        assert_eq!(count_open(0), 0);
    }
}
