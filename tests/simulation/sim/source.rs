//! The model of one source.

use std::rc::Rc;

use eventserver::hub::CloseReason;

use super::answers::Answers;
use super::sequencer::Line;

/// A source between accept and close.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Bytes read after the last complete line.
    tail: Vec<u8>,
    /// The reason why nothing more can be read.
    pub(crate) end: Option<CloseReason>,
    /// The last read would have blocked, or was short because nothing was left.
    pub(crate) is_drained: bool,
    /// It exceeds the limit of sources.
    pub(crate) is_rejected: bool,
    /// The server has read it, so it counts against the limit.
    pub(crate) is_admitted: bool,
    /// Bytes that the server has written in this turn.
    pub(crate) just_written: Vec<u8>,
    pub(crate) answers: Answers,
}

impl Source {
    /// Appends bytes, and returns the lines that they complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Line> {
        self.is_drained = false;
        self.is_admitted = true;
        self.tail.extend(bytes);
        let mut lines: Vec<Line> = self
            .tail
            .split(|&byte| byte == b'\n')
            .map(|line| Rc::from(line.strip_suffix(b"\r").unwrap_or(line)))
            .collect();
        lines.pop();
        let end = self.tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.tail.drain(..end);
        lines
    }

    pub(crate) fn finish(&mut self, reason: CloseReason) {
        self.is_drained = true;
        self.is_admitted = true;
        self.end = Some(reason);
    }

    /// Returns whether an incomplete line is left.
    pub(crate) fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }
}
