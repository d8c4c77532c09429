//! The newest entries, which are kept to be appended again if the engine loses them.

use std::collections::VecDeque;

use super::entry::Entry;

/// The newest entries, in order, and how many bytes they take.
#[derive(Debug, Default)]
pub struct Retained {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Retained {
    /// Appends an entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
    }

    /// Removes the oldest entries while all take more than `max_bytes`, up to one that `may_remove` refuses.
    pub(super) fn trim(&mut self, max_bytes: usize, may_remove: impl Fn(&Entry) -> bool) {
        while self.bytes > max_bytes
            && self.oldest().is_some_and(&may_remove)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Returns the oldest entry.
    pub(super) fn oldest(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Iterates over the entries, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Returns the number of bytes of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
impl FromIterator<Entry> for Retained {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Retained {
        let mut retained = Retained::default();
        entries.into_iter().for_each(|entry| retained.push(entry));
        retained
    }
}
