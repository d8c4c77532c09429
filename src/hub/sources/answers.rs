//! Answers to a source that has sent `SYNC`.

use std::io::{ErrorKind, Write};

/// The line by which a source asks for answers.
pub(super) const SYNC: &[u8] = b"SYNC";

/// The answers to one source.
///
/// At most one line of each kind waits, the latest. So a source that does not read its answers loses only
/// older ones, and nothing else waits for it.
#[derive(Debug)]
pub(super) struct Answers {
    /// The awaited sequence to be reported.
    awaited: Option<u64>,
    /// The committed sequence to be reported.
    committed: Option<u64>,
    /// The sequence after the last one reported as committed, or the one awaited at the first `SYNC`.
    reported_next: u64,
    /// The rest of a line that the socket has accepted in part.
    partial: Vec<u8>,
    /// The socket may accept bytes.
    writable: bool,
    /// A write has failed. The read side learns why.
    is_broken: bool,
}

impl Answers {
    /// Creates the answers for a source that sends its first `SYNC` while `awaited` is the awaited sequence.
    pub(super) fn new(awaited: u64) -> Answers {
        Answers {
            awaited: Some(awaited),
            committed: None,
            reported_next: awaited,
            partial: Vec::new(),
            writable: true,
            is_broken: false,
        }
    }

    /// Takes another `SYNC`.
    pub(super) fn ask(&mut self, awaited: u64) {
        self.awaited = Some(awaited);
    }

    /// Takes the awaited sequence at the end of a turn: all before it are committed and applied.
    pub(super) fn on_committed(&mut self, awaited: u64) {
        if awaited > self.reported_next {
            self.committed = Some(awaited - 1);
            self.reported_next = awaited;
        }
    }

    /// Records that the socket accepts bytes again.
    pub(super) fn set_writable(&mut self) {
        self.writable = true;
    }

    /// Writes what waits, as far as the socket accepts it.
    pub(super) fn flush(&mut self, stream: &mut impl Write) {
        while self.writable && !self.is_broken {
            if self.partial.is_empty() {
                let Some((word, sequence)) = self.next_line() else { return };
                // Writing to memory cannot fail.
                let _ = writeln!(self.partial, "{word} {sequence}");
            }
            match stream.write(&self.partial) {
                Ok(0) => self.is_broken = true,
                Ok(written) => drop(self.partial.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// Removes and returns the next answer.
    fn next_line(&mut self) -> Option<(&'static str, u64)> {
        let awaited = self.awaited.take().map(|sequence| ("awaited", sequence));
        awaited.or_else(|| self.committed.take().map(|sequence| ("committed", sequence)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::test_stream::TestStream;

    fn stream(capacity: usize) -> TestStream {
        TestStream { capacity, ..TestStream::default() }
    }

    #[test]
    fn commits_are_reported_from_the_first_sync_on() {
        let (mut answers, mut stream) = (Answers::new(5), stream(100));
        answers.flush(&mut stream);
        answers.on_committed(5);
        answers.flush(&mut stream);
        assert_eq!(stream.written, b"awaited 5\n");
        answers.on_committed(8);
        answers.flush(&mut stream);
        answers.ask(8);
        answers.on_committed(8);
        answers.flush(&mut stream);
        assert_eq!(stream.written, b"awaited 5\ncommitted 7\nawaited 8\n");
    }

    #[test]
    fn sequence_zero_is_reported_once_it_is_committed() {
        let (mut answers, mut stream) = (Answers::new(0), stream(100));
        answers.on_committed(0);
        answers.on_committed(1);
        answers.flush(&mut stream);
        assert_eq!(stream.written, b"awaited 0\ncommitted 0\n");
    }

    #[test]
    fn a_source_that_does_not_read_gets_whole_lines_and_the_latest() {
        for capacity in 0..60 {
            let (mut answers, mut stream) = (Answers::new(1), stream(capacity));
            for awaited in 2..50 {
                answers.on_committed(awaited);
                answers.flush(&mut stream);
            }
            answers.ask(50);
            answers.on_committed(60);
            stream.capacity = 1000;
            answers.flush(&mut stream);
            assert!(stream.written.len() <= capacity, "not written to while it is full");
            answers.set_writable();
            answers.flush(&mut stream);
            let written = String::from_utf8(stream.written).unwrap();
            assert!(written.starts_with("awaited 1\n") && written.ends_with("committed 59\n"));
            let mut last = 0;
            for line in written.lines() {
                let (word, sequence) = line.split_once(' ').unwrap();
                let sequence: u64 = sequence.parse().unwrap();
                assert!(word == "awaited" || (word == "committed" && sequence > last), "{written}");
                if word == "committed" {
                    last = sequence;
                }
            }
        }
    }
}
