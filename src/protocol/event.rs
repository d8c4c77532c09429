//! One line of an event source, as a value.

use std::fmt;

/// The position of an event in the one total order: 0 … 2⁶⁴−2.
///
/// The largest 64-bit number is left out so that "the one after" always exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// The last sequence that an event can carry.
    pub const MAX: Sequence = Sequence(u64::MAX - 1);

    /// `None` for 2⁶⁴−1, which is no sequence.
    #[must_use]
    pub const fn new(number: u64) -> Option<Sequence> {
        if number <= Self::MAX.0 { Some(Sequence(number)) } else { None }
    }

    /// The sequence as a plain number.
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

/// A user: any 64-bit number. Leading zeros do not count, `007` is user 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

impl UserId {
    /// Reads the line with which a client introduces itself, without its terminator.
    ///
    /// `None` unless it is 1 to 20 ASCII digits that fit 64 bits.
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

/// What happened, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `sequence|F|follower|followed`
    Follow {
        /// Who follows from now on.
        follower: UserId,
        /// Who is followed, and is told.
        followed: UserId,
    },
    /// `sequence|U|follower|followed`
    Unfollow {
        /// Who stops following.
        follower: UserId,
        /// Who loses a follower, and is not told.
        followed: UserId,
    },
    /// `sequence|B`
    Broadcast,
    /// `sequence|P|from|to`
    PrivateMessage {
        /// Who wrote it; the server has no use for it beyond the check that it is a number.
        from: UserId,
        /// Who is told.
        to: UserId,
    },
    /// `sequence|S|from`
    StatusUpdate {
        /// Whose followers are told.
        from: UserId,
    },
}

/// A well-formed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order.
    pub sequence: Sequence,
    /// What it says.
    pub kind: EventKind,
}

/// Why a line is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The sequence of the line where one could be read: the order goes on without the event.
    pub sequence: Option<Sequence>,
    /// What is wrong with the line.
    pub reason: ParseErrorKind,
}

/// What is wrong with a line that is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// It does not start with a number that can be a sequence.
    NoSequence,
    /// What follows the sequence is none of `F`, `U`, `B`, `P`, `S`, one letter and alone.
    UnknownType,
    /// It has fewer or more fields than its type takes.
    WrongFieldCount,
    /// A user id is not 1 to 20 digits that fit 64 bits.
    BadUserId,
    /// It is longer than `max_line_bytes`.
    TooLong,
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseErrorKind::NoSequence => "no sequence number in front",
            ParseErrorKind::UnknownType => "its type is none of F, U, B, P, S",
            ParseErrorKind::WrongFieldCount => "too few or too many fields for its type",
            ParseErrorKind::BadUserId => "a user id is not 1 to 20 digits that fit 64 bits",
            ParseErrorKind::TooLong => "longer than max_line_bytes",
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for ParseError {}

impl Event {
    /// Reads one line, without its terminator.
    ///
    /// # Errors
    ///
    /// Says what is wrong, and carries the sequence where the bytes before the first `|` are one.
    pub fn parse(line: &[u8]) -> Result<Event, ParseError> {
        let Some((sequence, rest)) = split_sequence(line) else {
            return Err(ParseError { sequence: None, reason: ParseErrorKind::NoSequence });
        };
        match EventKind::parse(rest) {
            Ok(kind) => Ok(Event { sequence, kind }),
            Err(reason) => Err(ParseError { sequence: Some(sequence), reason }),
        }
    }

    /// What the server makes of a line of which it kept the first bytes only.
    #[must_use]
    pub fn too_long(head: &[u8]) -> ParseError {
        // A line without `|` is a sequence as a whole or not at all; as this one goes on after
        // `head`, only a sequence that `head` shows to be ended counts.
        let sequence =
            split_sequence(head).filter(|(_, rest)| !rest.is_empty()).map(|(sequence, _)| sequence);
        ParseError { sequence, reason: ParseErrorKind::TooLong }
    }
}

impl EventKind {
    /// Reads what follows the sequence, from its `|` on.
    fn parse(fields: &[u8]) -> Result<EventKind, ParseErrorKind> {
        use ParseErrorKind::{UnknownType, WrongFieldCount};

        let [b'|', letter, fields @ ..] = fields else {
            return Err(if fields.is_empty() { WrongFieldCount } else { UnknownType });
        };
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

/// Reads `|number`; what is left starts with the next `|` or is empty.
fn next_user(fields: &[u8]) -> Result<(UserId, &[u8]), ParseErrorKind> {
    let [b'|', number @ ..] = fields else { return Err(ParseErrorKind::WrongFieldCount) };
    match split_number(number) {
        Some((id, rest @ ([] | [b'|', ..]))) => Ok((UserId(id), rest)),
        _ => Err(ParseErrorKind::BadUserId),
    }
}

/// Splits a line behind its sequence: what is left starts with `|` or is empty.
fn split_sequence(line: &[u8]) -> Option<(Sequence, &[u8])> {
    match split_number(line)? {
        (number, rest @ ([] | [b'|', ..])) => Some((Sequence::new(number)?, rest)),
        _ => None,
    }
}

/// The most digits that fit 64 bits whatever they are.
const SAFE_DIGITS: usize = 19;
/// The most digits that a number may have, leading zeros included.
const MAX_DIGITS: usize = 20;

/// Splits `bytes` behind the number in front: 1 to 20 digits that fit 64 bits.
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

/// The same for 20 digits or more, where the number may not fit.
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
    fn a_line_too_long_is_known_by_its_first_bytes() {
        assert_eq!(Event::too_long(b"12|S|00000").sequence, Some(sequence(12)));
        assert_eq!(Event::too_long(b"12|").sequence, Some(sequence(12)));
        assert_eq!(Event::too_long(b"12").sequence, None, "the number may go on");
        assert_eq!(Event::too_long(b"x12|S|1").sequence, None);
        assert_eq!(Event::too_long(b"18446744073709551615|B").sequence, None);
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
    fn a_sequence_leaves_room_for_the_next() {
        assert_eq!(Sequence::new(u64::MAX), None);
        assert_eq!(Sequence::new(u64::MAX - 1), Some(Sequence::MAX));
    }
}
