//! The captured stream together with what it has to cause.

use crate::support::captured_bytes;

const EXPECTED: &str = include_str!("../../tests/data/verification-20k.expected");

/// What one of the connected users must receive.
pub(crate) struct Expected {
    pub(crate) user: u64,
    pub(crate) events: u64,
}

/// A source's bytes, and what they mean for whom.
pub(crate) struct CapturedStream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Vec<Expected>,
}

impl CapturedStream {
    /// How many events it has.
    pub(crate) const EVENTS: u64 = 20_000;

    pub(crate) fn open() -> CapturedStream {
        CapturedStream {
            bytes: captured_bytes(),
            expected: EXPECTED.lines().map(expected).collect(),
        }
    }
}

/// A user id, a count and a digest of the lines, which is not looked at.
fn expected(line: &str) -> Expected {
    let mut fields = line.split('\t').map(str::parse);
    let mut number = || fields.next().unwrap().unwrap();
    Expected { user: number(), events: number() }
}
