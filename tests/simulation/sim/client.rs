//! The model of one client.

use eventserver::hub::CloseReason;

use super::event::number;
use super::model::Replay;

/// The user of an ID line, and the sequence up to which it has everything.
pub(crate) type IdLine = (u64, Option<u64>);

/// A queue that must drain below its low watermark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) since: u64,
    /// The stall ends when at most this many bytes are queued.
    pub(crate) low_watermark: u64,
    /// It was seen while the server was idle, when nothing else explains why an event waits.
    pub(crate) is_certain: bool,
}

/// A client between accept and close.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Time of its accept, in milliseconds.
    pub(crate) since: u64,
    first_line: Vec<u8>,
    /// Its user, once its ID line was read.
    pub(crate) user: Option<u64>,
    /// It gets no live events yet.
    pub(crate) replay: Option<Replay>,
    /// It has resumed, and its queue was not empty since. It may fill while the order waits for others.
    pub(crate) fills_alone: bool,
    /// All bytes that it must receive.
    pub(crate) expected: Vec<u8>,
    /// How many of them its socket has accepted.
    pub(crate) written: u64,
    /// The server has shut down its sending side, and waited for the client's end.
    pub(crate) has_lingered_out: bool,
    /// The server has read its input to the end, or a read has failed.
    pub(crate) is_read_to_end: bool,
    /// Bytes that its socket accepted in this turn.
    pub(crate) just_written: Vec<u8>,
    /// The reason for which it must be closed in this turn.
    pub(crate) expected_close: Option<CloseReason>,
    /// It had ended already when it was taken over.
    pub(crate) may_have_ended: bool,
    /// Bytes for it since its close was decided.
    pub(crate) bytes_not_queued: u64,
    /// A write failed in this turn: how many bytes arrived is unknown.
    pub(crate) is_broken: bool,
    pub(crate) stall: Option<Stall>,
    /// Since when its queue may block the order.
    pub(crate) blocking_since: Option<u64>,
}

impl Client {
    pub(crate) fn new(since: u64) -> Client {
        Client { since, ..Client::default() }
    }

    /// Appends bytes of the first line. Once it is complete, returns the ID and the sequence, if there is one and
    /// clients may resume, or `Some(None)` if it is invalid.
    pub(crate) fn read_id(&mut self, bytes: &[u8], may_resume: bool) -> Option<Option<IdLine>> {
        self.first_line.extend(bytes);
        let Some(end) = self.first_line.iter().position(|&byte| byte == b'\n') else {
            return (self.first_line.len() >= 66).then_some(None);
        };
        let line = &self.first_line[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b'|').collect();
        Some(match fields[..] {
            [id] => number(id).map(|user| (user, None)),
            [id, sequence] if may_resume => {
                let sequence = number(sequence).filter(|&sequence| sequence != u64::MAX);
                number(id).zip(sequence).map(|(user, sequence)| (user, Some(sequence)))
            }
            _ => None,
        })
    }

    /// Returns the queued bytes, of a client that gets live events.
    pub(crate) fn queued(&self) -> u64 {
        self.queued_at(self.written)
    }

    fn queued_at(&self, written: u64) -> u64 {
        match self.replay {
            Some(_) => 0,
            None => (self.expected.len() as u64).saturating_sub(written),
        }
    }

    /// Returns the bytes queued at the start of the turn; valid only before anything is applied.
    pub(crate) fn queued_before(&self) -> u64 {
        self.queued_at(self.written - self.just_written.len() as u64)
    }

    /// Returns whether an event of this size exceeds the limit.
    pub(crate) fn is_full_for(&self, size: u64, limit: u64) -> bool {
        self.queued() > 0 && self.queued() + size > limit
    }

    /// Checks the bytes written in this turn.
    pub(crate) fn check_written(&mut self) {
        let end = self.written as usize;
        let start = end - self.just_written.len();
        let expected = self.expected.get(start..end).unwrap_or(b"(nothing more)");
        assert!(
            self.just_written == expected,
            "from byte {start} on \"{}\" was written instead of \"{}\"",
            self.just_written.escape_ascii(),
            expected.escape_ascii(),
        );
        self.just_written.clear();
    }
}
