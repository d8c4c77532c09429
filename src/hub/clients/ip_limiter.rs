//! The limit on clients per IP address.

use std::collections::HashMap;
use std::net::IpAddr;

/// Counts clients per address. Without a limit it counts nothing.
#[derive(Debug)]
pub(crate) struct IpLimiter {
    limit: Option<usize>,
    clients: HashMap<IpAddr, usize>,
}

impl IpLimiter {
    pub(crate) fn new(limit: Option<usize>) -> IpLimiter {
        IpLimiter { limit, clients: HashMap::new() }
    }

    /// Changes the limit. `connected` are the addresses of all clients that were acquired; they stay, even
    /// if they are more than the limit.
    pub(crate) fn set_limit(
        &mut self,
        limit: Option<usize>,
        connected: impl Iterator<Item = IpAddr>,
    ) {
        self.limit = limit;
        self.clients.clear();
        if limit.is_some() {
            connected.for_each(|address| *self.clients.entry(address).or_insert(0) += 1);
        }
    }

    /// Counts one more client from an address. Returns `false` if the limit is reached.
    pub(crate) fn try_acquire(&mut self, address: IpAddr) -> bool {
        let Some(limit) = self.limit else { return true };
        let clients = self.clients.entry(address).or_insert(0);
        if *clients < limit {
            *clients += 1;
            true
        } else {
            false
        }
    }

    /// Releases a client that was acquired before.
    pub(crate) fn release(&mut self, address: IpAddr) {
        if let Some(clients) = self.clients.get_mut(&address) {
            *clients -= 1;
            if *clients == 0 {
                self.clients.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn each_address_has_its_own_count() {
        let mut limiter = IpLimiter::new(Some(2));
        assert_eq!(
            [A, A, A, B].map(|address| limiter.try_acquire(address)),
            [true, true, false, true]
        );
        limiter.release(A);
        assert!(limiter.try_acquire(A) && !limiter.try_acquire(A));
        for address in [A, A, B] {
            limiter.release(address);
        }
        assert!(limiter.clients.is_empty(), "an address without clients takes no memory");
    }

    #[test]
    fn a_changed_limit_counts_clients_that_are_connected() {
        let mut limiter = IpLimiter::new(None);
        assert!([A, A, A, B].into_iter().all(|address| limiter.try_acquire(address)));
        limiter.set_limit(Some(2), [A, A, A, B].into_iter());
        assert!(!limiter.try_acquire(A) && limiter.try_acquire(B) && !limiter.try_acquire(B));
        limiter.release(A);
        assert!(!limiter.try_acquire(A), "two are left");
        limiter.release(A);
        assert!(limiter.try_acquire(A));
        limiter.set_limit(None, [A, A, B, B].into_iter());
        assert!(limiter.try_acquire(A) && limiter.clients.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut limiter = IpLimiter::new(None);
        assert!((0..100).all(|_| limiter.try_acquire(A)) && limiter.clients.is_empty());
        limiter.release(A);
    }
}
