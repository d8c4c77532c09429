//! The client connections to read in a turn, and how many bytes of them may still be discarded.

use crate::hub::token::ClientKey;

/// Keys of connections that may have unread input, in the order in which they are read.
#[derive(Debug, Default)]
pub(super) struct ReadList {
    listed: Vec<ClientKey>,
    /// Clients not read because the budget was exhausted: first in the next turn.
    deferred: Vec<ClientKey>,
    /// Clients that used their share of the budget and may have more input.
    partially_read: Vec<ClientKey>,
    /// Bytes that may still be discarded in this turn.
    pub(super) discard_budget: usize,
}

impl ReadList {
    /// Lists a connection to be read in this turn.
    pub(super) fn push(&mut self, key: ClientKey) {
        self.listed.push(key);
    }

    /// Lists a connection to be read in the next turn. `is_deferred` is whether it was not read
    /// because the budget was exhausted.
    pub(super) fn push_for_next_turn(&mut self, key: ClientKey, is_deferred: bool) {
        match is_deferred {
            true => self.deferred.push(key),
            false => self.partially_read.push(key),
        }
    }

    /// Returns and forgets the connections to be read in this turn.
    pub(super) fn take(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.listed)
    }

    /// Lists what is left for the next turn.
    pub(super) fn end_turn(&mut self) {
        self.deferred.append(&mut self.listed);
        self.deferred.append(&mut self.partially_read);
        std::mem::swap(&mut self.listed, &mut self.deferred);
    }

    /// Returns whether no connection is listed. Valid between two turns.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_had_no_share_is_read_before_those_that_had_one() {
        let mut list = ReadList::default();
        (1..=3).for_each(|key| list.push(ClientKey(key)));
        assert_eq!(list.take(), [ClientKey(1), ClientKey(2), ClientKey(3)]);
        list.push_for_next_turn(ClientKey(1), false);
        list.push_for_next_turn(ClientKey(2), true);
        list.push(ClientKey(4));
        list.end_turn();
        assert_eq!(list.take(), [ClientKey(2), ClientKey(4), ClientKey(1)]);
        assert!(list.is_empty());
    }
}
