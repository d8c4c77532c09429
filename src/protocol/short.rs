//! The parser for short lines: what nearly all lines go through.
//!
//! It reads eight digits at a time from the window of a [`Line`](super::Line), recognises the line's
//! end on the way, and gives up at anything unusual: then the plain parser decides.

use super::line::WINDOW_BYTES;
use super::{Event, EventKind, Sequence, UserId};

/// Where a line in a window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Bytes of the line.
    pub(super) len: usize,
    /// Bytes of the line and its terminator.
    pub(super) with_terminator: usize,
}

/// A place in a window.
struct Cursor<'a> {
    window: &'a [u8; WINDOW_BYTES],
    at: usize,
}

/// Reads the event that stands in front of a window, and where it ends. `None`: it takes the plain
/// parser to say.
#[inline(always)]
pub(super) fn read(window: &[u8; WINDOW_BYTES]) -> Option<(Event, End)> {
    let mut cursor = Cursor { window, at: 0 };
    let sequence = Sequence::new(cursor.number()?)?;
    let kind = match cursor.letter()? {
        b'P' => {
            let (from, to) = cursor.two_users()?;
            EventKind::PrivateMessage { from, to }
        }
        b'S' => EventKind::StatusUpdate { from: cursor.user()? },
        b'F' => {
            let (follower, followed) = cursor.two_users()?;
            EventKind::Follow { follower, followed }
        }
        b'U' => {
            let (follower, followed) = cursor.two_users()?;
            EventKind::Unfollow { follower, followed }
        }
        b'B' => EventKind::Broadcast,
        _ => return None,
    };
    Some((Event { sequence, kind }, cursor.end()?))
}

impl Cursor<'_> {
    /// Reads `|` and a letter.
    #[inline(always)]
    fn letter(&mut self) -> Option<u8> {
        let [bar, letter] = *self.window[self.at..].first_chunk()?;
        self.at += 2;
        (bar == b'|').then_some(letter)
    }

    /// Reads the end of the line.
    #[inline(always)]
    fn end(&self) -> Option<End> {
        let len = self.at;
        match self.window.get(len..)? {
            [b'\n', ..] => Some(End { len, with_terminator: len + 1 }),
            [b'\r', b'\n', ..] => Some(End { len, with_terminator: len + 2 }),
            _ => None,
        }
    }

    #[inline(always)]
    fn two_users(&mut self) -> Option<(UserId, UserId)> {
        Some((self.user()?, self.user()?))
    }

    /// Reads `|` and a number.
    #[inline(always)]
    fn user(&mut self) -> Option<UserId> {
        if *self.window.get(self.at)? != b'|' {
            return None;
        }
        self.at += 1;
        self.number().map(UserId)
    }

    /// Reads a number of 1 to 15 digits, if seven bytes of the window follow its first.
    #[inline(always)]
    fn number(&mut self) -> Option<u64> {
        let (high, digits) = self.eight()?;
        self.at += digits;
        match digits {
            0 => None,
            1..8 => Some(high),
            _ => {
                let (low, digits) = self.eight()?;
                self.at += digits;
                Some(high * POWERS_OF_TEN.get(digits)? + low)
            }
        }
    }

    /// The number that the digits among the next eight bytes form, up to the first byte that is
    /// none, and how many they are.
    ///
    /// Works on the eight bytes of a word at once: Lemire, "Quickly parsing eight digits" (2018).
    #[inline(always)]
    fn eight(&self) -> Option<(u64, usize)> {
        let bytes = *self.window.get(self.at..)?.first_chunk()?;
        // Digits become 0 to 9, and every other byte more than 9.
        let word = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
        // The high bit of each byte above 9, right up to the first such byte.
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let digits = others.trailing_zeros() as usize / 8;
        if digits == 0 {
            return Some((0, 0));
        }
        // As if zeros stood in front: the first digit is the lowest byte.
        let word = word << (64 - 8 * digits);
        let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
        let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
        let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
        Some((low.wrapping_add(high) >> 32, digits))
    }
}

/// For the digits of a second word, of which there may be up to seven.
const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_line(line: &str, terminator: &str) -> Option<(Event, End)> {
        let stream = format!("{line}{terminator}{}", "7|B\n".repeat(10));
        read(stream.as_bytes().first_chunk().unwrap())
    }

    #[test]
    fn usual_lines_do_not_need_the_plain_parser() {
        for line in [
            "1|B",
            "10000000|B",
            "999999999999|B",
            "1|S|1",
            "1|F|1|2",
            "10000000|U|1000|999",
            "10000000|P|123456|1",
            "0012|P|007|0",
        ] {
            for terminator in ["\n", "\r\n"] {
                let (event, end) = read_line(line, terminator).expect(line);
                assert_eq!(Ok(event), Event::parse(line.as_bytes()));
                assert_eq!(end.len, line.len());
                assert_eq!(end.with_terminator, line.len() + terminator.len());
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
        fn any_bytes_at_all(window in any::<[u8; WINDOW_BYTES]>()) {
            if let Some((event, end)) = read(&window) {
                prop_assert_eq!(Ok(event), Event::parse(&window[..end.len]));
                prop_assert_eq!(window[end.with_terminator - 1], b'\n');
            }
        }
    }
}
