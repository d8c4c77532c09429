//! What has arrived for one sequence.

use crate::protocol::{EventKind, Line, UserId, WINDOW_BYTES};

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
    window: [u8; WINDOW_BYTES],
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
    Short(Letter),
    /// Any other event: its line is kept elsewhere, to be parsed once more when its turn comes.
    Long,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    F,
    U,
    B,
    P,
    S,
}

impl Slot {
    /// Keeps an event, if it fits.
    #[inline(always)]
    pub(super) fn keep_short(&mut self, kind: EventKind, line: Line<'_>) -> bool {
        let Line::Short { window, len } = line else { return false };
        let (letter, [first, second]) = parts(kind);
        if (first | second) > u64::from(u32::MAX) {
            return false;
        }
        self.window = *window;
        // A window has 30 bytes, and the ids were looked at.
        self.len = len as u8;
        self.numbers = [first as u32, second as u32];
        self.state = State::Short(letter);
        true
    }

    /// Keeps the key under which the line stands.
    pub(super) fn keep_long(&mut self, key: u32) {
        self.numbers = [key, 0];
        self.state = State::Long;
    }

    /// The key under which a long line stands.
    pub(super) fn key(&self) -> usize {
        self.numbers[0] as usize
    }

    /// The line of a short event.
    #[inline]
    pub(super) fn line(&self) -> Line<'_> {
        Line::Short { window: &self.window, len: usize::from(self.len) }
    }

    /// What a short event says.
    #[inline]
    pub(super) fn kind(&self, letter: Letter) -> EventKind {
        let [first, second] = self.numbers.map(|id| UserId(u64::from(id)));
        match letter {
            Letter::F => EventKind::Follow { follower: first, followed: second },
            Letter::U => EventKind::Unfollow { follower: first, followed: second },
            Letter::B => EventKind::Broadcast,
            Letter::P => EventKind::PrivateMessage { from: first, to: second },
            Letter::S => EventKind::StatusUpdate { from: first },
        }
    }
}

#[inline]
fn parts(kind: EventKind) -> (Letter, [u64; 2]) {
    match kind {
        EventKind::Follow { follower, followed } => (Letter::F, [follower.0, followed.0]),
        EventKind::Unfollow { follower, followed } => (Letter::U, [follower.0, followed.0]),
        EventKind::Broadcast => (Letter::B, [0, 0]),
        EventKind::PrivateMessage { from, to } => (Letter::P, [from.0, to.0]),
        EventKind::StatusUpdate { from } => (Letter::S, [from.0, 0]),
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
        for (line, is_short) in [
            ("1|F|60|50", true),
            ("2|U|4294967295|1", true),
            ("3|B", true),
            ("4|P|32|56", true),
            ("5|S|0", true),
            ("6|S|4294967296", false),
            ("7|P|1|18446744073709551615", false),
            ("8|F|000000000000001|00000000001", false),
        ] {
            let buffer = format!("{line}\n{}", "9|B\n".repeat(10));
            let event = Event::parse(line.as_bytes()).unwrap();
            let mut slot = Slot::default();
            let kept = Line::in_front_of(buffer.as_bytes(), line.len());
            assert_eq!(slot.keep_short(event.kind, kept), is_short, "{line}");
            match slot.state {
                State::Short(letter) => assert_eq!(
                    (slot.kind(letter), slot.line().as_bytes()),
                    (event.kind, line.as_bytes())
                ),
                state => assert_eq!((state, is_short), (State::Empty, false), "{line}"),
            }
        }
    }
}
