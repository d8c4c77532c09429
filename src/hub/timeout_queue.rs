//! A queue of start times with one common timeout.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A queue with fewer entries is not compacted.
const MIN_COMPACT_LEN: usize = 1024;

/// FIFO of entries with one common timeout, so that the first in is the first to expire. Entries
/// cannot be cancelled: the owner checks whether an entry is stale.
///
/// Stale entries are removed once the queue has more than twice as many entries as were live at the
/// last compaction, and more than [`MIN_COMPACT_LEN`]. A long queue frees its memory once it is empty.
#[derive(Debug)]
pub(crate) struct TimeoutQueue<T> {
    timeout: Duration,
    /// Entries with the start of their timeout.
    queue: VecDeque<(Instant, T)>,
    /// The queue is compacted when it has more entries than this.
    compact_at: usize,
}

impl<T> TimeoutQueue<T> {
    pub(crate) fn new(timeout: Duration) -> TimeoutQueue<T> {
        TimeoutQueue { timeout, queue: VecDeque::new(), compact_at: MIN_COMPACT_LEN }
    }

    /// Changes the timeout, of the entries in the queue too.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Appends an entry whose timeout starts at `now`.
    pub(crate) fn push(&mut self, now: Instant, entry: T) {
        self.queue.push_back((now, entry));
    }

    /// Returns whether an entry whose timeout started at `since` has expired.
    pub(crate) fn has_expired(&self, since: Instant, now: Instant) -> bool {
        since + self.timeout <= now
    }

    /// Returns when the first entry expires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|&(since, _)| since + self.timeout)
    }

    /// Removes the first entry, expired or not.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        self.queue.pop_front().map(|(_, entry)| entry)
    }

    /// Removes the expired entries and all stale ones before them. Returns the expired ones that are
    /// not stale.
    pub(crate) fn take_expired(&mut self, now: Instant, is_stale: impl Fn(&T) -> bool) -> Vec<T> {
        let removed = std::iter::from_fn(|| self.pop_expired(now, &is_stale));
        let expired = removed.filter(|entry| !is_stale(entry)).collect();
        if self.queue.is_empty() && self.queue.capacity() > MIN_COMPACT_LEN {
            self.queue = VecDeque::new();
        }
        expired
    }

    /// Removes the first entry if it is expired or stale.
    fn pop_expired(&mut self, now: Instant, is_stale: impl Fn(&T) -> bool) -> Option<T> {
        if self.queue.len() > self.compact_at {
            self.queue.retain(|(_, entry)| !is_stale(entry));
            self.compact_at = MIN_COMPACT_LEN.max(2 * self.queue.len());
        }
        let &(since, ref entry) = self.queue.front()?;
        if !self.has_expired(since, now) && !is_stale(entry) {
            return None;
        }
        self.queue.pop_front().map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_is_the_first_to_expire() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timeouts = TimeoutQueue::new(second);
        assert_eq!(timeouts.next_deadline(), None);
        timeouts.push(start, "a");
        timeouts.push(start + second, "b");
        assert_eq!(timeouts.next_deadline(), Some(start + second));
        assert_eq!(timeouts.pop_expired(start, |_| false), None);
        assert_eq!(timeouts.pop_expired(start + second, |_| false), Some("a"));
        assert_eq!(timeouts.pop_expired(start + second, |_| false), None);
        assert_eq!(timeouts.pop_expired(start + second, |&entry| entry == "b"), Some("b"));
    }

    #[test]
    fn a_changed_timeout_counts_for_entries_in_the_queue() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timeouts = TimeoutQueue::new(10 * second);
        timeouts.push(start, "a");
        timeouts.push(start + second, "b");
        timeouts.set_timeout(2 * second);
        timeouts.push(start + 2 * second, "c");
        assert_eq!(timeouts.next_deadline(), Some(start + 2 * second));
        assert_eq!(timeouts.take_expired(start + 3 * second, |_| false), ["a", "b"]);
        timeouts.set_timeout(20 * second);
        assert!(timeouts.take_expired(start + 21 * second, |_| false).is_empty());
        assert_eq!(timeouts.take_expired(start + 22 * second, |_| false), ["c"]);
    }

    #[test]
    fn stale_entries_do_not_accumulate_after_a_live_one() {
        let start = Instant::now();
        let mut timeouts = TimeoutQueue::new(Duration::from_secs(1));
        for number in 0..100_000 {
            timeouts.push(start, number);
            assert_eq!(timeouts.pop_expired(start, |&number| number > 0), None);
        }
        assert!(timeouts.queue.len() <= MIN_COMPACT_LEN + 1);
    }

    #[test]
    fn an_empty_queue_has_little_memory() {
        let start = Instant::now();
        let mut timeouts = TimeoutQueue::new(Duration::from_secs(1));
        (0..10_000).for_each(|number| timeouts.push(start, number));
        assert!(timeouts.take_expired(start, |_| true).is_empty());
        assert!(timeouts.queue.capacity() <= MIN_COMPACT_LEN);
    }
}
