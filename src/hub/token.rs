//! Keys of connections in the two tables, and the poll tokens made of them.

/// The token of the listener for event sources.
pub const EVENT_LISTENER: usize = usize::MAX - 1;
/// The token of the listener for clients.
pub const CLIENT_LISTENER: usize = usize::MAX - 2;

/// The lowest bit of a token distinguishes sources from clients.
const SOURCE_BIT: usize = 1;

/// An index into the table of sources. It is reused once the source is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceKey(pub(crate) u32);

/// An index into the table of clients. It is reused once the client is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientKey(pub(crate) u32);

/// The connection or listener that a token identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    SourceListener,
    ClientListener,
    Source(SourceKey),
    Client(ClientKey),
}

impl SourceKey {
    /// Converts an index of the table, which has fewer than 2³² entries.
    pub(crate) fn new(index: usize) -> SourceKey {
        SourceKey(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn token(self) -> usize {
        self.index() << 1 | SOURCE_BIT
    }
}

impl ClientKey {
    /// Converts an index of the table, which has fewer than 2³² entries.
    pub(crate) fn new(index: usize) -> ClientKey {
        ClientKey(index as u32)
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn token(self) -> usize {
        self.index() << 1
    }
}

impl Target {
    /// Decodes a token.
    pub(crate) fn of(token: usize) -> Target {
        match token {
            EVENT_LISTENER => Target::SourceListener,
            CLIENT_LISTENER => Target::ClientListener,
            _ if token & SOURCE_BIT == SOURCE_BIT => Target::Source(SourceKey::new(token >> 1)),
            _ => Target::Client(ClientKey::new(token >> 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_decodes_to_the_key_it_was_made_of() {
        for key in [0, 1, 2, u32::MAX] {
            assert_eq!(Target::of(SourceKey(key).token()), Target::Source(SourceKey(key)));
            assert_eq!(Target::of(ClientKey(key).token()), Target::Client(ClientKey(key)));
        }
        assert_eq!(Target::of(EVENT_LISTENER), Target::SourceListener);
        assert_eq!(Target::of(CLIENT_LISTENER), Target::ClientListener);
    }
}
