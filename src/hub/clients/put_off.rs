//! Closes that are put off to the following turns, so that thousands of clients that end together do not make
//! one turn long.

use std::collections::VecDeque;
use std::time::Instant;

use super::lingering::Lingering;
use super::table::ClientTable;
use crate::hub::token::ClientKey;

/// Connections that are closed but for their descriptors, in the order of their ends. In the table they linger.
#[derive(Debug, Default)]
pub(super) struct PutOffCloses {
    /// An entry is stale once its connection is closed. It may then name another one that was put off later, which is
    /// closed earlier.
    queue: VecDeque<ClientKey>,
    /// Connections that may still be closed in this turn.
    left: usize,
}

impl PutOffCloses {
    /// Begins a turn that closes at most `budget` connections, those put off before first.
    pub(super) fn begin_turn<S>(&mut self, clients: &mut ClientTable<S>, budget: usize) {
        self.left = budget;
        while self.left > 0 && self.close_first(clients) {
            self.left -= 1;
        }
    }

    /// Returns whether the budget of the turn has room for another close, which it counts.
    pub(super) fn take_from_budget(&mut self) -> bool {
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }

    /// Puts off the close of a client that was taken out of the table.
    pub(super) fn push<S>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        stream: S,
        now: Instant,
    ) {
        let lingering = Lingering { stream, since: now, is_put_off: true, in_read_list: false };
        clients.linger(key, lingering);
        self.queue.push_back(key);
    }

    /// Closes connections until at most `max` linger, or none is put off.
    pub(super) fn close_down_to<S>(&mut self, clients: &mut ClientTable<S>, max: usize) {
        while clients.lingering() > max && self.close_first(clients) {}
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Closes the first connection. Returns whether there was one.
    fn close_first<S>(&mut self, clients: &mut ClientTable<S>) -> bool {
        while let Some(key) = self.queue.pop_front() {
            if clients.is_put_off(key) {
                clients.remove(key);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    /// Ends clients as long as the budget lasts and puts off the others; returns the table and what is put off.
    fn ended(count: u32, budget: usize) -> (ClientTable<()>, PutOffCloses) {
        let (mut clients, mut closes) = (ClientTable::new(), PutOffCloses::default());
        let now = Instant::now();
        closes.begin_turn(&mut clients, budget);
        for _ in 0..count {
            let key = clients.insert((), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), now);
            clients.take(key);
            match closes.take_from_budget() {
                true => clients.remove(key),
                false => closes.push(&mut clients, key, (), now),
            }
        }
        (clients, closes)
    }

    #[test]
    fn each_turn_closes_as_many_as_its_budget() {
        let (mut clients, mut closes) = ended(10, 4);
        assert_eq!(clients.len(), 6);
        closes.begin_turn(&mut clients, 4);
        assert!(clients.len() == 2 && !closes.take_from_budget());
        closes.begin_turn(&mut clients, 4);
        assert!(clients.is_empty() && closes.is_empty());
        // The third used half of its budget.
        assert!(closes.take_from_budget() && closes.take_from_budget());
        assert!(!closes.take_from_budget());
    }

    #[test]
    fn where_descriptors_are_needed_they_are_closed_at_once() {
        let (mut clients, mut closes) = ended(10, 4);
        closes.close_down_to(&mut clients, 5);
        assert!(clients.lingering() == 5 && !closes.is_empty());
        closes.close_down_to(&mut clients, 0);
        assert!(clients.is_empty() && closes.is_empty());
    }
}
