//! Expected output that has been sent and has not arrived at every checked client.

use std::collections::VecDeque;
use std::time::Instant;

use crate::oracle::model::ExpectedDeliveries;

/// Retired parts that are kept for reuse.
const MAX_IDLE_PARTS: usize = 50;

/// A part of a stream, with its expected deliveries.
pub(crate) struct Part {
    pub(crate) due: Instant,
    pub(crate) deliveries: ExpectedDeliveries,
    /// Clients that have not received all of it.
    pub(crate) waiting: usize,
}

/// The parts that are still in flight, oldest first, numbered from 0.
pub(crate) struct InFlight {
    clients: usize,
    parts: VecDeque<Part>,
    /// The number of the oldest part.
    first: u64,
    /// Memory of the deliveries of all parts, in bytes.
    memory: usize,
    /// Pool of retired parts.
    pool: Vec<Part>,
}

impl InFlight {
    pub(crate) fn for_clients(clients: usize) -> InFlight {
        InFlight { clients, parts: VecDeque::new(), first: 0, memory: 0, pool: Vec::new() }
    }

    /// Returns an empty part, to be filled and pushed.
    pub(crate) fn new_part(&mut self, due: Instant) -> Part {
        let pool = self.pool.pop().map(|part| part.deliveries);
        let mut deliveries = pool.unwrap_or_else(|| ExpectedDeliveries::for_clients(self.clients));
        deliveries.clear();
        Part { due, deliveries, waiting: 0 }
    }

    /// Appends a part.
    pub(crate) fn push(&mut self, mut part: Part) {
        part.deliveries.finish();
        part.waiting = part.deliveries.clients.iter().filter(|due| due.len() > 0).count();
        self.memory += part.deliveries.memory();
        self.parts.push_back(part);
        self.retire_completed();
    }

    /// Returns part `number`, or the oldest part if that one is retired, with its number; `None` if
    /// it has not been pushed.
    pub(crate) fn get(&mut self, number: u64) -> Option<(u64, &mut Part)> {
        let number = number.max(self.first);
        let part = self.parts.get_mut((number - self.first) as usize)?;
        Some((number, part))
    }

    /// Removes the oldest parts that have arrived at every client.
    pub(crate) fn retire_completed(&mut self) {
        while self.parts.front().is_some_and(|part| part.waiting == 0) {
            let Some(part) = self.parts.pop_front() else { return };
            self.memory -= part.deliveries.memory();
            self.first += 1;
            if self.pool.len() < MAX_IDLE_PARTS {
                self.pool.push(part);
            }
        }
    }

    /// Returns the number of the next part.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.parts.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the memory of all parts in flight, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}
