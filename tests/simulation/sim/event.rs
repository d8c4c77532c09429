//! A second parser of source lines that shares no code with the server's.

use std::collections::BTreeSet;

/// The effect of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Follow { follower: u64, followed: u64 },
    Unfollow { follower: u64, followed: u64 },
    Broadcast,
    PrivateMessage { to: u64 },
    StatusUpdate { from: u64 },
}

impl Action {
    /// Returns whether a user is told, with the follows before the event.
    pub(crate) fn concerns(self, user: u64, follows: &BTreeSet<(u64, u64)>) -> bool {
        match self {
            Action::Follow { followed, .. } => user == followed,
            Action::Unfollow { .. } => false,
            Action::Broadcast => true,
            Action::PrivateMessage { to } => user == to,
            Action::StatusUpdate { from } => follows.contains(&(user, from)),
        }
    }
}

/// The result of parsing a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedLine {
    Event(u64, Action),
    /// Malformed, with a readable sequence.
    Void(u64),
    /// Malformed, without a readable sequence.
    NoSequence,
}

/// Parses 1 to 20 digits that fit 64 bits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Parses a line without its terminator.
pub(crate) fn parse_line(line: &[u8], max_line_bytes: usize) -> ParsedLine {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b'|').collect();
    let Some(sequence) = number(fields[0]).filter(|&sequence| sequence != u64::MAX) else {
        return ParsedLine::NoSequence;
    };
    match parse_action(&fields[1..]).filter(|_| line.len() <= max_line_bytes) {
        Some(action) => ParsedLine::Event(sequence, action),
        None => ParsedLine::Void(sequence),
    }
}

fn parse_action(fields: &[&[u8]]) -> Option<Action> {
    let users: Option<Vec<u64>> = fields.iter().skip(1).map(|field| number(field)).collect();
    match (*fields.first()?, users?[..].as_ref()) {
        (b"F", &[follower, followed]) => Some(Action::Follow { follower, followed }),
        (b"U", &[follower, followed]) => Some(Action::Unfollow { follower, followed }),
        (b"B", &[]) => Some(Action::Broadcast),
        (b"P", &[_, to]) => Some(Action::PrivateMessage { to }),
        (b"S", &[from]) => Some(Action::StatusUpdate { from }),
        _ => None,
    }
}
