//! What operators see of a stream that several servers share.

/// How a server follows the stream. Passed on by the log to the hub, which depend on nothing else in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// The last position that was read.
    pub position: u64,
    /// The last position of the stream, as far as it is known.
    pub end: u64,
    /// Own entries that were read back.
    pub own_entries: u64,
    /// Entries of other servers that were read.
    pub other_entries: u64,
    /// Own batches that others had covered when they were appended.
    pub covered_batches: u64,
    /// Entries that were appended again, because the engine had lost them.
    pub repaired_entries: u64,
    /// The number of connections that were dropped after an error.
    pub errors: u64,
    /// Bytes of entries that are kept to be appended again.
    pub retained_bytes: u64,
    /// Why this server does not follow the stream at present: a short name.
    pub trouble: Option<&'static str>,
}
