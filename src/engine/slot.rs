//! What has arrived for one sequence.

use crate::protocol::{EventKind, Line, UserId, WINDOW_BYTES};

/// A place in the ring of the reorder buffer: 40 bytes, in which most events fit whole.
#[derive(Debug, Default)]
pub(super) enum Slot {
    /// Nothing yet.
    #[default]
    Empty,
    /// A malformed line: its turn passes without an event.
    Void,
    /// A short line whose user ids fit 32 bits each.
    Short(ShortEvent),
    /// Any other line, to be parsed once more when its turn comes.
    Long(Box<[u8]>),
}

/// An event and its line, packed.
#[derive(Debug)]
pub(super) struct ShortEvent {
    /// The user ids, in the order of the line; 0 where it has none.
    users: [u32; 2],
    letter: Letter,
    /// Bytes of the line in front of the window.
    len: u8,
    window: [u8; WINDOW_BYTES],
}

#[derive(Clone, Copy, Debug)]
enum Letter {
    F,
    U,
    B,
    P,
    S,
}

impl Slot {
    /// Keeps an event.
    #[inline]
    pub(super) fn keep(kind: EventKind, line: Line<'_>) -> Slot {
        match (pack(kind), line) {
            (Some((letter, users)), Line::Short { window, len }) => {
                // A window has 30 bytes.
                let len = len as u8;
                Slot::Short(ShortEvent { users, letter, len, window: *window })
            }
            _ => Slot::Long(line.as_bytes().into()),
        }
    }
}

impl ShortEvent {
    #[inline]
    pub(super) fn line(&self) -> Line<'_> {
        Line::Short { window: &self.window, len: usize::from(self.len) }
    }

    #[inline]
    pub(super) fn kind(&self) -> EventKind {
        let [first, second] = self.users.map(|id| UserId(u64::from(id)));
        match self.letter {
            Letter::F => EventKind::Follow { follower: first, followed: second },
            Letter::U => EventKind::Unfollow { follower: first, followed: second },
            Letter::B => EventKind::Broadcast,
            Letter::P => EventKind::PrivateMessage { from: first, to: second },
            Letter::S => EventKind::StatusUpdate { from: first },
        }
    }
}

/// `None` where a user id needs more than 32 bits.
#[inline]
fn pack(kind: EventKind) -> Option<(Letter, [u32; 2])> {
    let (letter, first, second) = match kind {
        EventKind::Follow { follower, followed } => (Letter::F, follower, followed),
        EventKind::Unfollow { follower, followed } => (Letter::U, follower, followed),
        EventKind::Broadcast => (Letter::B, UserId(0), UserId(0)),
        EventKind::PrivateMessage { from, to } => (Letter::P, from, to),
        EventKind::StatusUpdate { from } => (Letter::S, from, UserId(0)),
    };
    Some((letter, [u32::try_from(first.0).ok()?, u32::try_from(second.0).ok()?]))
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
            match Slot::keep(event.kind, Line::in_front_of(buffer.as_bytes(), line.len())) {
                Slot::Short(short) => {
                    assert!(is_short, "{line}");
                    assert_eq!(
                        (short.kind(), short.line().as_bytes()),
                        (event.kind, line.as_bytes())
                    );
                }
                Slot::Long(long) => {
                    assert!(!is_short, "{line}");
                    assert_eq!(&*long, line.as_bytes());
                }
                Slot::Empty | Slot::Void => panic!("{line} is an event"),
            }
        }
    }
}
