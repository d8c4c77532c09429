//! Admission of connections: the limits on open clients and on clients per address.

use std::net::{IpAddr, SocketAddr};

use super::ip_limiter::IpLimiter;
use crate::hub::capacity::Capacity;
use crate::hub::close_reason::CloseReason;
use crate::hub::token::ClientKey;
use crate::protocol::IdLine;

/// A client over a limit, which is rejected unless a disconnect frees capacity.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Candidate {
    pub(super) key: ClientKey,
    /// The id line; `None` for a connection that was just accepted.
    pub(super) id: Option<IdLine>,
}

/// Admits clients up to the limits, and counts the open ones, registered or not.
#[derive(Debug)]
pub(super) struct Admission {
    open: usize,
    ip_limiter: IpLimiter,
}

impl Admission {
    /// Admits at most `max_per_address` clients per address.
    pub(super) fn new(max_per_address: Option<usize>) -> Admission {
        Admission { open: 0, ip_limiter: IpLimiter::new(max_per_address) }
    }

    /// Changes the limit per address. `peers` are all open clients.
    pub(super) fn set_max_per_address(
        &mut self,
        max: Option<usize>,
        peers: impl Iterator<Item = SocketAddr>,
    ) {
        self.ip_limiter.set_limit(max, peers.map(address));
    }

    /// Counts one more open client.
    ///
    /// # Errors
    ///
    /// A limit is reached.
    pub(super) fn admit(
        &mut self,
        peer: SocketAddr,
        capacity: Capacity,
    ) -> Result<(), CloseReason> {
        if self.open >= capacity.max_open() {
            return Err(CloseReason::TooManyClients);
        }
        if !self.ip_limiter.try_acquire(address(peer)) {
            return Err(CloseReason::TooManyFromAddress);
        }
        self.open += 1;
        Ok(())
    }

    /// Releases a client that was admitted before.
    pub(super) fn release(&mut self, peer: SocketAddr) {
        self.open -= 1;
        self.ip_limiter.release(address(peer));
    }

    /// Returns the number of open clients.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Returns how many more clients may be admitted.
    pub(super) fn unused(&self, capacity: Capacity) -> usize {
        capacity.max_open().saturating_sub(self.open)
    }
}

fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CAPACITY: Capacity = Capacity { max_clients: 2, max_awaiting_id: 1 };

    fn peer(host: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 1))
    }

    #[test]
    fn clients_are_admitted_up_to_the_capacity() {
        let mut admission = Admission::new(None);
        assert!((0..3).all(|_| admission.admit(peer(1), CAPACITY).is_ok()));
        assert_eq!((admission.open(), admission.unused(CAPACITY)), (3, 0));
        assert_eq!(admission.admit(peer(2), CAPACITY), Err(CloseReason::TooManyClients));
        admission.release(peer(1));
        assert_eq!(admission.admit(peer(2), CAPACITY), Ok(()));
    }

    #[test]
    fn a_rejected_client_counts_nowhere() {
        let mut admission = Admission::new(Some(1));
        let mapped = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped(), 2));
        assert_eq!(admission.admit(peer(1), CAPACITY), Ok(()));
        assert_eq!(admission.admit(mapped, CAPACITY), Err(CloseReason::TooManyFromAddress));
        assert_eq!((admission.open(), admission.unused(CAPACITY)), (1, 2));
        admission.release(mapped);
        assert_eq!(admission.admit(peer(1), CAPACITY), Ok(()));
    }
}
