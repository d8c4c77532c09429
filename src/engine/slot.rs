//! One slot of the reorder buffer.

use super::line_store::LineKey;
use crate::protocol::{CompactEvent, EventKind, EventTag, Line, PADDED_LINE_BYTES, UserId};

/// Marks the length of an applied line.
const HAS_CHANGED: u8 = 0x80;

/// A slot of the reorder buffer's ring: 40 bytes, which hold most events completely.
///
/// Access fields in place. Building a slot elsewhere and copying it causes a store-forwarding stall
/// (5 ns per event).
#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable)]
pub(super) struct Slot {
    /// The user ids in the order of the line, 0 for missing ones, or the [`LineKey`] of a long line.
    payload: [u32; 2],
    pub(super) state: State,
    /// The length of the line within `bytes`.
    len: u8,
    bytes: [u8; PADDED_LINE_BYTES],
}

/// The state of a [`Slot`]. A zeroed slot is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
#[repr(u8)]
pub(super) enum State {
    /// Nothing has arrived.
    #[default]
    Empty = 0,
    /// A malformed line: its sequence passes without an event.
    Void,
    /// An event whose line is in the [`LineStore`](super::line_store::LineStore) and parsed again when it is
    /// applied.
    Overflow,
    /// A follow with a short line and user ids of 32 bits.
    Follow,
    /// An unfollow of that kind.
    Unfollow,
    /// A broadcast of that kind.
    Broadcast,
    /// A private message of that kind.
    PrivateMessage,
    /// A status update of that kind.
    StatusUpdate,
}

impl From<EventTag> for State {
    #[inline(always)]
    fn from(tag: EventTag) -> State {
        match tag {
            EventTag::F => State::Follow,
            EventTag::U => State::Unfollow,
            EventTag::B => State::Broadcast,
            EventTag::P => State::PrivateMessage,
            EventTag::S => State::StatusUpdate,
        }
    }
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
        self.state = event.tag.into();
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

    /// Records that the event, which has been applied, changed the follower graph. Its line becomes unreadable.
    pub(super) fn set_changed(&mut self) {
        self.len |= HAS_CHANGED;
    }

    /// Makes the slot one without an event that is kept.
    pub(super) fn forget_line(&mut self) {
        self.len = 0;
    }

    /// Returns the line of an event that has been applied, followed by other bytes, its length, and whether it changed
    /// the follower graph. The length is 0 of none that is kept.
    #[inline(always)]
    pub(super) fn applied(&self) -> (&[u8; PADDED_LINE_BYTES], usize, bool) {
        (&self.bytes, usize::from(self.len & !HAS_CHANGED), self.len & HAS_CHANGED != 0)
    }

    /// Writes the line of a compact event, ended by LF, at an offset, and anything behind it: 31 bytes in
    /// total. Returns the offset of its end.
    #[inline]
    pub(super) fn write_line(&self, out: &mut [u8], at: usize) -> usize {
        let out = &mut out[at..at + PADDED_LINE_BYTES + 1];
        out[..PADDED_LINE_BYTES].copy_from_slice(&self.bytes);
        out[usize::from(self.len)] = b'\n';
        at + usize::from(self.len) + 1
    }

    /// Returns the kind of a compact event.
    #[inline]
    pub(super) fn kind(&self) -> EventKind {
        let [first, second] = self.payload.map(|id| UserId(u64::from(id)));
        match self.state {
            State::Follow => EventKind::Follow { follower: first, followed: second },
            State::Unfollow => EventKind::Unfollow { follower: first, followed: second },
            State::PrivateMessage => EventKind::PrivateMessage { from: first, to: second },
            State::StatusUpdate => EventKind::StatusUpdate { from: first },
            State::Broadcast | State::Empty | State::Void | State::Overflow => EventKind::Broadcast,
        }
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
            assert_eq!(slot.state, compact.tag.into());
            assert_eq!((slot.kind(), slot.line().as_bytes()), (event.kind, line.as_bytes()));
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
