//! ID lines that are read in the following turns, so that thousands that arrive together do not make one turn
//! long.

use std::collections::VecDeque;

use crate::hub::token::ClientKey;

/// Clients whose ID line may have arrived and was not read, in the order in which they are read.
///
/// Bytes of a source are applied only after those ID lines were read that had arrived before them. So a client that
/// is put off in a turn in which sources were read is *owed*, and so is any that is accepted before they are applied:
/// until no such client is left, sources are not read and nothing is applied. Others that are put off meanwhile come
/// later, or clients that send their ID lines byte by byte could stop the stream.
#[derive(Debug, Default)]
pub(super) struct PutOffIds {
    owed: VecDeque<ClientKey>,
    later: VecDeque<ClientKey>,
    /// Whether clients were owed when the turn began.
    is_continued: bool,
    /// ID lines that may still be read in this turn.
    left: usize,
    /// Clients whose end was known when they were put off, or more.
    ended: usize,
}

impl PutOffIds {
    /// Begins a turn that reads at most `budget` ID lines.
    pub(super) fn begin_turn(&mut self, budget: usize) {
        self.left = budget;
        self.is_continued = !self.owed.is_empty();
        if !self.is_continued {
            std::mem::swap(&mut self.owed, &mut self.later);
        }
    }

    /// Returns whether the budget of the turn has room for another ID line, which it counts.
    pub(super) fn take_from_budget(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }

    /// Puts off a client. `is_new` is whether it was not read since it was accepted, `has_ended` whether its end is
    /// known.
    pub(super) fn push(&mut self, key: ClientKey, is_new: bool, has_ended: bool) {
        self.ended += usize::from(has_ended);
        match self.is_continued && !is_new {
            true => self.later.push_back(key),
            false => self.owed.push_back(key),
        }
    }

    /// Removes the next client, as long as the budget lasts.
    pub(super) fn pop(&mut self) -> Option<ClientKey> {
        if self.left == 0 {
            return None;
        }
        self.owed.pop_front().or_else(|| self.later.pop_front())
    }

    /// Removes the clients of which `has_ended` says that their end is known, and returns them.
    pub(super) fn take_ended(&mut self, has_ended: impl Fn(ClientKey) -> bool) -> Vec<ClientKey> {
        match std::mem::take(&mut self.ended) {
            0 => Vec::new(),
            _ => self.take(has_ended),
        }
    }

    /// Removes the clients of which `is_taken` says so, and returns them.
    pub(super) fn take(&mut self, is_taken: impl Fn(ClientKey) -> bool) -> Vec<ClientKey> {
        let mut taken = Vec::new();
        for queue in [&mut self.owed, &mut self.later] {
            queue.retain(|&key| {
                let is_taken = is_taken(key);
                taken.extend(is_taken.then_some(key));
                !is_taken
            });
        }
        taken
    }

    /// Returns whether clients were owed when the turn began.
    pub(super) fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// Returns whether a client is owed.
    pub(super) fn is_any_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.later.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ids: &mut PutOffIds) -> Vec<u32> {
        let read = std::iter::from_fn(|| ids.pop().filter(|_| ids.take_from_budget()));
        read.map(|ClientKey(key)| key).collect()
    }

    #[test]
    fn those_of_the_first_turn_are_read_before_anything_is_applied_and_others_later() {
        let mut ids = PutOffIds::default();
        ids.begin_turn(2);
        assert!(ids.take_from_budget() && ids.take_from_budget() && !ids.take_from_budget());
        (1..=5).for_each(|key| ids.push(ClientKey(key), false, false));
        ids.begin_turn(2);
        assert_eq!(read(&mut ids), [1, 2]);
        (6..=8).for_each(|key| ids.push(ClientKey(key), false, false));
        ids.push(ClientKey(9), true, false);
        assert!(ids.is_any_owed());
        ids.begin_turn(5);
        assert!(ids.is_continued());
        assert_eq!(read(&mut ids), [3, 4, 5, 9, 6]);
        assert!(
            !ids.is_any_owed() && !ids.is_empty(),
            "7 and 8 have arrived after the sources were read"
        );
        ids.begin_turn(1);
        assert!(!ids.is_continued() && ids.is_any_owed(), "and before they are read again");
        assert_eq!(read(&mut ids), [7]);
        ids.begin_turn(1);
        assert_eq!(read(&mut ids), [8]);
        assert!(ids.is_empty());
    }

    #[test]
    fn those_that_have_ended_can_be_read_first() {
        let mut ids = PutOffIds::default();
        ids.begin_turn(0);
        (1..=4).for_each(|key| ids.push(ClientKey(key), false, key % 2 == 0));
        let ended = ids.take_ended(|ClientKey(key)| key % 2 == 0);
        assert_eq!(ended, [ClientKey(2), ClientKey(4)]);
        assert!(ids.take_ended(|_| unreachable!("none is known to have ended")).is_empty());
        ids.begin_turn(9);
        assert_eq!(read(&mut ids), [1, 3]);
    }
}
