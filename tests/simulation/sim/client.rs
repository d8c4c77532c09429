//! What the model knows of one client.

use eventserver::hub::CloseReason;

use super::event::number;

/// A queue that has to come down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) since: u64,
    /// It is over when no more bytes than this are queued.
    pub(crate) low_watermark: u64,
    /// It was seen at rest, where nothing else explains that an event waits.
    pub(crate) is_certain: bool,
}

/// A client that the server has accepted and not closed.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// When it was accepted, in milliseconds.
    pub(crate) since: u64,
    first_line: Vec<u8>,
    /// Who it is, once its id line was read.
    pub(crate) user: Option<u64>,
    /// All that it is to receive.
    pub(crate) expected: Vec<u8>,
    /// How much of that its socket has taken.
    pub(crate) written: u64,
    /// The server has shut its side down, and waited for the client to end.
    pub(crate) has_lingered_out: bool,
    /// What its socket has taken in this turn.
    pub(crate) just_written: Vec<u8>,
    /// Why it is to be closed in this turn.
    pub(crate) expected_close: Option<CloseReason>,
    /// It was taken over when it had ended already.
    pub(crate) may_have_ended: bool,
    /// Bytes that it would have got since its fate was sealed.
    pub(crate) bytes_not_queued: u64,
    /// A write failed in this turn: how much it got is anyone's guess.
    pub(crate) is_broken: bool,
    pub(crate) stall: Option<Stall>,
    /// Since when it may hold up the order.
    pub(crate) blocking_since: Option<u64>,
}

impl Client {
    pub(crate) fn new(since: u64) -> Client {
        Client { since, ..Client::default() }
    }

    /// Takes bytes of its first line. Once that is whole, says who it is, if it says so rightly.
    pub(crate) fn read_id(&mut self, bytes: &[u8]) -> Option<Option<u64>> {
        self.first_line.extend(bytes);
        let Some(end) = self.first_line.iter().position(|&byte| byte == b'\n') else {
            return (self.first_line.len() >= 66).then_some(None);
        };
        let line = &self.first_line[..end];
        Some(number(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Bytes that wait for it.
    pub(crate) fn queued(&self) -> u64 {
        self.queued_at(self.written)
    }

    fn queued_at(&self, written: u64) -> u64 {
        (self.expected.len() as u64).saturating_sub(written)
    }

    /// Bytes that waited for it as the turn began; to be asked before anything is applied.
    pub(crate) fn queued_before(&self) -> u64 {
        self.queued_at(self.written - self.just_written.len() as u64)
    }

    /// Whether an event of this size does not fit.
    pub(crate) fn is_full_for(&self, size: u64, limit: u64) -> bool {
        self.queued() > 0 && self.queued() + size > limit
    }

    /// Compares what was written with what was to be.
    pub(crate) fn check_written(&mut self) {
        let end = self.written as usize;
        let start = end - self.just_written.len();
        let expected = self.expected.get(start..end).unwrap_or(b"not so much");
        assert!(
            self.just_written == expected,
            "from byte {start} on \"{}\" was written instead of \"{}\"",
            self.just_written.escape_ascii(),
            expected.escape_ascii(),
        );
        self.just_written.clear();
    }
}
