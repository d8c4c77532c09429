//! Deadlines that all lie equally far ahead.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A queue of things that time out after one and the same duration, so that the first in is the
/// first due. An entry cannot be taken back: its owner looks whether it still means something.
#[derive(Debug)]
pub(crate) struct Timeouts<T> {
    after: Duration,
    queue: VecDeque<(Instant, T)>,
}

impl<T> Timeouts<T> {
    pub(crate) fn new(after: Duration) -> Timeouts<T> {
        Timeouts { after, queue: VecDeque::new() }
    }

    pub(crate) fn start(&mut self, now: Instant, what: T) {
        self.queue.push_back((now + self.after, what));
    }

    /// When the first entry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|&(due, _)| due)
    }

    /// Takes the first entry if it is due, or if it means nothing any more.
    pub(crate) fn pop_due(&mut self, now: Instant, is_over: impl Fn(&T) -> bool) -> Option<T> {
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
        let mut timeouts = Timeouts::new(second);
        assert_eq!(timeouts.next(), None);
        timeouts.start(start, "a");
        timeouts.start(start + second, "b");
        assert_eq!(timeouts.next(), Some(start + second));
        assert_eq!(timeouts.pop_due(start, |_| false), None);
        assert_eq!(timeouts.pop_due(start + second, |_| false), Some("a"));
        assert_eq!(timeouts.pop_due(start + second, |_| false), None);
        assert_eq!(timeouts.pop_due(start + second, |&what| what == "b"), Some("b"));
    }
}
