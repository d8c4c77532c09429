//! The queues of clients that resume: they get what they have missed, and no live events yet.

use std::io::Write;

use super::Outbound;
use super::output::{REPLAYING, Registered};
use super::send_queue::Tail;
use crate::engine::Recipient;
use crate::hub::clients::ClientTable;
use crate::hub::token::ClientKey;

/// The maximum number of bytes queued for a client that resumes. It is enough for one write; more would only be
/// memory, which a crowd that comes back at once multiplies.
const MAX_REPLAY_BYTES: u64 = 64 << 10;

/// The maximum length of a replayed line with its terminator.
const MAX_LINE_BYTES: u64 = 64 + 2;

/// How many bytes may be queued for a client that resumes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplaySpace {
    /// The limit for its queue, less the bytes that are queued.
    own: u64,
    /// The same of all queues.
    total: u64,
    /// Whether nothing is queued for the client: its queue takes any one line.
    is_empty: bool,
    /// The same of all clients.
    is_total_empty: bool,
}

impl ReplaySpace {
    /// Returns the space, but at most `bytes` and one line.
    pub(crate) fn at_most(self, bytes: usize) -> ReplaySpace {
        ReplaySpace { own: self.own.min(bytes as u64), ..self }
    }

    /// Returns whether so many lines fit with which all new lines have `end` instead of `start` bytes.
    pub(crate) fn fits(self, start: usize, end: usize, lines: u64) -> bool {
        let (is_first_line, end) = (start == 0 && lines == 1, end as u64);
        (end <= self.own || (is_first_line && self.is_empty))
            && (end <= self.total || (is_first_line && self.is_total_empty))
    }
}

impl Outbound {
    /// Registers a client that gets no live events before it [joins](Self::join).
    pub(crate) fn register_replaying<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        let index = self.registered.len();
        if let Some(output) = clients.output_mut(key) {
            output.registration = Some(Registered::new(index, REPLAYING));
            self.registered.push(key);
            self.replaying += 1;
        }
    }

    /// Lets live events follow what is queued for a client.
    pub(crate) fn join<S>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        Recipient(recipient): Recipient,
    ) {
        if let Some(output) = clients.output_mut(key)
            && let Some(registered) = &mut output.registration
            && registered.recipient == REPLAYING
        {
            registered.recipient = recipient;
            self.replaying -= 1;
            self.max_queue_bound = self.max_queue_bound.max(output.unsent_bytes() as u64);
            self.batch.register(recipient, key);
        }
    }

    /// Returns the number of registered clients that get live events.
    #[inline]
    pub(super) fn live(&self) -> usize {
        self.registered.len() - self.replaying
    }

    /// Returns whether the total limit leaves space for a line of a client that resumes. There is none during a pause
    /// for that limit, which waits until the queues fall.
    pub(crate) fn has_replay_space(&self) -> bool {
        let total = self.queued_total;
        !self.backpressure.is_total_paused()
            && (total == 0 || total + MAX_LINE_BYTES <= self.backpressure.total_limit())
    }

    /// Returns the space for a client that resumes.
    pub(crate) fn replay_space<S>(&self, clients: &ClientTable<S>, key: ClientKey) -> ReplaySpace {
        let queued = self.queued(clients, key);
        let total = match self.has_replay_space() {
            true => self.backpressure.total_limit().saturating_sub(self.queued_total),
            false => 0,
        };
        ReplaySpace {
            own: self.backpressure.client_limit().min(MAX_REPLAY_BYTES).saturating_sub(queued),
            total,
            is_empty: queued == 0,
            is_total_empty: self.queued_total == 0 && self.has_replay_space(),
        }
    }

    /// Queues complete lines for a client that resumes, and writes what its socket accepts.
    pub(crate) fn replay<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        bytes: &[u8],
        lines: u64,
    ) {
        let Some(output) = clients.output_mut(key).filter(|_| !bytes.is_empty()) else { return };
        let mut queue = output.take_queue();
        queue.extend(Tail(bytes, &[]), &mut self.pool);
        output.put_queue(queue);
        self.queued_total += bytes.len() as u64;
        self.send_queued += bytes.len() as u64;
        self.lines_queued += lines;
        self.flush(clients, key);
    }

    /// Returns whether the socket of a client has not accepted its whole queue.
    pub(crate) fn has_unsent<S>(&self, clients: &ClientTable<S>, key: ClientKey) -> bool {
        clients.output(key).is_some_and(|output| !output.is_empty())
    }

    /// Returns whether sockets of clients that resume have become writable and were not flushed yet.
    pub(crate) fn has_writable_replays(&self) -> bool {
        !self.writable_replays.is_empty()
    }

    /// Flushes the first client that resumes whose socket has become writable. Returns it and the number of written
    /// bytes.
    pub(crate) fn flush_writable_replay<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
    ) -> Option<(ClientKey, usize)> {
        let key = self.writable_replays.pop_front()?;
        let before = self.bytes_written;
        // It may have joined meanwhile.
        if let Some(output) = clients.output_mut(key) {
            output.writable = true;
            self.flush(clients, key);
        }
        Some((key, (self.bytes_written - before) as usize))
    }
}
