//! The parser for short lines: what nearly all lines go through.
//!
//! It reads eight digits at a time from the window of a [`Line`](super::Line), and gives up at
//! anything unusual: then the plain parser decides. Lines of a verification run take a third of the
//! instructions that the plain parser needs.

use super::line::WINDOW_BYTES;
use super::{Event, EventKind, Sequence, UserId};

/// A place in a window.
struct Cursor<'a> {
    window: &'a [u8; WINDOW_BYTES],
    at: usize,
}

/// Reads the event in the first `len` bytes of a window. `None`: it takes the plain parser to say.
#[inline]
pub(super) fn parse(window: &[u8; WINDOW_BYTES], len: usize) -> Option<Event> {
    let mut cursor = Cursor { window, at: 0 };
    let sequence = Sequence::new(cursor.number()?)?;
    let letter = cursor.letter()?;
    let kind = match letter {
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
    // A number at the end may have run on into what follows the line.
    (cursor.at == len).then_some(Event { sequence, kind })
}

impl Cursor<'_> {
    /// Reads `|` and a letter.
    #[inline]
    fn letter(&mut self) -> Option<u8> {
        let [bar, letter] = *self.window[self.at..].first_chunk()?;
        self.at += 2;
        (bar == b'|').then_some(letter)
    }

    #[inline]
    fn two_users(&mut self) -> Option<(UserId, UserId)> {
        Some((self.user()?, self.user()?))
    }

    /// Reads `|` and a number.
    #[inline]
    fn user(&mut self) -> Option<UserId> {
        if *self.window.get(self.at)? != b'|' {
            return None;
        }
        self.at += 1;
        self.number().map(UserId)
    }

    /// Reads a number of 1 to 15 digits, if seven bytes of the window follow its first.
    #[inline]
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
    #[inline]
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

    fn parse_short(line: &str, behind: u8) -> Option<Event> {
        let mut window = [behind; WINDOW_BYTES];
        window[..line.len()].copy_from_slice(line.as_bytes());
        parse(&window, line.len())
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
            assert_eq!(
                parse_short(line, b'\n'),
                Event::parse(line.as_bytes().into()).ok(),
                "{line}"
            );
            assert!(parse_short(line, b'\n').is_some(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_parser_or_gives_up(
            line in "[0-9]{0,17}(\\|[FUBPSX]?)?(\\|[0-9]{0,9}){0,3}[|0-9 :/]?",
            behind in prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'7'), any::<u8>()],
        ) {
            prop_assume!(line.len() <= WINDOW_BYTES);
            if let Some(event) = parse_short(&line, behind) {
                prop_assert_eq!(Ok(event), Event::parse(line.as_bytes().into()));
            }
        }

        #[test]
        fn any_bytes_at_all(window in any::<[u8; WINDOW_BYTES]>(), len in 0..=WINDOW_BYTES) {
            if let Some(event) = parse(&window, len) {
                prop_assert_eq!(Ok(event), Event::parse(window[..len].into()));
            }
        }
    }
}
