//! One kept event, and its packed form.
//!
//! Most lines start with their sequence, which is known from the record before. So a record is a byte of flags with
//! the length, and the line after its sequence and `|`: about 10 bytes, a fifth of the parsed event with its line.
//! It is written once and rarely read, so its bytes are what it costs to keep an event.

use crate::protocol::{EventKind, UserId};

/// The maximum length of the line of an event.
pub(super) const MAX_LINE_BYTES: usize = 64;

/// The bits of the first byte with the length of the text, less one.
const LENGTH_BITS: u8 = 0x3f;
/// The text is the whole line, because its sequence has leading zeros.
const IS_WHOLE: u8 = 0x40;
/// The event changed the follower graph.
const HAS_CHANGED: u8 = 0x80;
/// The first byte of a skip, which no record has: without its sequence a line is shorter than 64 bytes.
const SKIP: u8 = LENGTH_BITS;

/// The length of a skip: its first byte and the number of sequences without a kept event.
pub(super) const SKIP_BYTES: usize = 5;

/// The maximum length of a record.
pub(super) const MAX_RECORD_BYTES: usize = 1 + MAX_LINE_BYTES;

/// A kept event.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Record<'a> {
    pub(in crate::engine) sequence: u64,
    flags: u8,
    /// The whole line, or the part of it after the sequence and `|`.
    text: &'a [u8],
}

/// The line of an event as clients receive it, ended by CRLF.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct WireLine {
    /// The line ends where the array ends.
    bytes: [u8; MAX_LINE_BYTES + 2],
    start: usize,
}

/// Returns the first byte of a record whose text has `length` bytes, 1 to 64.
#[inline(always)]
pub(super) fn first_byte(length: usize, has_changed: bool, is_whole: bool) -> u8 {
    let flags = if is_whole { IS_WHOLE } else { 0 };
    (length - 1) as u8 | flags | if has_changed { HAS_CHANGED } else { 0 }
}

/// Writes a skip of `count` sequences.
pub(super) fn write_skip(count: u32, bytes: &mut [u8]) {
    bytes[0] = SKIP;
    bytes[1..SKIP_BYTES].copy_from_slice(&count.to_le_bytes());
}

/// Returns the length of the sequence of a line and its `|`. `None` if it has leading zeros.
pub(super) fn canonical_prefix(line: &[u8], sequence: u64) -> Option<usize> {
    let digits = digits(sequence);
    (line.get(digits) == Some(&b'|')).then_some(digits + 1)
}

/// Returns the number of decimal digits.
pub(super) fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Reads the record at the start of `bytes`, and a skip before it. `sequence` is the one after the record before.
/// Returns the record and the length of both, `None` at the end.
#[inline]
pub(super) fn read_record(bytes: &[u8], sequence: u64) -> Option<(Record<'_>, usize)> {
    let (&flags, rest) = bytes.split_first()?;
    if flags == SKIP {
        let (count, rest) = rest.split_first_chunk()?;
        let (record, length) = read_record(rest, sequence + u64::from(u32::from_le_bytes(*count)))?;
        return Some((record, SKIP_BYTES + length));
    }
    let length = usize::from(flags & LENGTH_BITS) + 1;
    let text = rest.get(..length)?;
    Some((Record { sequence, flags, text }, 1 + length))
}

impl<'a> Record<'a> {
    /// Returns the length of the record.
    pub(super) fn length(&self) -> usize {
        1 + self.text.len()
    }

    /// Returns the line after its sequence and `|`.
    fn fields(&self) -> &'a [u8] {
        match self.flags & IS_WHOLE {
            0 => self.text,
            _ => {
                let bar = self.text.iter().position(|&byte| byte == b'|');
                &self.text[bar.map_or(0, |bar| bar + 1)..]
            }
        }
    }

    /// Returns whether the event is a broadcast, at less than the cost of [`kind`](Self::kind).
    #[inline]
    pub(in crate::engine) fn is_broadcast(&self) -> bool {
        self.text == b"B" || (self.flags & IS_WHOLE != 0 && self.fields() == b"B")
    }

    /// Returns the type of the event and its users. Only lines that were parsed before are kept.
    pub(in crate::engine) fn kind(&self) -> EventKind {
        EventKind::parse_fields(self.fields()).unwrap_or(EventKind::Broadcast)
    }

    /// Returns the follower and the followed user, if the event has changed the follow between them.
    #[inline]
    pub(in crate::engine) fn changed_follow(&self) -> Option<(UserId, UserId)> {
        if self.flags & HAS_CHANGED == 0 {
            return None;
        }
        match self.kind() {
            EventKind::Follow { follower, followed }
            | EventKind::Unfollow { follower, followed } => Some((follower, followed)),
            _ => None,
        }
    }

    /// Returns the line of the event.
    pub(in crate::engine) fn wire_line(&self) -> WireLine {
        let mut line = WireLine { bytes: [0; MAX_LINE_BYTES + 2], start: MAX_LINE_BYTES + 2 };
        line.prepend(b"\r\n");
        line.prepend(self.text);
        if self.flags & IS_WHOLE == 0 {
            line.prepend(b"|");
            line.prepend_number(self.sequence);
        }
        line
    }
}

impl WireLine {
    /// Returns the line and its terminator.
    pub(in crate::engine) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn prepend(&mut self, text: &[u8]) {
        let end = self.start;
        self.start -= text.len();
        self.bytes[self.start..end].copy_from_slice(text);
    }

    fn prepend_number(&mut self, mut number: u64) {
        loop {
            self.start -= 1;
            self.bytes[self.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lines_have_their_place() {
        let number = "18446744073709551614";
        let canonical = format!("{number}|F|{number}|{number}");
        let zeros = format!("00000000000000000001|F|{number}|{number}");
        assert_eq!((canonical.len(), zeros.len()), (MAX_LINE_BYTES, MAX_LINE_BYTES));
        let sequence = u64::MAX - 1;
        assert_eq!(canonical_prefix(canonical.as_bytes(), sequence), Some(21));
        assert_eq!(canonical_prefix(zeros.as_bytes(), 1), None);
        for (line, sequence, prefix) in [(&canonical, sequence, 21), (&zeros, 1, 0)] {
            let text = &line.as_bytes()[prefix..];
            let mut bytes = vec![first_byte(text.len(), true, prefix == 0)];
            bytes.extend_from_slice(text);
            let (record, length) = read_record(&bytes, sequence).unwrap();
            assert_eq!(length, bytes.len());
            assert_eq!(record.wire_line().as_bytes(), format!("{line}\r\n").as_bytes());
            assert!(record.changed_follow().is_some());
        }
    }

    #[test]
    fn numbers_have_their_digits() {
        let tens = (0..20).map(|exponent| 10_u64.pow(exponent));
        for number in tens.flat_map(|ten| [ten - 1, ten]).chain([u64::MAX]) {
            assert_eq!(digits(number), number.to_string().len(), "{number}");
        }
    }
}
