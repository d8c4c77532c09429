//! Errors of a journal.

use std::{fmt, io};

use super::FORMAT_VERSION;

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{operation}: {error}")]
    Io {
        /// The operation and its file, as in "cannot read FILE".
        operation: String,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The content is wrong, and not as a crash leaves it.
    #[error("{0}")]
    Corrupt(Corruption),
    /// A file was written in another version of the format.
    #[error(
        "{file} has journal format version {version}, this program reads versions up to \
         {FORMAT_VERSION}: run the {} of eventserver that wrote it",
        if *version > FORMAT_VERSION { "newer version" } else { "older version" }
    )]
    Version {
        /// The name of the file.
        file: String,
        /// The version of the file.
        version: u16,
    },
    /// The journal starts with another sequence than the configured one.
    #[error(
        "the journal starts with sequence {recorded}, but first_sequence is {configured}: run with \
         --first-sequence {recorded}, or choose an empty data_dir"
    )]
    FirstSequence {
        /// The configured first sequence.
        configured: u64,
        /// The first sequence of the journal.
        recorded: u64,
    },
}

/// A place in a journal where the content is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The name of the file.
    pub file: String,
    /// The offset within the file, in bytes.
    pub offset: u64,
    /// The first sequence concerned.
    pub first: u64,
    /// The sequence at which the journal continues, if that is known.
    pub next: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl Error {
    /// Creates a function that adds the operation to an error, for `map_err`.
    pub(super) fn io(operation: &str, file: &str) -> impl FnOnce(io::Error) -> Error {
        let operation = format!("cannot {operation} {file}");
        move |error| Error::Io { operation, error }
    }

    /// Returns whether the content is wrong.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, Error::Corrupt(_))
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { file, offset, first, next, reason } = self;
        write!(f, "{file} is corrupt at offset {offset}: {reason}; ")?;
        match next {
            Some(next) if next > first => {
                write!(f, "sequences {first} to {} are concerned", next - 1)
            }
            _ => write!(f, "sequences from {first} on are concerned"),
        }
    }
}
