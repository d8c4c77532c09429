//! Recipient numbers, and which of them still have to be added to or removed from lists of followers.

use std::num::NonZero;

use super::graph::Recipient;
use super::paged_slab::PagedSlab;
use super::sets::SmallIndexSet;

/// The table of recipients. Each is registered, or unregistered but still in lists of its followees.
#[derive(Debug, Default)]
pub(super) struct RecipientTable {
    entries: PagedSlab<Entry>,
    /// Registered recipients that may be missing from lists of their followees.
    unindexed: SmallIndexSet,
    /// Unregistered recipients that may still be in lists.
    stale: SmallIndexSet,
}

/// A recipient, in 8 bytes.
#[derive(Debug)]
struct Entry {
    /// The user's key in the graph, which is below 2³²−1, plus one: so a vacant entry takes no memory of its own.
    user_plus_one: NonZero<u32>,
    /// The position of the walk over the user's followees, of whom there are less than 2³².
    cursor: u32,
}

impl Entry {
    fn new(user: u32) -> Entry {
        Entry { user_plus_one: NonZero::<u32>::MIN.saturating_add(user), cursor: 0 }
    }

    fn user(&self) -> u32 {
        self.user_plus_one.get() - 1
    }
}

/// A walk over the followees of one recipient, which updates their lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub(super) recipient: Recipient,
    pub(super) user: u32,
    pub(super) cursor: usize,
}

/// What a walk does with the lists of the followees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkTask {
    /// It adds a registered recipient.
    Index,
    /// It removes a recipient that is no longer registered.
    Unindex,
}

impl RecipientTable {
    /// Adds a recipient for a user without one.
    pub(super) fn add(&mut self, user: u32) -> Recipient {
        Recipient(self.entries.insert(Entry::new(user)))
    }

    /// Schedules adding a registered recipient to the lists of its followees.
    pub(super) fn begin_indexing(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
        self.unindexed.insert(recipient.0);
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// Cancels the removal from lists, for a recipient that is registered again and has no followees.
    pub(super) fn finish_unindexing(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
    }

    /// Schedules removing an unregistered recipient from the lists of its followees.
    pub(super) fn begin_unindexing(&mut self, recipient: Recipient) {
        self.unindexed.remove(recipient.0);
        self.stale.insert(recipient.0);
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// Returns the registered recipients that may be missing from lists, with the keys of their users.
    pub(super) fn unindexed(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        let numbers = self.unindexed.as_slice().iter();
        numbers.map(|&number| (number, self.entries[number as usize].user()))
    }

    pub(super) fn is_any_unindexed(&self) -> bool {
        !self.unindexed.as_slice().is_empty()
    }

    pub(super) fn is_up_to_date(&self) -> bool {
        self.unindexed.as_slice().is_empty() && self.stale.as_slice().is_empty()
    }

    /// Returns the walk of the next recipient with this task.
    pub(super) fn next_walk(&self, task: WalkTask) -> Option<Walk> {
        let waiting = match task {
            WalkTask::Index => &self.unindexed,
            WalkTask::Unindex => &self.stale,
        };
        let &number = waiting.as_slice().first()?;
        let entry = &self.entries[number as usize];
        let (user, cursor) = (entry.user(), entry.cursor as usize);
        Some(Walk { recipient: Recipient(number), user, cursor })
    }

    /// Iterates over all recipients and the keys of their users.
    pub(super) fn users(&self) -> impl Iterator<Item = (Recipient, u32)> {
        self.entries.iter().map(|(number, entry)| (Recipient(number), entry.user()))
    }

    /// Returns the number of recipients.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the key of a recipient's user.
    #[cfg(test)]
    pub(super) fn user(&self, recipient: Recipient) -> u32 {
        self.entries[recipient.0 as usize].user()
    }

    /// Saves the position of an unfinished walk.
    pub(super) fn save_cursor(&mut self, walk: &Walk) {
        self.entries[walk.recipient.0 as usize].cursor = walk.cursor as u32;
    }

    /// Restarts a recipient's walk, because its user's followees have moved.
    pub(super) fn restart_walk(&mut self, recipient: Recipient) {
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// Marks a recipient as present in all lists of its followees.
    pub(super) fn finish_indexing(&mut self, recipient: Recipient) {
        self.unindexed.remove(recipient.0);
    }

    /// Removes a recipient that is in no list. Its number may be reused for another user.
    pub(super) fn remove(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
        self.unindexed.remove(recipient.0);
        self.entries.remove(recipient.0);
    }

    /// Resets the table after all lists were cleared. `registered` holds the registered recipients with the
    /// new keys of their users.
    pub(super) fn reset(&mut self, registered: impl IntoIterator<Item = (Recipient, u32)>) {
        for &number in self.stale.as_slice() {
            self.entries.remove(number);
        }
        self.stale = SmallIndexSet::default();
        self.unindexed = SmallIndexSet::default();
        for (recipient, user) in registered {
            self.entries[recipient.0 as usize] = Entry::new(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_takes_8_bytes() {
        assert_eq!(PagedSlab::<Entry>::ENTRY_BYTES, 8);
    }
}
