//! How many clients each address has.

use std::collections::HashMap;
use std::net::IpAddr;

/// Counts clients by address while there is a limit for one address, and nothing otherwise.
#[derive(Debug)]
pub(crate) struct IpLimiter {
    limit: Option<usize>,
    clients: HashMap<IpAddr, usize>,
}

impl IpLimiter {
    pub(crate) fn new(limit: Option<usize>) -> IpLimiter {
        IpLimiter { limit, clients: HashMap::new() }
    }

    /// Counts one more client from an address; `false` if it has as many as it may.
    pub(crate) fn admit(&mut self, address: IpAddr) -> bool {
        let Some(limit) = self.limit else { return true };
        let clients = self.clients.entry(address).or_insert(0);
        if *clients < limit {
            *clients += 1;
            true
        } else {
            false
        }
    }

    /// A client from an address, admitted before, is gone.
    pub(crate) fn depart(&mut self, address: IpAddr) {
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
        let mut count = IpLimiter::new(Some(2));
        assert_eq!([A, A, A, B].map(|address| count.admit(address)), [true, true, false, true]);
        count.depart(A);
        assert!(count.admit(A) && !count.admit(A));
        for address in [A, A, B] {
            count.depart(address);
        }
        assert!(count.clients.is_empty(), "an address without clients takes no memory");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut count = IpLimiter::new(None);
        assert!((0..100).all(|_| count.admit(A)) && count.clients.is_empty());
        count.depart(A);
    }
}
