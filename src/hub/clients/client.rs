//! The state of one user client.

use std::net::SocketAddr;
use std::time::Instant;

use super::handshake::Handshake;
use super::peer::Peer;
use crate::hub::connection::{DiscardOutcome, Disconnect, discard};
use crate::hub::outbound::ClientOutput;
use crate::hub::transport::Stream;
use crate::protocol::{IdLine, UserId};

/// A connection that receives events.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(super) stream: S,
    peer: Peer,
    pub(super) state: ClientState,
    pub(super) input: ClientInput,
    output: ClientOutput,
    /// The client is closed within this turn, and receives no more events.
    pub(super) is_closing: bool,
}

/// The state of a client: whether it has identified itself.
#[derive(Debug)]
pub(super) enum ClientState {
    /// The id line is incomplete.
    AwaitingId(Box<Handshake>),
    /// The id line was read. The client is registered, or was, or awaits admission.
    Identified(UserId),
}

/// The inbound half of a client.
#[derive(Debug, Default)]
pub(super) struct ClientInput {
    /// The client's key is in the list of clients to read.
    pub(super) in_read_list: bool,
    /// The client is over a limit, until the decision whether to admit it.
    pub(super) awaits_admission: bool,
    /// The peer has closed its sending side; bytes before that may be unread.
    pub(super) peer_closed: bool,
    /// All input has been read, up to the end of the stream.
    pub(super) is_read_to_end: bool,
}

impl<S> Client<S> {
    /// Creates a client that has not been read, at the time of its connection.
    pub(super) fn new(stream: S, peer: SocketAddr, since: Instant) -> Client<S> {
        Client {
            stream,
            peer: peer.into(),
            state: ClientState::AwaitingId(Box::new(Handshake::new(since))),
            input: ClientInput { in_read_list: true, ..ClientInput::default() },
            output: ClientOutput::default(),
            is_closing: false,
        }
    }

    /// Returns the peer's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Returns the outbound half.
    #[inline]
    pub(crate) fn output(&self) -> &ClientOutput {
        &self.output
    }

    #[inline]
    pub(crate) fn output_mut(&mut self) -> &mut ClientOutput {
        &mut self.output
    }

    /// Returns the connection and the outbound half.
    #[inline]
    pub(crate) fn stream_and_output(&mut self) -> (&mut S, &mut ClientOutput) {
        (&mut self.stream, &mut self.output)
    }

    /// Returns whether the client is closed within this turn. It receives no more events.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Returns the user id, once known.
    pub(crate) fn user(&self) -> Option<UserId> {
        match self.state {
            ClientState::AwaitingId(_) => None,
            ClientState::Identified(user) => Some(user),
        }
    }

    /// Returns the handshake, until the client has identified itself.
    pub(super) fn handshake(&self) -> Option<&Handshake> {
        match &self.state {
            ClientState::AwaitingId(handshake) => Some(handshake),
            ClientState::Identified(_) => None,
        }
    }
}

impl<S: Stream> Client<S> {
    /// Records that the client was registered.
    pub(crate) fn on_registered(&mut self, user: UserId) {
        self.state = ClientState::Identified(user);
        self.stream.on_registered(user);
    }

    /// Returns the connection.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads the id line, with a sequence if the client `may_resume`. Returns it once it is complete, or the reason
    /// to close the client.
    pub(super) fn read_id(&mut self, may_resume: bool) -> Option<Result<IdLine, Disconnect>> {
        match &mut self.state {
            ClientState::AwaitingId(handshake) => handshake.read_id(&mut self.stream, may_resume),
            ClientState::Identified(_) => None,
        }
    }

    /// Reads and discards up to `share` bytes of input, at most the remaining `budget`.
    pub(super) fn discard_input(&mut self, share: usize, budget: &mut usize) -> DiscardOutcome {
        let outcome = discard(&mut self.stream, share, budget);
        self.input.is_read_to_end |= matches!(outcome, DiscardOutcome::Closed(_));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<ClientOutput>() <= 48, "{}", size_of::<ClientOutput>());
        // A connection is a descriptor.
        assert!(size_of::<Client<u32>>() <= 96, "{}", size_of::<Client<u32>>());
    }
}
