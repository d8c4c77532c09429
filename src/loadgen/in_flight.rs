//! Events that were sent and have not arrived at every client, for clients that are checked byte for
//! byte.

use std::collections::VecDeque;
use std::time::Instant;

use super::model::Deliveries;

/// Parts that have arrived and are kept for their memory.
const MOST_SPARE: usize = 50;

/// A stretch of a stream, and what each client must receive for it.
pub(crate) struct Part {
    pub(crate) due: Instant,
    pub(crate) deliveries: Deliveries,
    /// Clients that have not received all of it.
    pub(crate) waiting: usize,
}

/// The parts that have not arrived at every client, the oldest first. They are numbered from 0.
pub(crate) struct InFlight {
    clients: usize,
    parts: VecDeque<Part>,
    /// The number of the oldest part.
    first: u64,
    /// Memory of their deliveries, in bytes.
    memory: usize,
    /// Those that have arrived, whose memory the next ones take.
    spare: Vec<Part>,
}

impl InFlight {
    pub(crate) fn for_clients(clients: usize) -> InFlight {
        InFlight { clients, parts: VecDeque::new(), first: 0, memory: 0, spare: Vec::new() }
    }

    /// An empty part, to be filled and pushed.
    pub(crate) fn new_part(&mut self, due: Instant) -> Part {
        let spare = self.spare.pop().map(|part| part.deliveries);
        let mut deliveries = spare.unwrap_or_else(|| Deliveries::for_clients(self.clients));
        deliveries.clear();
        Part { due, deliveries, waiting: 0 }
    }

    /// Appends a part that is on its way.
    pub(crate) fn push(&mut self, mut part: Part) {
        part.deliveries.complete();
        part.waiting = part.deliveries.clients.iter().filter(|due| due.len() > 0).count();
        self.memory += part.deliveries.memory();
        self.parts.push_back(part);
        self.forget_arrived();
    }

    /// The part with this number, or the oldest one if that has arrived. With its number; `None` if
    /// it has not been pushed.
    pub(crate) fn get(&mut self, number: u64) -> Option<(u64, &mut Part)> {
        let number = number.max(self.first);
        let part = self.parts.get_mut((number - self.first) as usize)?;
        Some((number, part))
    }

    /// To be called when a client has received all of a part.
    pub(crate) fn forget_arrived(&mut self) {
        while self.parts.front().is_some_and(|part| part.waiting == 0) {
            let Some(part) = self.parts.pop_front() else { return };
            self.memory -= part.deliveries.memory();
            self.first += 1;
            if self.spare.len() < MOST_SPARE {
                self.spare.push(part);
            }
        }
    }

    /// The number of the next part.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.parts.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The memory of all that is in flight, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}
