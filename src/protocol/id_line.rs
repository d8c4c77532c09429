//! The id line of a client.

use super::event::{Sequence, UserId, split_sequence};

/// The first line of a client: `ID`, or `ID|SEQUENCE` to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdLine {
    /// The user.
    pub user: UserId,
    /// The client has everything up to this sequence. `None` without a sequence: it wants live events only.
    pub after: Option<Sequence>,
}

impl IdLine {
    /// Parses an id line without its terminator. Returns `None` if it is malformed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<IdLine> {
        let Some(separator) = memchr::memchr(b'|', line) else {
            return Some(IdLine { user: UserId::parse(line)?, after: None });
        };
        let user = UserId::parse(&line[..separator])?;
        match split_sequence(&line[separator + 1..])? {
            (sequence, []) => Some(IdLine { user, after: Some(sequence) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(u64, Option<u64>)> {
        let IdLine { user, after } = IdLine::parse(line.as_bytes())?;
        Some((user.0, after.map(Sequence::get)))
    }

    #[test]
    fn a_sequence_may_follow_the_id() {
        assert_eq!(parse("2932"), Some((2932, None)));
        assert_eq!(parse("2932|17"), Some((2932, Some(17))));
        assert_eq!(parse("007|00"), Some((7, Some(0))));
        assert_eq!(
            parse("18446744073709551615|18446744073709551614"),
            Some((u64::MAX, Some(u64::MAX - 1)))
        );
        for line in [
            "",
            "|",
            "1|",
            "|1",
            "1|2|",
            "1|2|3",
            "1||2",
            "1|-2",
            "1|+2",
            "1| 2",
            "1|2 ",
            "a|2",
            "1|a",
            "1|18446744073709551615",
            "1|000000000000000000001",
            "1\t2",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
