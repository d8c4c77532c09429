//! The answers that a source gets after it has sent `SYNC`.

use std::io;

use crate::client::run_end::source_answered;
use crate::codec::read_number;

/// The line by which a source asks for answers.
pub(crate) const SYNC: &[u8] = b"SYNC\n";

/// Longest answer: a word, a space and 20 digits, in bytes.
const MAX_ANSWER_BYTES: usize = 64;

/// What a server has said to a source, over all of its connections.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Beginning of an incomplete answer.
    partial: Vec<u8>,
    /// The answer to the last `SYNC`, not taken yet.
    awaited: Option<u64>,
    /// The last sequence that is committed.
    committed: Option<u64>,
    /// The sequence after the last one sent.
    sent_before: u64,
}

impl Answers {
    /// Reads some bytes of answers.
    ///
    /// # Errors
    ///
    /// They are no answers, or contradict earlier ones or what was sent.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.read_line(line.trim_ascii_end())?;
            } else if self.partial.len() > MAX_ANSWER_BYTES {
                return Err(source_answered(&self.partial));
            }
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8]) -> io::Result<()> {
        let number = |word: &[u8]| line.strip_prefix(word).and_then(read_number);
        if let Some(awaited) = number(b"awaited ") {
            return self.on_awaited(awaited);
        }
        match number(b"committed ") {
            Some(committed) => self.on_committed(committed),
            None => Err(source_answered(line)),
        }
    }

    fn on_awaited(&mut self, awaited: u64) -> io::Result<()> {
        if let Some(committed) = self.committed.filter(|&committed| awaited <= committed) {
            return Err(io::Error::other(format!(
                "the server awaits {awaited}, after it had committed {committed}: it has forgotten events"
            )));
        }
        self.awaited = Some(awaited);
        Ok(())
    }

    fn on_committed(&mut self, committed: u64) -> io::Result<()> {
        let before = self.committed;
        if before.is_some_and(|before| committed <= before) || committed >= self.sent_before {
            let before = before.map_or("none".to_owned(), |before| before.to_string());
            return Err(io::Error::other(format!(
                "the server says `committed {committed}`, after {before} was committed and all before {} \
                 were sent",
                self.sent_before
            )));
        }
        self.committed = Some(committed);
        Ok(())
    }

    /// Takes the answer to the last `SYNC`, if it has come.
    pub(crate) fn take_awaited(&mut self) -> Option<u64> {
        self.awaited.take()
    }

    /// Returns the last sequence that is committed.
    pub(crate) fn committed(&self) -> Option<u64> {
        self.committed
    }

    /// Notes that events are sent up to a sequence, exclusively.
    pub(crate) fn set_sent_before(&mut self, sequence: u64) {
        self.sent_before = self.sent_before.max(sequence);
    }

    /// Forgets an incomplete answer, with the connection that it came on.
    pub(crate) fn on_disconnected(&mut self) {
        self.partial.clear();
        self.awaited = None;
    }

    /// Returns the answers with only what was committed, for a source of another connection.
    pub(crate) fn continued(&self) -> Answers {
        Answers { committed: self.committed, sent_before: self.sent_before, ..Answers::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_any_pieces() {
        let text = b"awaited 5\ncommitted 6\ncommitted 12\n";
        for cut in 0..=text.len() {
            let mut answers = Answers::default();
            answers.set_sent_before(13);
            answers.read(&text[..cut]).unwrap();
            answers.read(&text[cut..]).unwrap();
            assert_eq!((answers.take_awaited(), answers.committed()), (Some(5), Some(12)));
            assert_eq!(answers.take_awaited(), None);
        }
    }

    #[test]
    fn contradictions_are_errors() {
        for (said, text) in [
            ("", "committed 10\n"),
            ("committed 5\n", "committed 5\n"),
            ("committed 5\n", "committed 4\n"),
            ("committed 5\n", "awaited 5\n"),
            ("", "awaited -1\n"),
            ("", "hello\n"),
            ("", "\n"),
        ] {
            let mut answers = Answers::default();
            answers.set_sent_before(10);
            answers.read(said.as_bytes()).unwrap();
            assert!(answers.read(text.as_bytes()).is_err(), "{said}{text}");
        }
        assert!(Answers::default().read(&[b'x'; 100]).is_err());
    }
}
