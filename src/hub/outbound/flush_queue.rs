//! The order in which clients are flushed.

use std::collections::VecDeque;

/// The recipients to flush. Each waits for at most one round of all others, whatever is queued meanwhile.
///
/// Newcomers, which were not flushed since they registered, come first, because they have waited for a turn
/// to be accepted. The caller limits how many of them go first, and lets the others
/// [wait](Self::requeue_newcomers) like everybody else, so that newcomers cannot starve the rest.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    newcomers: VecDeque<u32>,
    waiting: VecDeque<u32>,
    /// The number of recipients removed from `waiting` so far.
    removed: u64,
}

impl FlushQueue {
    /// Appends a recipient.
    #[inline]
    pub(crate) fn push(&mut self, recipient: u32, is_newcomer: bool) {
        match is_newcomer {
            true => self.newcomers.push_back(recipient),
            false => self.waiting.push_back(recipient),
        }
    }

    /// Removes the first newcomer.
    pub(crate) fn pop_newcomer(&mut self) -> Option<u32> {
        self.newcomers.pop_front()
    }

    /// Appends the newcomers to those who wait.
    pub(crate) fn requeue_newcomers(&mut self) {
        self.waiting.append(&mut self.newcomers);
    }

    /// Removes the first recipient that waits.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let recipient = self.waiting.pop_front()?;
        self.removed += 1;
        Some(recipient)
    }

    /// Returns whether nothing is to be flushed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.newcomers.is_empty()
    }

    /// Returns how many recipients have to be [removed](Self::removed) until all that wait now are.
    pub(crate) fn appended(&self) -> u64 {
        self.removed + self.waiting.len() as u64
    }

    /// Returns how many recipients that waited were removed so far.
    pub(crate) fn removed(&self) -> u64 {
        self.removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_come_first_and_no_later_than_everybody_else() {
        let mut queue = FlushQueue::default();
        queue.push(1, false);
        queue.push(2, true);
        queue.push(3, true);
        queue.push(4, true);
        assert_eq!(queue.pop_newcomer(), Some(2));
        queue.requeue_newcomers();
        assert_eq!((queue.pop_newcomer(), queue.appended()), (None, 3));
        queue.push(5, false);
        assert_eq!([queue.pop(), queue.pop()], [Some(1), Some(3)]);
        assert!(queue.removed() < 3);
        assert_eq!((queue.pop(), queue.removed()), (Some(4), 3));
        assert_eq!((queue.pop(), queue.pop()), (Some(5), None));
        assert!(queue.is_empty());
    }
}
