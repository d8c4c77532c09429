//! Differences between expected and received output.

use std::fmt;

use crate::codec::sequence_of;

/// The first difference in the output of one user.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    pub(crate) user: u64,
    pub(crate) kind: MismatchKind,
    /// Index of the event in this client's output, from 1.
    pub(crate) event: u64,
    /// Bytes of this client's output before the difference.
    pub(crate) byte: u64,
    /// The expected line, empty after the last one.
    expected: Vec<u8>,
    /// The received line, up to [`MAX_EXCERPT`] bytes.
    got: Vec<u8>,
}

/// How a stream differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MismatchKind {
    /// Other bytes than expected.
    Different,
    /// Bytes after the last expected one.
    Extra,
    /// Connection closed before everything had arrived, and the reason.
    ClosedEarly(String),
    /// Nothing more arrived; the number of missing lines.
    Missing(u64),
}

/// Bytes of a received line that are kept for the report.
const MAX_EXCERPT: usize = 128;

impl Mismatch {
    pub(crate) fn new(user: u64, kind: MismatchKind, event: u64, byte: u64) -> Mismatch {
        Mismatch { user, kind, event, byte, expected: Vec::new(), got: Vec::new() }
    }

    /// Sets the expected line.
    pub(crate) fn expecting(mut self, line: Vec<u8>) -> Mismatch {
        self.expected = line;
        self
    }

    /// Appends received bytes, up to the end of the line that differs.
    pub(crate) fn add_received(&mut self, bytes: &[u8]) {
        let remaining = MAX_EXCERPT.saturating_sub(self.got.len());
        if self.got.ends_with(b"\n") || remaining == 0 {
            return;
        }
        let line = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        self.got.extend_from_slice(&line[..line.len().min(remaining)]);
    }
}

/// Explanation of a first line with a later sequence than expected.
pub(crate) const RESET_HINT: &str = "if the server has received events before, restart it, or run it with \
                    --on-source-disconnect reset";

/// Explanation of a gap that a client is told when it comes back.
pub(crate) const GAP_HINT: &str =
    "the server does not reach back that far: start it with a larger --resume-events";

impl Mismatch {
    /// Returns an explanation if a client's first line has a later sequence than expected: a server
    /// that has received events before drops those with the same sequences, and delivers the next.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        if self.got.starts_with(b"gap ") {
            return Some(GAP_HINT);
        }
        let is_later = sequence_of(&self.got)
            .zip(sequence_of(&self.expected))
            .is_some_and(|(got, expected)| got > expected);
        (self.kind == MismatchKind::Different && self.event == 1 && is_later).then_some(RESET_HINT)
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
            MismatchKind::Extra => {
                write!(f, "user {user} got `{got}` after the last expected event")?;
            }
            MismatchKind::ClosedEarly(why) => {
                write!(f, "user {user} was closed ({why}) before it got ")?;
                if self.expected.is_empty() {
                    f.write_str("the end of the run")?;
                } else {
                    write!(f, "`{expected}`")?;
                }
            }
            MismatchKind::Missing(lines) => {
                write!(f, "user {user} is missing {lines} events, first `{expected}`")?;
            }
        }
        write!(f, " (event {event} of this client, after {byte} matching bytes)")
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
            "user 7 got `6|B\\r\\n` instead of `5|B\\r\\n` (event 3 of this client, after 20 matching bytes)"
        );
    }

    #[test]
    fn a_later_first_line_is_explained() {
        let mismatch = |event, got: &[u8]| {
            let expected = b"5|B\r\n".to_vec();
            let mut mismatch =
                Mismatch::new(7, MismatchKind::Different, event, 0).expecting(expected);
            mismatch.add_received(got);
            mismatch.hint()
        };
        assert!(mismatch(1, b"1006|B\r\n").is_some_and(|hint| hint.contains("reset")));
        assert_eq!(mismatch(2, b"1006|B\r\n"), None);
        assert_eq!(mismatch(1, b"4|B\r\n"), None);
        assert_eq!(mismatch(1, b"x\r\n"), None);
    }

    #[test]
    fn evidence_is_bounded() {
        let mut mismatch = Mismatch::new(7, MismatchKind::Extra, 3, 20);
        mismatch.add_received(&[b'x'; 100]);
        mismatch.add_received(&[b'x'; 100]);
        assert_eq!(mismatch.got.len(), MAX_EXCERPT);
    }
}
