//! The model of the answers to a source that sends `SYNC`.

/// The maximum number of lines that a turn begins: one whose bytes were all refused before, and one of each kind.
const MAX_LINES_PER_TURN: usize = 3;

/// The answers to one source.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The number of `SYNC` lines, and of answers `awaited`. One answer may be to several lines.
    asked: u64,
    answered: u64,
    /// The awaited sequence before the turn of the last `SYNC`.
    asked_at: u64,
    /// Bytes written after the last complete line.
    tail: Vec<u8>,
    last_awaited: Option<u64>,
    last_committed: Option<u64>,
    /// A write has failed, so nothing more is written.
    pub(crate) is_broken: bool,
}

impl Answers {
    /// Records a `SYNC` that was processed in a turn before which `awaited` was awaited.
    pub(crate) fn on_sync(&mut self, awaited: u64) {
        self.asked += 1;
        self.asked_at = awaited;
        self.last_awaited.get_or_insert(awaited);
    }

    /// Checks the bytes written in a turn, after which `awaited` is awaited.
    pub(crate) fn check_written(&mut self, bytes: &[u8], awaited: u64) {
        let mut begun = 0;
        for &byte in bytes {
            begun += usize::from(self.tail.is_empty());
            match byte {
                b'\n' => self.end_line(awaited),
                byte => self.tail.push(byte),
            }
        }
        assert!(begun <= MAX_LINES_PER_TURN, "{begun} answers in one turn");
    }

    fn end_line(&mut self, awaited: u64) {
        let line = String::from_utf8(std::mem::take(&mut self.tail)).unwrap();
        let Some((word, number)) = line.split_once(' ') else { panic!("{line:?} is no answer") };
        let number: u64 = number.parse().unwrap();
        match word {
            "awaited" => {
                self.answered += 1;
                assert!(self.answered <= self.asked, "{line}, but nothing was asked");
                let is_new = self.last_awaited.is_some_and(|last| last <= number);
                assert!(is_new && number <= awaited, "{line} while {awaited} is awaited");
                self.last_awaited = Some(number);
            }
            "committed" => {
                assert!(self.answered > 0, "{line} before any answer");
                assert!(number < awaited, "{line} while {awaited} is awaited");
                assert!(self.last_committed.is_none_or(|last| last < number), "{line} again");
                self.last_committed = Some(number);
            }
            _ => panic!("{line} is no answer"),
        }
    }

    /// Checks that nothing is left to be answered while `awaited` is awaited.
    pub(crate) fn check_complete(&self, awaited: u64) {
        let Some(last_awaited) = self.last_awaited.filter(|_| !self.is_broken) else { return };
        assert!(self.tail.is_empty(), "an answer is cut off: {}", self.tail.escape_ascii());
        let is_answered = self.answered > 0 && last_awaited >= self.asked_at;
        assert!(is_answered, "a SYNC is not answered");
        let known = last_awaited.max(self.last_committed.map_or(0, |last| last + 1));
        assert_eq!(known, awaited, "the awaited sequence is not reported");
    }
}
