//! The address of a client, in half of the memory.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address of a client: 16 bytes instead of 32. Only IPv6 addresses take an allocation.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        match address {
            SocketAddr::V4(address) => Peer::V4(address),
            SocketAddr::V6(address) => Peer::V6(Box::new(address)),
        }
    }
}

impl Peer {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            &Peer::V4(address) => address.into(),
            Peer::V6(address) => (**address).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_roundtrip() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 1, 2);
        for address in [SocketAddr::from(([127, 0, 0, 1], 9099)), scoped.into()] {
            assert_eq!(Peer::from(address).address(), address);
        }
        assert_eq!(size_of::<Peer>(), 16);
    }
}
