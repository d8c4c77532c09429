//! One slot of the reorder buffer.

use super::line_store::LineKey;
use crate::protocol::{CompactEvent, EventKind, EventTag, Line, PADDED_LINE_BYTES};

/// A slot of the reorder buffer's ring: 40 bytes, which hold most events completely.
///
/// Access fields in place. Building a slot elsewhere and copying it causes a store-forwarding stall
/// (5 ns per event).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// The user ids in the order of the line, 0 for missing ones, or the [`LineKey`] of a long line.
    payload: [u32; 2],
    pub(super) state: State,
    /// The length of the line within `bytes`.
    len: u8,
    bytes: [u8; PADDED_LINE_BYTES],
}

/// The state of a [`Slot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing has arrived.
    #[default]
    Empty,
    /// A malformed line: its sequence passes without an event.
    Void,
    /// An event with a short line and user ids of 32 bits.
    Compact(EventTag),
    /// Any other event: its line is in the [`LineStore`](super::line_store::LineStore) and parsed again when
    /// it is applied.
    Overflow,
}

impl Slot {
    /// Stores an event. Returns `false` if its line does not fit.
    #[inline(always)]
    pub(super) fn store_compact(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        let Line::Padded { bytes, len } = line else { return false };
        self.bytes = *bytes;
        // A padded line has at most 30 bytes.
        self.len = len as u8;
        self.payload = event.users;
        self.state = State::Compact(event.tag);
        true
    }

    /// Stores the key of a long line.
    pub(super) fn store_overflow(&mut self, LineKey { key, len }: LineKey) {
        self.payload = [key, len];
        self.state = State::Overflow;
    }

    /// Returns the key of the long line.
    pub(super) fn overflow_key(&self) -> LineKey {
        let [key, len] = self.payload;
        LineKey { key, len }
    }

    /// Returns the line of a compact event.
    #[inline]
    pub(super) fn line(&self) -> Line<'_> {
        Line::Padded { bytes: &self.bytes, len: usize::from(self.len) }
    }

    /// Returns the kind of a compact event.
    #[inline]
    pub(super) fn kind(&self, tag: EventTag) -> EventKind {
        tag.to_kind(self.payload)
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
    fn slot_roundtrip() {
        for line in ["1|F|60|50", "2|U|4294967295|1", "3|B", "4|P|32|56", "5|S|0"] {
            let buffer = format!("{line}\n{}", "9|B\n".repeat(10));
            let event = Event::parse(line.as_bytes()).unwrap();
            let compact = CompactEvent::try_from(&event).unwrap();
            let mut slot = Slot::default();
            assert!(slot.store_compact(&compact, Line::prefix_of(buffer.as_bytes(), line.len())));
            let State::Compact(tag) = slot.state else { panic!("{line} is short") };
            assert_eq!((slot.kind(tag), slot.line().as_bytes()), (event.kind, line.as_bytes()));
        }
    }

    #[test]
    fn a_line_that_cannot_be_padded_does_not_fit() {
        let line = b"1|F|000000000000001|00000000001";
        let compact = CompactEvent::try_from(&Event::parse(line).unwrap()).unwrap();
        let mut slot = Slot::default();
        assert!(!slot.store_compact(&compact, Line::prefix_of(line, line.len())));
        assert_eq!(slot.state, State::Empty);
    }
}
