//! Who a client is, in a quarter of a cache line.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Instant;

use super::handshake::Handshake;
use crate::protocol::UserId;

/// The address of a client, and its user once it has identified itself: 16 bytes. Only an IPv6 address takes an
/// allocation.
#[derive(Debug)]
pub(super) enum Identity {
    /// The ID line is incomplete.
    AwaitingId(SocketAddrV4, Box<Handshake>),
    /// The ID line was read. The client is registered, or was, or awaits admission.
    Identified(SocketAddrV4, UserId),
    V6(Box<IdentityV6>),
}

/// The identity of a client with an IPv6 address.
#[derive(Debug)]
pub(super) struct IdentityV6 {
    peer: SocketAddrV6,
    state: Result<UserId, Box<Handshake>>,
}

impl Identity {
    /// Creates the identity of a client that has connected at that time.
    pub(super) fn new(peer: SocketAddr, since: Instant) -> Identity {
        let handshake = Box::new(Handshake::new(since));
        match peer {
            SocketAddr::V4(peer) => Identity::AwaitingId(peer, handshake),
            SocketAddr::V6(peer) => {
                Identity::V6(Box::new(IdentityV6 { peer, state: Err(handshake) }))
            }
        }
    }

    /// Returns the client's address.
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            &(Identity::AwaitingId(peer, _) | Identity::Identified(peer, _)) => peer.into(),
            Identity::V6(identity) => identity.peer.into(),
        }
    }

    /// Returns the user ID, once known.
    pub(super) fn user(&self) -> Option<UserId> {
        match self {
            Identity::AwaitingId(..) => None,
            Identity::Identified(_, user) => Some(*user),
            Identity::V6(identity) => identity.state.as_ref().ok().copied(),
        }
    }

    /// Returns the handshake, until the client has identified itself.
    pub(super) fn handshake(&self) -> Option<&Handshake> {
        match self {
            Identity::AwaitingId(_, handshake) => Some(handshake),
            Identity::Identified(..) => None,
            Identity::V6(identity) => identity.state.as_ref().err().map(Box::as_ref),
        }
    }

    pub(super) fn handshake_mut(&mut self) -> Option<&mut Handshake> {
        match self {
            Identity::AwaitingId(_, handshake) => Some(handshake),
            Identity::Identified(..) => None,
            Identity::V6(identity) => identity.state.as_mut().err().map(Box::as_mut),
        }
    }

    /// Records the user ID, and frees the handshake.
    pub(super) fn identify(&mut self, user: UserId) {
        match self {
            &mut (Identity::AwaitingId(peer, _) | Identity::Identified(peer, _)) => {
                *self = Identity::Identified(peer, user);
            }
            Identity::V6(identity) => identity.state = Ok(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_keeps_address_and_user() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 1, 2);
        for peer in [SocketAddr::from(([127, 0, 0, 1], 9099)), scoped.into()] {
            let since = Instant::now();
            let mut identity = Identity::new(peer, since);
            assert_eq!((identity.peer(), identity.user()), (peer, None));
            assert!(identity.handshake().unwrap().is_since(since));
            assert!(identity.handshake_mut().is_some());
            identity.identify(UserId(u64::MAX));
            assert_eq!((identity.peer(), identity.user()), (peer, Some(UserId(u64::MAX))));
            assert!(identity.handshake().is_none() && identity.handshake_mut().is_none());
        }
    }
}
