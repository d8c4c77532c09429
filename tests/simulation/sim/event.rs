//! A source's line, read once more by other means than the server's.

/// What an event does, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Follow { follower: u64, followed: u64 },
    Unfollow { follower: u64, followed: u64 },
    Broadcast,
    PrivateMessage { to: u64 },
    StatusUpdate { from: u64 },
}

/// What a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Event(u64, Deed),
    /// Malformed, but with a sequence.
    Void(u64),
    /// Malformed, without one.
    Nothing,
}

/// 1 to 20 digits that fit 64 bits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// What a line without its terminator means.
pub(crate) fn meaning(line: &[u8], max_line_bytes: usize) -> Meaning {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b'|').collect();
    let Some(sequence) = number(fields[0]).filter(|&sequence| sequence != u64::MAX) else {
        return Meaning::Nothing;
    };
    match deed(&fields[1..]).filter(|_| line.len() <= max_line_bytes) {
        Some(deed) => Meaning::Event(sequence, deed),
        None => Meaning::Void(sequence),
    }
}

fn deed(fields: &[&[u8]]) -> Option<Deed> {
    let users: Option<Vec<u64>> = fields.iter().skip(1).map(|field| number(field)).collect();
    match (*fields.first()?, users?[..].as_ref()) {
        (b"F", &[follower, followed]) => Some(Deed::Follow { follower, followed }),
        (b"U", &[follower, followed]) => Some(Deed::Unfollow { follower, followed }),
        (b"B", &[]) => Some(Deed::Broadcast),
        (b"P", &[_, to]) => Some(Deed::PrivateMessage { to }),
        (b"S", &[from]) => Some(Deed::StatusUpdate { from }),
        _ => None,
    }
}
