//! What the model knows of one source.

use std::rc::Rc;

use eventserver::hub::CloseReason;

use super::sequencer::Line;

/// A source that the server has accepted and not closed.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// What was read behind the last whole line.
    tail: Vec<u8>,
    /// Nothing more can be read, for this reason.
    pub(crate) end: Option<CloseReason>,
    /// The last read brought nothing.
    pub(crate) is_drained: bool,
    /// It is one too many.
    pub(crate) is_rejected: bool,
    /// The server has begun to read it: it counts.
    pub(crate) is_admitted: bool,
}

impl Source {
    /// Takes bytes, and gives the lines that are whole now.
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

    /// Whether it stands in the middle of a line.
    pub(crate) fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }
}
