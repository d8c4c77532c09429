//! The opening handshake of a connection.

/// Bytes that the load generator sends first, and the reply that it waits for.
#[derive(Default)]
pub(crate) struct Handshake {
    pub(crate) text: Vec<u8>,
    /// Suffix of the server's reply; empty if the server does not reply.
    pub(crate) expected_suffix: &'static [u8],
}

impl Handshake {
    /// The id line of a client of an event server.
    pub(crate) fn of_user(user: u64) -> Handshake {
        Handshake { text: format!("{user}\n").into_bytes(), expected_suffix: b"" }
    }

    /// The id line of a client that comes back, and has everything up to a sequence.
    pub(crate) fn of_returning_user(user: u64, sequence: u64) -> Handshake {
        Handshake { text: format!("{user}|{sequence}\n").into_bytes(), expected_suffix: b"" }
    }
}
