//! First bytes of a connection, before a run.

/// What one side says before a run.
#[derive(Default)]
pub(crate) struct Handshake {
    pub(crate) text: Vec<u8>,
    /// What the server answers ends like this; empty where it answers nothing.
    pub(crate) expected_suffix: &'static [u8],
}

impl Handshake {
    /// The line with which a client tells an event server who it is.
    pub(crate) fn of_user(user: u64) -> Handshake {
        Handshake { text: format!("{user}\n").into_bytes(), expected_suffix: b"" }
    }
}
