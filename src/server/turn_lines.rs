//! The lines that leave in one turn.

use super::byte_queue::{ByteQueue, size_of_line};
use crate::protocol::Line;

/// Every line that is delivered in a turn, once, with its terminator: what goes to everybody in one
/// block, what goes to some in another place. Outboxes refer to them, and copy them out when they are
/// flushed: so the lines stay in the cache, and each outbox is written in one go.
#[derive(Debug, Default)]
pub(crate) struct TurnLines {
    /// What goes to everybody.
    pub(crate) block: ByteQueue,
    /// What goes to some.
    pub(crate) picked: ByteQueue,
}

/// A line for some clients, and how much of the block comes before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    /// Bytes of the block that were broadcast before the line.
    pub(crate) block_end: u32,
    /// Where the line starts.
    pub(crate) at: u32,
    /// Bytes of the line and its terminator.
    pub(crate) size: u32,
}

impl TurnLines {
    /// Keeps a line that goes to some clients.
    #[inline(always)]
    pub(crate) fn pick(&mut self, line: &Line<'_>) -> Pick {
        let pick = Pick {
            block_end: self.block.len() as u32,
            at: self.picked.len() as u32,
            size: size_of_line(line) as u32,
        };
        self.picked.push_line(line);
        pick
    }

    /// How many bytes they are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.block.len() + self.picked.len()
    }

    /// Forgets them, after every outbox has copied what is for it.
    pub(crate) fn clear(&mut self) {
        self.block.clear();
        self.picked.clear();
    }
}
