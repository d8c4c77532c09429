//! The parser for short lines: what nearly all lines go through.
//!
//! It reads eight digits at a time from the window of a [`Line`](super::Line), recognises the line's
//! end on the way, and gives up at anything unusual: then the plain parser decides.

use super::line::PADDED_LINE_BYTES;
use super::{Event, EventKind, Sequence, UserId};

/// An event as a short line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactEvent {
    /// Its place in the order.
    pub sequence: Sequence,
    /// Its type.
    pub letter: EventTag,
    /// The user ids in the order of the line, 0 where it has none.
    pub users: [u32; 2],
}

/// The type of an event.
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

/// Where a line in a window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// Bytes of the line.
    pub(super) len: usize,
    /// Bytes of the line and its terminator.
    pub(super) wire_len: usize,
}

impl CompactEvent {
    /// The same in few bytes, or `None` where a user id needs more than 32 bits.
    #[must_use]
    pub fn pack(event: &Event) -> Option<CompactEvent> {
        let (letter, first, second) = match event.kind {
            EventKind::Follow { follower, followed } => (EventTag::F, follower, followed),
            EventKind::Unfollow { follower, followed } => (EventTag::U, follower, followed),
            EventKind::Broadcast => (EventTag::B, UserId(0), UserId(0)),
            EventKind::PrivateMessage { from, to } => (EventTag::P, from, to),
            EventKind::StatusUpdate { from } => (EventTag::S, from, UserId(0)),
        };
        let users = [u32::try_from(first.0).ok()?, u32::try_from(second.0).ok()?];
        Some(CompactEvent { sequence: event.sequence, letter, users })
    }
}

impl From<CompactEvent> for Event {
    #[inline]
    fn from(short: CompactEvent) -> Event {
        Event { sequence: short.sequence, kind: short.letter.with(short.users) }
    }
}

impl EventTag {
    /// What an event of this type with these user ids says.
    #[inline]
    #[must_use]
    pub fn with(self, users: [u32; 2]) -> EventKind {
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

/// The types by their letters: a look-up that the processor does not have to foresee.
static TAGS: [Option<TagInfo>; 256] = {
    let mut types = [None; 256];
    types[b'F' as usize] = Some(TagInfo { letter: EventTag::F, users: 2 });
    types[b'U' as usize] = Some(TagInfo { letter: EventTag::U, users: 2 });
    types[b'B' as usize] = Some(TagInfo { letter: EventTag::B, users: 0 });
    types[b'P' as usize] = Some(TagInfo { letter: EventTag::P, users: 2 });
    types[b'S' as usize] = Some(TagInfo { letter: EventTag::S, users: 1 });
    types
};

/// A type, and how many user ids its lines have.
#[derive(Clone, Copy)]
struct TagInfo {
    letter: EventTag,
    users: u8,
}

/// A place in a window.
struct Cursor<'a> {
    window: &'a [u8; PADDED_LINE_BYTES],
    at: usize,
}

/// Reads the event that stands in front of a window, and where it ends. `None`: it takes the plain
/// parser to say.
// Always, and so all that it calls: the result of a call would go through memory.
#[inline(always)]
pub(super) fn parse_fast(window: &[u8; PADDED_LINE_BYTES]) -> Option<(CompactEvent, LineEnd)> {
    let mut cursor = Cursor { window, at: 0 };
    let sequence = Sequence::new(cursor.parse_sequence()?)?;
    let TagInfo { letter, users } = cursor.tag()?;
    let first = if users >= 1 { cursor.parse_user_id()? } else { 0 };
    let second = if users == 2 { cursor.parse_user_id()? } else { 0 };
    Some((CompactEvent { sequence, letter, users: [first, second] }, cursor.line_end()?))
}

impl Cursor<'_> {
    /// Reads `|` and a letter.
    #[inline(always)]
    fn tag(&mut self) -> Option<TagInfo> {
        let [bar, letter] = *self.window[self.at..].first_chunk()?;
        self.at += 2;
        TAGS[usize::from(letter)].filter(|_| bar == b'|')
    }

    /// Reads the end of the line.
    #[inline(always)]
    fn line_end(&self) -> Option<LineEnd> {
        let len = self.at;
        match self.window.get(len..)? {
            [b'\n', ..] => Some(LineEnd { len, wire_len: len + 1 }),
            [b'\r', b'\n', ..] => Some(LineEnd { len, wire_len: len + 2 }),
            _ => None,
        }
    }

    /// Reads `|` and a number of 1 to 8 digits.
    #[inline(always)]
    fn parse_user_id(&mut self) -> Option<u32> {
        if *self.window.get(self.at)? != b'|' {
            return None;
        }
        self.at += 1;
        let (number, digits) = self.parse_digits8()?;
        self.at += digits;
        (digits > 0).then_some(number)
    }

    /// Reads a number of 1 to 15 digits.
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

    /// The number that the digits among the next eight bytes form, up to the first byte that is
    /// none, and how many they are.
    ///
    /// Works on the eight bytes of a word at once: Lemire, "Quickly parsing eight digits" (2018).
    #[inline(always)]
    fn parse_digits8(&self) -> Option<(u32, usize)> {
        let bytes = *self.window.get(self.at..)?.first_chunk()?;
        // Digits become 0 to 9, and every other byte more than 9.
        let word = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
        // The high bit of each byte above 9, right up to the first such byte.
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let digits = leading_digits(others);
        if digits == 0 {
            return Some((0, 0));
        }
        // As if zeros stood in front: the first digit is the lowest byte.
        let word = word << (64 - 8 * digits);
        let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
        let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
        let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
        Some(((low.wrapping_add(high) >> 32) as u32, digits))
    }
}

/// How many bytes of a word come before the first that has its high bit set.
///
/// Counted one by one, for which there is an instruction: but the processor foresees where a loop
/// ends, and reads on behind the number before it has it. To wait for each number's length costs 3 ns
/// a line.
#[inline(always)]
fn leading_digits(mut word: u64) -> usize {
    let mut bytes = 0;
    while bytes < 8 && word & 0x80 == 0 {
        word >>= 8;
        bytes += 1;
    }
    bytes
}

/// For the digits of a second word, of which there may be up to seven.
const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_line(line: &str, terminator: &str) -> Option<(Event, LineEnd)> {
        let stream = format!("{line}{terminator}{}", "7|B\n".repeat(10));
        let (event, end) = parse_fast(stream.as_bytes().first_chunk().unwrap())?;
        Some((Event::from(event), end))
    }

    #[test]
    fn usual_lines_do_not_need_the_plain_parser() {
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
                let (event, end) = read_line(line, terminator).expect(line);
                assert_eq!(Ok(event), Event::parse(line.as_bytes()));
                assert_eq!(end.len, line.len());
                assert_eq!(end.wire_len, line.len() + terminator.len());
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_parser_or_gives_up(
            line in "[0-9]{0,17}(\\|[FUBPSX]?)?(\\|[0-9]{0,9}){0,3}[|0-9 :/]?",
            terminator in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("")],
        ) {
            if let Some((event, end)) = read_line(&line, terminator) {
                // Without a terminator of its own the line goes on.
                let whole = if terminator.ends_with('\n') { line } else { line + terminator + "7|B" };
                prop_assert_eq!(end.len, whole.len());
                prop_assert_eq!(Ok(event), Event::parse(whole.as_bytes()));
            }
        }

        #[test]
        fn any_bytes_at_all(
            window in proptest::collection::vec(
                prop_oneof![
                    Just(b'|'), Just(b'\n'), Just(b'\r'), b'0'..=b'9', Just(b'P'), Just(b'B'), any::<u8>(),
                ],
                PADDED_LINE_BYTES,
            ),
        ) {
            if let Some((event, end)) = parse_fast(window.first_chunk().unwrap()) {
                prop_assert_eq!(Ok(Event::from(event)), Event::parse(&window[..end.len]));
                prop_assert_eq!(window[end.wire_len - 1], b'\n');
            }
        }

        #[test]
        fn what_is_packed_comes_back(sequence in 0..u64::MAX - 1, users: [u32; 2], letter in 0..5_usize) {
            let letter = [EventTag::F, EventTag::U, EventTag::B, EventTag::P, EventTag::S][letter];
            let sequence = Sequence::new(sequence).unwrap();
            let event = Event { sequence, kind: letter.with(users) };
            let packed = CompactEvent::pack(&event).unwrap();
            prop_assert_eq!(Event::from(packed), event);
        }
    }
}
