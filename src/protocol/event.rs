//! Events and the general parser of a line. [`EventDecoder`](super::EventDecoder) parses most lines by the
//! shorter path of `fast_path.rs`.

use std::fmt;

/// The position of an event in the total order: 0 … 2⁶⁴−2.
///
/// The largest 64-bit number is excluded so that every sequence has a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// The largest sequence that an event can carry.
    pub const MAX: Sequence = Sequence(u64::MAX - 1);

    /// Creates a sequence. Returns `None` for 2⁶⁴−1, which is not one.
    #[must_use]
    pub const fn new(number: u64) -> Option<Sequence> {
        if number <= Self::MAX.0 { Some(Sequence(number)) } else { None }
    }

    /// Returns the sequence as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user id: any 64-bit number. Leading zeros are ignored: `007` is user 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

impl UserId {
    /// Parses the id line of a client, without its terminator.
    ///
    /// Returns `None` unless it is 1 to 20 ASCII digits that fit 64 bits.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<UserId> {
        let (id, rest) = split_number(line)?;
        rest.is_empty().then_some(UserId(id))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The type of an event with its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `sequence|F|follower|followed`
    Follow {
        /// The user that starts to follow.
        follower: UserId,
        /// The followed user: the recipient.
        followed: UserId,
    },
    /// `sequence|U|follower|followed`
    Unfollow {
        /// The user that stops following.
        follower: UserId,
        /// The user that loses a follower. An unfollow has no recipient.
        followed: UserId,
    },
    /// `sequence|B`
    Broadcast,
    /// `sequence|P|from|to`
    PrivateMessage {
        /// The author. The server only checks that it is a number.
        from: UserId,
        /// The recipient.
        to: UserId,
    },
    /// `sequence|S|from`
    StatusUpdate {
        /// The author, whose followers are the recipients.
        from: UserId,
    },
}

/// A parsed, well-formed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The position in the total order.
    pub sequence: Sequence,
    /// The type and its users.
    pub kind: EventKind,
}

/// Why a line is not an event.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct ParseError {
    /// The sequence of the line, if it is readable. The line then uses up this sequence as a void.
    pub sequence: Option<Sequence>,
    /// The kind of error.
    pub reason: ParseErrorKind,
}

/// The kinds of parse errors.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The line does not start with a valid sequence.
    #[error("no sequence number at the start")]
    NoSequence,
    /// The second field is not exactly one of `F`, `U`, `B`, `P`, `S`.
    #[error("the type is not one of F, U, B, P, S")]
    UnknownType,
    /// The line has fewer or more fields than its type requires.
    #[error("too few or too many fields for the type")]
    WrongFieldCount,
    /// A user id is not 1 to 20 digits that fit 64 bits.
    #[error("a user id is not 1 to 20 digits that fit 64 bits")]
    BadUserId,
    /// The line is longer than `max_line_bytes`.
    #[error("longer than --max-line-bytes")]
    TooLong,
}

impl Event {
    /// Parses one line, without its terminator.
    ///
    /// # Errors
    ///
    /// The line is malformed. The error carries the sequence if the bytes before the first `|` are one.
    pub fn parse(line: &[u8]) -> Result<Event, ParseError> {
        let Some((sequence, rest)) = split_sequence(line) else {
            return Err(ParseError { sequence: None, reason: ParseErrorKind::NoSequence });
        };
        match EventKind::parse(rest) {
            Ok(kind) => Ok(Event { sequence, kind }),
            Err(reason) => Err(ParseError { sequence: Some(sequence), reason }),
        }
    }
}

impl ParseError {
    /// Returns the error of a line over the limit, of which only `prefix` was kept.
    #[must_use]
    pub fn line_too_long(prefix: &[u8]) -> ParseError {
        // The line continues after `prefix`, so digits at its end may be part of a longer number.
        let sequence = split_sequence(prefix)
            .filter(|(_, rest)| !rest.is_empty())
            .map(|(sequence, _)| sequence);
        ParseError { sequence, reason: ParseErrorKind::TooLong }
    }
}

impl EventKind {
    /// Parses the fields after the sequence, starting with their `|`.
    fn parse(fields: &[u8]) -> Result<EventKind, ParseErrorKind> {
        match fields {
            [] => Err(ParseErrorKind::WrongFieldCount),
            [b'|', fields @ ..] => EventKind::parse_fields(fields),
            _ => Err(ParseErrorKind::UnknownType),
        }
    }

    /// Parses the fields after the sequence and its `|`, starting with the letter.
    pub(crate) fn parse_fields(fields: &[u8]) -> Result<EventKind, ParseErrorKind> {
        use ParseErrorKind::{UnknownType, WrongFieldCount};

        let [letter, fields @ ..] = fields else { return Err(UnknownType) };
        if !matches!(fields, [] | [b'|', ..]) {
            return Err(UnknownType);
        }
        match letter {
            b'P' => two_users(fields).map(|(from, to)| EventKind::PrivateMessage { from, to }),
            b'S' => one_user(fields).map(|from| EventKind::StatusUpdate { from }),
            b'F' => two_users(fields)
                .map(|(follower, followed)| EventKind::Follow { follower, followed }),
            b'U' => two_users(fields)
                .map(|(follower, followed)| EventKind::Unfollow { follower, followed }),
            b'B' if fields.is_empty() => Ok(EventKind::Broadcast),
            b'B' => Err(WrongFieldCount),
            _ => Err(UnknownType),
        }
    }
}

fn one_user(fields: &[u8]) -> Result<UserId, ParseErrorKind> {
    let (user, rest) = next_user(fields)?;
    if rest.is_empty() { Ok(user) } else { Err(ParseErrorKind::WrongFieldCount) }
}

fn two_users(fields: &[u8]) -> Result<(UserId, UserId), ParseErrorKind> {
    let (first, rest) = next_user(fields)?;
    let second = one_user(rest)?;
    Ok((first, second))
}

/// Parses `|number`. The returned rest starts with the next `|` or is empty.
fn next_user(fields: &[u8]) -> Result<(UserId, &[u8]), ParseErrorKind> {
    let [b'|', number @ ..] = fields else { return Err(ParseErrorKind::WrongFieldCount) };
    match split_number(number) {
        Some((id, rest @ ([] | [b'|', ..]))) => Ok((UserId(id), rest)),
        _ => Err(ParseErrorKind::BadUserId),
    }
}

/// Splits a line after its sequence. The returned rest starts with `|` or is empty.
pub(crate) fn split_sequence(line: &[u8]) -> Option<(Sequence, &[u8])> {
    match split_number(line)? {
        (number, rest @ ([] | [b'|', ..])) => Some((Sequence::new(number)?, rest)),
        _ => None,
    }
}

/// The number of digits that fit 64 bits whatever their values.
const SAFE_DIGITS: usize = 19;
/// The maximum number of digits, leading zeros included.
const MAX_DIGITS: usize = 20;

/// Splits `bytes` after the leading number: 1 to 20 digits that fit 64 bits.
fn split_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (digits, byte) in bytes.iter().enumerate() {
        match digit(byte) {
            Some(_) if digits == SAFE_DIGITS => return split_long_number(bytes),
            Some(digit) => number = number * 10 + digit,
            None if digits == 0 => return None,
            None => return Some((number, &bytes[digits..])),
        }
    }
    if bytes.is_empty() { None } else { Some((number, &[])) }
}

/// Splits after a leading number of 20 or more digits, which may overflow.
#[cold]
fn split_long_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > MAX_DIGITS {
        return None;
    }
    let (number, rest) = bytes.split_at(digits);
    let number = number
        .iter()
        .filter_map(digit)
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(digit))?;
    Some((number, rest))
}

fn digit(byte: &u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    fn parse(line: &str) -> Result<Event, ParseError> {
        Event::parse(line.as_bytes())
    }

    fn parsed(line: &str) -> (u64, EventKind) {
        let event = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        (event.sequence.get(), event.kind)
    }

    #[test]
    fn valid_lines() {
        let (a, b) = (UserId(60), UserId(50));
        assert_eq!(parsed("666|F|60|50"), (666, EventKind::Follow { follower: a, followed: b }));
        let (a, b) = (UserId(12), UserId(9));
        assert_eq!(parsed("1|U|12|9"), (1, EventKind::Unfollow { follower: a, followed: b }));
        assert_eq!(parsed("542532|B"), (542_532, EventKind::Broadcast));
        let (from, to) = (UserId(32), UserId(56));
        assert_eq!(parsed("43|P|32|56"), (43, EventKind::PrivateMessage { from, to }));
        assert_eq!(parsed("634|S|32"), (634, EventKind::StatusUpdate { from }));
        let (a, b) = (UserId(1_234_567_890), UserId(1_234_567_891));
        assert_eq!(
            parsed("1234567890|F|1234567890|1234567891"),
            (1_234_567_890, EventKind::Follow { follower: a, followed: b })
        );
        assert_eq!(parsed("12|S|23"), (12, EventKind::StatusUpdate { from: UserId(23) }));
        assert_eq!(parsed("0012|B"), (12, EventKind::Broadcast));
        assert_eq!(parsed("0|B"), (0, EventKind::Broadcast));
        assert_eq!(
            parsed("18446744073709551614|S|18446744073709551615"),
            (u64::MAX - 1, EventKind::StatusUpdate { from: UserId(u64::MAX) })
        );
        assert_eq!(parsed("00000000000000000001|B"), (1, EventKind::Broadcast));
    }

    #[test]
    fn malformed_lines_with_a_readable_sequence() {
        use ParseErrorKind::{BadUserId, UnknownType, WrongFieldCount};
        for (line, number, reason) in [
            ("12|F", 12, WrongFieldCount),
            ("12|F|12", 12, WrongFieldCount),
            ("1|F||2", 1, BadUserId),
            ("1|F|2|", 1, BadUserId),
            ("1|U|2|3|4", 1, WrongFieldCount),
            ("43|P|32|56|", 43, WrongFieldCount),
            ("666|F|60||50", 666, BadUserId),
            ("1|X|1|10", 1, UnknownType),
            ("1|b", 1, UnknownType),
            ("1|B|2", 1, WrongFieldCount),
            ("1|B|", 1, WrongFieldCount),
            ("1|BB", 1, UnknownType),
            ("1||B", 1, UnknownType),
            ("12|S|", 12, BadUserId),
            ("12|S|23|23", 12, WrongFieldCount),
            ("666|", 666, UnknownType),
            ("123224", 123_224, WrongFieldCount),
            ("1|P|-1|2", 1, BadUserId),
            ("1|P|+1|2", 1, BadUserId),
            ("1|U|12|9.456", 1, BadUserId),
            ("1|S|18446744073709551616", 1, BadUserId),
            ("1|S|99999999999999999999", 1, BadUserId),
            ("1|S|000000000000000000001", 1, BadUserId),
            ("1|S|1 ", 1, BadUserId),
            ("1|S| 1", 1, BadUserId),
            ("1|B\r", 1, UnknownType),
            ("1|S|\u{661}", 1, BadUserId),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error, ParseError { sequence: Some(sequence(number)), reason }, "{line}");
        }
    }

    #[test]
    fn malformed_lines_without_a_sequence() {
        for line in [
            "",
            "abcd",
            "|",
            "|||",
            "|B",
            "A3|P|32|56",
            "-1|B",
            "+1|B",
            " 1|B",
            "1 |B",
            "99999999999999999999|B",
            "18446744073709551616|B",
            "18446744073709551615|B",
            "000000000000000000001|B",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(
                error,
                ParseError { sequence: None, reason: ParseErrorKind::NoSequence },
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_too_long_keeps_a_complete_sequence() {
        assert_eq!(ParseError::line_too_long(b"12|S|00000").sequence, Some(sequence(12)));
        assert_eq!(ParseError::line_too_long(b"12|").sequence, Some(sequence(12)));
        assert_eq!(ParseError::line_too_long(b"12").sequence, None, "the number may continue");
        assert_eq!(ParseError::line_too_long(b"x12|S|1").sequence, None);
        assert_eq!(ParseError::line_too_long(b"18446744073709551615|B").sequence, None);
    }

    #[test]
    fn id_lines() {
        assert_eq!(UserId::parse(b"2932"), Some(UserId(2932)));
        assert_eq!(UserId::parse(b"007"), Some(UserId(7)));
        assert_eq!(UserId::parse(b"18446744073709551615"), Some(UserId(u64::MAX)));
        for line in ["", " 1", "1 ", "-1", "+1", "1|", "abc", "18446744073709551616", "1.0"] {
            assert_eq!(UserId::parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(UserId::parse(b"000000000000000000001"), None, "21 digits");
    }

    #[test]
    fn every_sequence_has_a_successor() {
        assert_eq!(Sequence::new(u64::MAX), None);
        assert_eq!(Sequence::new(u64::MAX - 1), Some(Sequence::MAX));
    }
}
