//! The fast path of the parser, for short and well-formed lines: nearly all lines.
//!
//! It parses eight digits at a time from a padded [`Line`](super::Line) and finds the line's end in the
//! same pass. It returns `None` for anything unusual, which [`Event::parse`] then decides.

use std::num::TryFromIntError;

use super::line::PADDED_LINE_BYTES;
use super::{Event, EventKind, Sequence, UserId};

/// An event with user ids of 32 bits, as the fast path parses it and the reorder buffer stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactEvent {
    /// The position in the total order.
    pub sequence: Sequence,
    /// The type.
    pub tag: EventTag,
    /// The user ids in the order of the line, 0 for missing ones.
    pub users: [u32; 2],
}

/// The type of an event, without its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTag {
    /// Follow.
    F,
    /// Unfollow.
    U,
    /// Broadcast.
    B,
    /// Private message.
    P,
    /// Status update.
    S,
}

/// The end of a line within padded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// The length of the line, in bytes.
    pub(super) len: usize,
    /// The length of the line with its terminator, in bytes.
    pub(super) wire_len: usize,
}

/// Fails if a user id needs more than 32 bits.
impl TryFrom<&Event> for CompactEvent {
    type Error = TryFromIntError;

    fn try_from(event: &Event) -> Result<CompactEvent, TryFromIntError> {
        let (tag, first, second) = match event.kind {
            EventKind::Follow { follower, followed } => (EventTag::F, follower, followed),
            EventKind::Unfollow { follower, followed } => (EventTag::U, follower, followed),
            EventKind::Broadcast => (EventTag::B, UserId(0), UserId(0)),
            EventKind::PrivateMessage { from, to } => (EventTag::P, from, to),
            EventKind::StatusUpdate { from } => (EventTag::S, from, UserId(0)),
        };
        let users = [first.0.try_into()?, second.0.try_into()?];
        Ok(CompactEvent { sequence: event.sequence, tag, users })
    }
}

impl From<CompactEvent> for Event {
    #[inline]
    fn from(compact: CompactEvent) -> Event {
        Event { sequence: compact.sequence, kind: compact.tag.to_kind(compact.users) }
    }
}

impl EventTag {
    /// Returns the event kind of this type with the given user ids.
    #[inline]
    #[must_use]
    pub fn to_kind(self, users: [u32; 2]) -> EventKind {
        let [first, second] = users.map(|id| UserId(u64::from(id)));
        match self {
            EventTag::F => EventKind::Follow { follower: first, followed: second },
            EventTag::U => EventKind::Unfollow { follower: first, followed: second },
            EventTag::B => EventKind::Broadcast,
            EventTag::P => EventKind::PrivateMessage { from: first, to: second },
            EventTag::S => EventKind::StatusUpdate { from: first },
        }
    }
}

/// The event types, indexed by their letter. The lookup is branch-free.
static TAGS: [Option<TagInfo>; 256] = {
    let mut tags = [None; 256];
    tags[b'F' as usize] = Some(TagInfo { tag: EventTag::F, users: 2 });
    tags[b'U' as usize] = Some(TagInfo { tag: EventTag::U, users: 2 });
    tags[b'B' as usize] = Some(TagInfo { tag: EventTag::B, users: 0 });
    tags[b'P' as usize] = Some(TagInfo { tag: EventTag::P, users: 2 });
    tags[b'S' as usize] = Some(TagInfo { tag: EventTag::S, users: 1 });
    tags
};

/// An event type and its number of user ids.
#[derive(Clone, Copy)]
struct TagInfo {
    tag: EventTag,
    users: u8,
}

/// A position in a padded line.
struct Cursor<'a> {
    padded: &'a [u8; PADDED_LINE_BYTES],
    at: usize,
}

/// Parses the event at the start of `padded` and finds its end. Returns `None` if the fast path cannot
/// decide.
// inline(always), and likewise all callees: a returned value would go through memory.
#[inline(always)]
pub(super) fn parse_fast(padded: &[u8; PADDED_LINE_BYTES]) -> Option<(CompactEvent, LineEnd)> {
    let mut cursor = Cursor { padded, at: 0 };
    let sequence = Sequence::new(cursor.parse_sequence()?)?;
    let TagInfo { tag, users } = cursor.parse_tag()?;
    let first = if users >= 1 { cursor.parse_user_id()? } else { 0 };
    let second = if users == 2 { cursor.parse_user_id()? } else { 0 };
    Some((CompactEvent { sequence, tag, users: [first, second] }, cursor.parse_line_end()?))
}

impl Cursor<'_> {
    /// Parses `|` and a letter.
    #[inline(always)]
    fn parse_tag(&mut self) -> Option<TagInfo> {
        let [bar, letter] = *self.padded[self.at..].first_chunk()?;
        self.at += 2;
        TAGS[usize::from(letter)].filter(|_| bar == b'|')
    }

    /// Parses the terminator.
    #[inline(always)]
    fn parse_line_end(&self) -> Option<LineEnd> {
        let len = self.at;
        match self.padded.get(len..)? {
            [b'\n', ..] => Some(LineEnd { len, wire_len: len + 1 }),
            [b'\r', b'\n', ..] => Some(LineEnd { len, wire_len: len + 2 }),
            _ => None,
        }
    }

    /// Parses `|` and a number of 1 to 8 digits.
    #[inline(always)]
    fn parse_user_id(&mut self) -> Option<u32> {
        if *self.padded.get(self.at)? != b'|' {
            return None;
        }
        self.at += 1;
        let (number, digits) = self.parse_digits8()?;
        self.at += digits;
        (digits > 0).then_some(number)
    }

    /// Parses a number of 1 to 15 digits.
    #[inline(always)]
    fn parse_sequence(&mut self) -> Option<u64> {
        let (high, digits) = self.parse_digits8()?;
        self.at += digits;
        match digits {
            0 => None,
            1..8 => Some(u64::from(high)),
            _ => {
                let (low, digits) = self.parse_digits8()?;
                self.at += digits;
                Some(u64::from(high) * POWERS_OF_TEN.get(digits)? + u64::from(low))
            }
        }
    }

    /// Parses the leading digits of the next eight bytes. Returns their number and their count.
    ///
    /// Works on the eight bytes of a word at once (SWAR): Lemire, "Quickly parsing eight digits" (2018).
    #[inline(always)]
    fn parse_digits8(&self) -> Option<(u32, usize)> {
        let bytes = *self.padded.get(self.at..)?.first_chunk()?;
        // Maps digits to 0 to 9 and all other bytes to values above 9.
        let word = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
        // Sets the high bit of bytes above 9. Exact up to the first such byte; carries may disturb
        // later ones.
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let digits = leading_digits(others);
        if digits == 0 {
            return Some((0, 0));
        }
        // Pads with leading zeros: the first digit is the lowest byte.
        let word = word << (64 - 8 * digits);
        let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
        let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
        let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
        Some(((low.wrapping_add(high) >> 32) as u32, digits))
    }
}

/// Counts the bytes of a word before the first one with its high bit set.
///
/// A loop instead of `trailing_zeros`: its exit is predicted, so parsing continues speculatively. The
/// instruction's data dependency costs 3 ns per line.
#[inline(always)]
fn leading_digits(mut word: u64) -> usize {
    let mut bytes = 0;
    while bytes < 8 && word & 0x80 == 0 {
        word >>= 8;
        bytes += 1;
    }
    bytes
}

/// The factors for the up to seven digits of a second word.
const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_line(line: &str, terminator: &str) -> Option<(Event, LineEnd)> {
        let stream = format!("{line}{terminator}{}", "7|B\n".repeat(10));
        let (event, end) = parse_fast(stream.as_bytes().first_chunk().unwrap())?;
        Some((Event::from(event), end))
    }

    #[test]
    fn typical_lines_take_the_fast_path() {
        for line in [
            "1|B",
            "10000000|B",
            "999999999999|B",
            "999999999999999|B",
            "1|S|1",
            "1|F|1|2",
            "10000000|U|1000|999",
            "10000000|P|123456|1",
            "0012|P|007|0",
            "1234567|F|12345678|87654321",
        ] {
            for terminator in ["\n", "\r\n"] {
                let (event, end) = parse_line(line, terminator).expect(line);
                assert_eq!(Ok(event), Event::parse(line.as_bytes()));
                assert_eq!(end.len, line.len());
                assert_eq!(end.wire_len, line.len() + terminator.len());
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_complete_parser_or_declines(
            line in "[0-9]{0,17}(\\|[FUBPSX]?)?(\\|[0-9]{0,9}){0,3}[|0-9 :/]?",
            terminator in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("")],
        ) {
            if let Some((event, end)) = parse_line(&line, terminator) {
                // Without a terminator the line continues with what follows.
                let whole = if terminator.ends_with('\n') { line } else { line + terminator + "7|B" };
                prop_assert_eq!(end.len, whole.len());
                prop_assert_eq!(Ok(event), Event::parse(whole.as_bytes()));
            }
        }

        #[test]
        fn arbitrary_bytes_agree(
            padded in proptest::collection::vec(
                prop_oneof![
                    Just(b'|'), Just(b'\n'), Just(b'\r'), b'0'..=b'9', Just(b'P'), Just(b'B'), any::<u8>(),
                ],
                PADDED_LINE_BYTES,
            ),
        ) {
            if let Some((event, end)) = parse_fast(padded.first_chunk().unwrap()) {
                prop_assert_eq!(Ok(Event::from(event)), Event::parse(&padded[..end.len]));
                prop_assert_eq!(padded[end.wire_len - 1], b'\n');
            }
        }

        #[test]
        fn compact_roundtrip(sequence in 0..u64::MAX - 1, users: [u32; 2], tag in 0..5_usize) {
            let tag = [EventTag::F, EventTag::U, EventTag::B, EventTag::P, EventTag::S][tag];
            let sequence = Sequence::new(sequence).unwrap();
            let event = Event { sequence, kind: tag.to_kind(users) };
            let compact = CompactEvent::try_from(&event).unwrap();
            prop_assert_eq!(Event::from(compact), event);
        }
    }
}
