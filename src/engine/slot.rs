//! What has arrived for one sequence.

use super::line_store::LineKey;
use crate::protocol::{CompactEvent, EventKind, EventTag, Line, PADDED_LINE_BYTES};

/// A place in the ring of the reorder buffer: 40 bytes, in which most events fit whole.
///
/// Written and read field by field: a slot that is put together elsewhere and moved here is loaded
/// in other pieces than it was stored in, for which the processor waits (5 ns an event).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// The user ids, in the order of the line, 0 where it has none; or where a long line is.
    numbers: [u32; 2],
    pub(super) state: State,
    /// Bytes of the line in front of the window.
    len: u8,
    bytes: [u8; PADDED_LINE_BYTES],
}

/// What a [`Slot`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet.
    #[default]
    Empty,
    /// A malformed line: its turn passes without an event.
    Void,
    /// An event in a short line, with user ids that fit 32 bits each.
    Compact(EventTag),
    /// Any other event: its line is kept elsewhere, to be parsed once more when its turn comes.
    Overflow,
}

impl Slot {
    /// Keeps an event, if its line fits.
    #[inline(always)]
    pub(super) fn store_compact(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        let Line::Padded { bytes, len } = line else { return false };
        self.bytes = *bytes;
        // A window has 30 bytes.
        self.len = len as u8;
        self.numbers = event.users;
        self.state = State::Compact(event.letter);
        true
    }

    /// Keeps where a long line is.
    pub(super) fn store_overflow(&mut self, LineKey { key, len }: LineKey) {
        self.numbers = [key, len];
        self.state = State::Overflow;
    }

    /// Where a long line is.
    pub(super) fn long_line(&self) -> LineKey {
        let [key, len] = self.numbers;
        LineKey { key, len }
    }

    /// The line of a short event.
    #[inline]
    pub(super) fn line(&self) -> Line<'_> {
        Line::Padded { bytes: &self.bytes, len: usize::from(self.len) }
    }

    /// What a short event says.
    #[inline]
    pub(super) fn kind(&self, letter: EventTag) -> EventKind {
        letter.with(self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Event;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 40);
    }

    #[test]
    fn what_is_kept_comes_back() {
        for line in ["1|F|60|50", "2|U|4294967295|1", "3|B", "4|P|32|56", "5|S|0"] {
            let buffer = format!("{line}\n{}", "9|B\n".repeat(10));
            let event = Event::parse(line.as_bytes()).unwrap();
            let short = CompactEvent::pack(&event).unwrap();
            let mut slot = Slot::default();
            assert!(slot.store_compact(&short, Line::prefix_of(buffer.as_bytes(), line.len())));
            let State::Compact(letter) = slot.state else { panic!("{line} is short") };
            assert_eq!((slot.kind(letter), slot.line().as_bytes()), (event.kind, line.as_bytes()));
        }
    }

    #[test]
    fn a_line_longer_than_a_window_does_not_fit() {
        let line = b"1|F|000000000000001|00000000001";
        let short = CompactEvent::pack(&Event::parse(line).unwrap()).unwrap();
        let mut slot = Slot::default();
        assert!(!slot.store_compact(&short, Line::prefix_of(line, line.len())));
        assert_eq!(slot.state, State::Empty);
    }
}
