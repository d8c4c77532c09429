//! Deadlines that all lie equally far ahead.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Below this many entries a queue is not looked through.
const FEW: usize = 1024;

/// A queue of things that time out after one and the same duration, so that the first in is the
/// first due. An entry cannot be taken back: its owner looks whether it still means something.
///
/// It holds at most twice as many entries as meant something when it was last looked through, or a
/// thousand: whatever comes and goes while the first one waits.
#[derive(Debug)]
pub(crate) struct TimeoutQueue<T> {
    after: Duration,
    queue: VecDeque<(Instant, T)>,
    /// It is looked through when it has more entries than this.
    most: usize,
}

impl<T> TimeoutQueue<T> {
    pub(crate) fn new(after: Duration) -> TimeoutQueue<T> {
        TimeoutQueue { after, queue: VecDeque::new(), most: FEW }
    }

    pub(crate) fn start(&mut self, now: Instant, what: T) {
        self.queue.push_back((now + self.after, what));
    }

    /// Returns when the first entry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|&(due, _)| due)
    }

    /// Takes the first entry, whether or not it is due.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        self.queue.pop_front().map(|(_, what)| what)
    }

    /// Takes the first entry if it is due, or if it means nothing any more.
    pub(crate) fn pop_expired(&mut self, now: Instant, is_over: impl Fn(&T) -> bool) -> Option<T> {
        if self.queue.len() > self.most {
            self.queue.retain(|(_, what)| !is_over(what));
            self.most = FEW.max(2 * self.queue.len());
        }
        let (due, what) = self.queue.front()?;
        if *due > now && !is_over(what) {
            return None;
        }
        self.queue.pop_front().map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_is_the_first_due() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timeouts = TimeoutQueue::new(second);
        assert_eq!(timeouts.next(), None);
        timeouts.start(start, "a");
        timeouts.start(start + second, "b");
        assert_eq!(timeouts.next(), Some(start + second));
        assert_eq!(timeouts.pop_expired(start, |_| false), None);
        assert_eq!(timeouts.pop_expired(start + second, |_| false), Some("a"));
        assert_eq!(timeouts.pop_expired(start + second, |_| false), None);
        assert_eq!(timeouts.pop_expired(start + second, |&what| what == "b"), Some("b"));
    }

    #[test]
    fn what_is_over_does_not_pile_up_behind_one_that_is_not() {
        let start = Instant::now();
        let mut timeouts = TimeoutQueue::new(Duration::from_secs(1));
        for number in 0..100_000 {
            timeouts.start(start, number);
            assert_eq!(timeouts.pop_expired(start, |&number| number > 0), None);
        }
        assert!(timeouts.queue.len() <= FEW + 1);
    }
}
