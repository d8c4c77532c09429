//! The captured stream and its expected deliveries.

use crate::support::captured_bytes;

const EXPECTED: &str = include_str!("../../tests/data/verification-20k.expected");

/// Expected deliveries of one connected user.
pub(crate) struct Expected {
    pub(crate) user: u64,
    pub(crate) events: u64,
}

/// A source's bytes, and the expected deliveries.
pub(crate) struct CapturedStream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Vec<Expected>,
}

impl CapturedStream {
    /// Number of its events.
    pub(crate) const EVENTS: u64 = 20_000;

    pub(crate) fn open() -> CapturedStream {
        CapturedStream {
            bytes: captured_bytes(),
            expected: EXPECTED.lines().map(expected).collect(),
        }
    }
}

/// Parses a user ID and a count; the digest after them is not used.
fn expected(line: &str) -> Expected {
    let mut fields = line.split('\t').map(str::parse);
    let mut number = || fields.next().unwrap().unwrap();
    Expected { user: number(), events: number() }
}
