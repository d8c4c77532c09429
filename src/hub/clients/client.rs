//! The state of one user client.

use std::net::SocketAddr;
use std::time::Instant;

use super::handshake::Handshake;
use super::identity::Identity;
use crate::hub::connection::{DiscardOutcome, Disconnect, discard};
use crate::hub::outbound::ClientOutput;
use crate::hub::transport::Stream;
use crate::protocol::{IdLine, UserId};

/// A connection that receives events: 48 bytes.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(super) stream: S,
    pub(super) input: ClientInput,
    /// The client is closed within this turn, and receives no more events.
    pub(super) is_closing: bool,
    identity: Identity,
    output: ClientOutput,
}

/// The inbound half of a client.
#[derive(Debug, Default)]
pub(super) struct ClientInput {
    /// The client's key is in the list of clients to read.
    pub(super) in_read_list: bool,
    /// The client is over a limit, until the decision whether to admit it.
    pub(super) awaits_admission: bool,
    end: InputEnd,
}

/// What is known of the end of a client's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum InputEnd {
    /// The peer may still send.
    #[default]
    Unknown,
    /// The peer has closed its sending side; bytes before that may be unread.
    Announced,
    /// All input has been read, up to the end of the stream.
    Read,
}

impl ClientInput {
    /// Records that the peer has closed its sending side.
    pub(super) fn announce_end(&mut self) {
        self.end = self.end.max(InputEnd::Announced);
    }

    /// Returns whether the peer is known to have closed its sending side.
    pub(super) fn has_ended(&self) -> bool {
        self.end != InputEnd::Unknown
    }

    /// Returns whether all input has been read, up to the end of the stream.
    pub(super) fn is_read_to_end(&self) -> bool {
        self.end == InputEnd::Read
    }
}

impl<S> Client<S> {
    /// Creates a client that has not been read, at the time of its connection.
    pub(super) fn new(stream: S, peer: SocketAddr, since: Instant) -> Client<S> {
        Client {
            stream,
            input: ClientInput { in_read_list: true, ..ClientInput::default() },
            is_closing: false,
            identity: Identity::new(peer, since),
            output: ClientOutput::default(),
        }
    }

    /// Returns the peer's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.identity.peer()
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
        self.identity.user()
    }

    /// Returns the handshake, until the client has identified itself.
    pub(super) fn handshake(&self) -> Option<&Handshake> {
        self.identity.handshake()
    }
}

impl<S: Stream> Client<S> {
    /// Records that the client was registered.
    pub(crate) fn on_registered(&mut self, user: UserId) {
        self.identity.identify(user);
        self.stream.on_registered(user);
    }

    /// Returns the connection.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads the id line, with a sequence if the client `may_resume`. Returns it once it is complete, or the reason
    /// to close the client.
    pub(super) fn read_id(&mut self, may_resume: bool) -> Option<Result<IdLine, Disconnect>> {
        self.identity.handshake_mut()?.read_id(&mut self.stream, may_resume)
    }

    /// Reads and discards up to `share` bytes of input, at most the remaining `budget`.
    pub(super) fn discard_input(&mut self, share: usize, budget: &mut usize) -> DiscardOutcome {
        let outcome = discard(&mut self.stream, share, budget);
        if matches!(outcome, DiscardOutcome::Closed(_)) {
            self.input.end = InputEnd::Read;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        // A connection is a descriptor.
        assert_eq!(size_of::<Client<u32>>(), 48);
    }
}
