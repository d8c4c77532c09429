//! The users that deliveries can reach, and how far each is known to those it follows.

use slab::Slab;

use super::graph::Recipient;
use super::sets::SmallIndexSet;

/// A table of recipients. Each is registered, or was and still stands in the lists of the users that it
/// follows.
#[derive(Debug, Default)]
pub(super) struct RecipientTable {
    entries: Slab<Entry>,
    /// RecipientTable that are registered and not yet in all the lists they belong to.
    unindexed: SmallIndexSet,
    /// RecipientTable that are not registered and still in some lists.
    stale: SmallIndexSet,
}

#[derive(Debug)]
struct Entry {
    /// The user's key in the graph.
    user: u32,
    /// How far the user's follows have been walked through, to put it into lists or take it out.
    cursor: usize,
}

/// One recipient whose lists are being brought up to date.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub(super) recipient: Recipient,
    pub(super) user: u32,
    pub(super) cursor: usize,
}

impl RecipientTable {
    /// A recipient for a user that has none.
    pub(super) fn add(&mut self, user: u32) -> Recipient {
        let number = self.entries.insert(Entry { user, cursor: 0 });
        // There are no more than users.
        Recipient(number as u32)
    }

    /// The user is registered: it has to be put into the lists of those it follows.
    pub(super) fn begin_indexing(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
        self.unindexed.insert(recipient.0);
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// The user is registered again, and follows nobody: it has nothing to be taken out of.
    pub(super) fn finish_unindexing(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
    }

    /// The user is not registered any more: it has to be taken out of the lists.
    pub(super) fn begin_unindexing(&mut self, recipient: Recipient) {
        self.unindexed.remove(recipient.0);
        self.stale.insert(recipient.0);
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// Registered recipients that may be missing in lists, with the keys of their users.
    pub(super) fn unindexed(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        let numbers = self.unindexed.as_slice().iter();
        numbers.map(|&number| (number, self.entries[number as usize].user))
    }

    pub(super) fn is_any_unindexed(&self) -> bool {
        !self.unindexed.as_slice().is_empty()
    }

    pub(super) fn is_up_to_date(&self) -> bool {
        self.unindexed.as_slice().is_empty() && self.stale.as_slice().is_empty()
    }

    /// A recipient to put into lists.
    pub(super) fn next_to_index(&self) -> Option<Walk> {
        self.unindexed.as_slice().first().map(|&number| self.walk(number))
    }

    /// A recipient to take out of lists.
    pub(super) fn next_to_unindex(&self) -> Option<Walk> {
        self.stale.as_slice().first().map(|&number| self.walk(number))
    }

    /// The key of the user that a recipient belongs to.
    #[cfg(test)]
    pub(super) fn user(&self, recipient: Recipient) -> u32 {
        self.entries[recipient.0 as usize].user
    }

    fn walk(&self, number: u32) -> Walk {
        let &Entry { user, cursor } = &self.entries[number as usize];
        Walk { recipient: Recipient(number), user, cursor }
    }

    /// The walk goes on from there another time.
    pub(super) fn keep_cursor(&mut self, walk: &Walk) {
        self.entries[walk.recipient.0 as usize].cursor = walk.cursor;
    }

    /// The user's follows stand elsewhere now: a walk under way begins anew.
    pub(super) fn restart_walk(&mut self, recipient: Recipient) {
        self.entries[recipient.0 as usize].cursor = 0;
    }

    /// The recipient is in all the lists it belongs to.
    pub(super) fn finish_indexing(&mut self, recipient: Recipient) {
        self.unindexed.remove(recipient.0);
    }

    /// The recipient is in no list: its number may name another user.
    pub(super) fn remove(&mut self, recipient: Recipient) {
        self.stale.remove(recipient.0);
        self.unindexed.remove(recipient.0);
        self.entries.remove(recipient.0 as usize);
    }

    /// All lists are empty, and users have other keys: `registered` names those that are registered, with their new keys.
    pub(super) fn restart(&mut self, registered: impl IntoIterator<Item = (Recipient, u32)>) {
        for &number in self.stale.as_slice() {
            self.entries.remove(number as usize);
        }
        self.stale = SmallIndexSet::default();
        self.unindexed = SmallIndexSet::default();
        for (recipient, user) in registered {
            self.entries[recipient.0 as usize].user = user;
        }
    }
}
