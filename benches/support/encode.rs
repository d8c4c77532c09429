//! Encoding of events.

use eventserver::protocol::EventKind;

/// Returns the line of an event without its terminator.
pub(crate) fn line(sequence: u64, kind: EventKind) -> String {
    match kind {
        EventKind::Follow { follower, followed } => format!("{sequence}|F|{follower}|{followed}"),
        EventKind::Unfollow { follower, followed } => format!("{sequence}|U|{follower}|{followed}"),
        EventKind::Broadcast => format!("{sequence}|B"),
        EventKind::PrivateMessage { from, to } => format!("{sequence}|P|{from}|{to}"),
        EventKind::StatusUpdate { from } => format!("{sequence}|S|{from}"),
    }
}
