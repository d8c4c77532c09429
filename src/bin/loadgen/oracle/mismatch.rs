//! What a client received that it should not have, or the other way round.

use std::fmt;

/// The first thing wrong with what one user received.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    pub(crate) user: u64,
    pub(crate) kind: MismatchKind,
    /// The event concerned, counted from 1 in this client's stream.
    pub(crate) event: u64,
    /// The bytes of this client's stream that were right.
    pub(crate) byte: u64,
    /// The line due there, empty behind the last one.
    expected: Vec<u8>,
    /// The line received there, as far as it is known.
    got: Vec<u8>,
}

/// How a stream differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MismatchKind {
    /// Other bytes than expected.
    Different,
    /// Bytes behind the last expected one.
    Extra,
    /// The connection ended before everything had come, and why.
    ClosedEarly(String),
    /// Nothing came any more; so many lines are missing.
    Missing(u64),
}

/// Bytes of a received line that are kept for the report.
const MAX_EXCERPT: usize = 128;

impl Mismatch {
    pub(crate) fn new(user: u64, kind: MismatchKind, event: u64, byte: u64) -> Mismatch {
        Mismatch { user, kind, event, byte, expected: Vec::new(), got: Vec::new() }
    }

    /// Adds the line that was due.
    pub(crate) fn expecting(mut self, line: Vec<u8>) -> Mismatch {
        self.expected = line;
        self
    }

    /// Adds bytes received, up to the end of the line that differs.
    pub(crate) fn add_received(&mut self, bytes: &[u8]) {
        let room = MAX_EXCERPT.saturating_sub(self.got.len());
        if self.got.ends_with(b"\n") || room == 0 {
            return;
        }
        let line = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        self.got.extend_from_slice(&line[..line.len().min(room)]);
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { user, event, byte, .. } = self;
        let (expected, got) = (self.expected.escape_ascii(), self.got.escape_ascii());
        match &self.kind {
            MismatchKind::Different => {
                write!(f, "user {user} got `{got}` instead of `{expected}`")?;
            }
            MismatchKind::Extra => write!(f, "user {user} got `{got}` where nothing more was due")?,
            MismatchKind::ClosedEarly(why) => {
                write!(f, "user {user} was closed ({why}) before it got ")?;
                if self.expected.is_empty() {
                    f.write_str("the end of the run")?;
                } else {
                    write!(f, "`{expected}`")?;
                }
            }
            MismatchKind::Missing(lines) => {
                write!(f, "user {user} still misses {lines} events, `{expected}` first")?;
            }
        }
        write!(f, " (its event {event}, after {byte} right bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_one_line_in_any_pieces() {
        let mut mismatch =
            Mismatch::new(7, MismatchKind::Different, 3, 20).expecting(b"5|B\r\n".to_vec());
        for chunk in [b"6".as_slice(), b"|B\r", b"\n7|", b"B\r\n"] {
            mismatch.add_received(chunk);
        }
        assert_eq!(
            mismatch.to_string(),
            "user 7 got `6|B\\r\\n` instead of `5|B\\r\\n` (its event 3, after 20 right bytes)"
        );
    }

    #[test]
    fn evidence_is_bounded() {
        let mut mismatch = Mismatch::new(7, MismatchKind::Extra, 3, 20);
        mismatch.add_received(&[b'x'; 100]);
        mismatch.add_received(&[b'x'; 100]);
        assert_eq!(mismatch.got.len(), MAX_EXCERPT);
    }
}
