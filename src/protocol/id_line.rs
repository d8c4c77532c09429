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

/// Why a line is no id line.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdLineError {
    /// The line, or its part before the first `|`, is no user id.
    #[error("the user ID is not 1 to 20 digits that fit 64 bits")]
    BadUserId,
    /// The part after the first `|` is no sequence.
    #[error("what follows the | is not a sequence: 1 to 20 digits, at most 18446744073709551614")]
    BadSequence,
}

impl IdLine {
    /// Parses an id line without its terminator.
    ///
    /// # Errors
    ///
    /// The line is malformed.
    pub fn parse(line: &[u8]) -> Result<IdLine, IdLineError> {
        let (user, after) = match memchr::memchr(b'|', line) {
            None => (line, None),
            Some(separator) => (&line[..separator], Some(&line[separator + 1..])),
        };
        let user = UserId::parse(user).ok_or(IdLineError::BadUserId)?;
        let Some(after) = after else { return Ok(IdLine { user, after: None }) };
        match split_sequence(after) {
            Some((sequence, [])) => Ok(IdLine { user, after: Some(sequence) }),
            _ => Err(IdLineError::BadSequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(u64, Option<u64>)> {
        let IdLine { user, after } = IdLine::parse(line.as_bytes()).ok()?;
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

    #[test]
    fn the_error_names_the_wrong_part() {
        let error = |line: &str| IdLine::parse(line.as_bytes()).unwrap_err();
        for line in ["", "x", "|", "x|1", "|1", "1 ", "18446744073709551616"] {
            assert_eq!(error(line), IdLineError::BadUserId, "{line}");
        }
        for line in ["1|", "1|x", "1|2|", "1|2|3", "1|-2", "1|18446744073709551615"] {
            assert_eq!(error(line), IdLineError::BadSequence, "{line}");
        }
    }
}
