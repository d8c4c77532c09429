//! Who receives, what is queued for whom, and when that is too much.
//!
//! The engine offers events here. What an event adds is either queued for all of its audience or for
//! none of it. The lines of a turn are kept once, in a [`FanoutBatch`]; a client's are put together when
//! it is flushed, and what its socket refuses waits in its send queue.
//!
//! Accounts, true between any two calls:
//!
//! - what is queued for a client is its send queue and what the turn's batch holds for it;
//! - `queued_total` is the sum of that over the registered;
//! - `max_queue_bound` is at least what is queued for any member.

mod backpressure;
mod block_pool;
mod buffer_pool;
mod byte_buffer;
pub(crate) mod fanout;
pub(crate) mod send_queue;

use std::io::{self, Write};
use std::time::Instant;

use crate::config::{Config, SlowClient};
use crate::engine::{Offer, Recipient, Recipients, Sink};
use crate::hub::clients::client::{Client, ClientState, StallCause};
use crate::hub::clients::table::Clients;
use crate::hub::close_reason::CloseReason;
use crate::hub::outbound::block_pool::BufferPool;
use crate::hub::outbound::byte_buffer::{ByteBuffer, size_of_line};
use crate::hub::outbound::fanout::FanoutBatch;
use crate::hub::outbound::send_queue::{FlushOutcome, SendQueue, Tail};
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;
use crate::protocol::{Line, UserId};

/// Every connection, and all that is queued.
#[derive(Debug)]
pub(crate) struct Outbound<S> {
    pub(crate) clients: Clients<S>,
    /// Keys of the registered clients.
    registered: Vec<ClientKey>,
    /// What is delivered in this turn.
    batch: FanoutBatch,
    /// Clients to be closed within this turn.
    pending_closes: Vec<(ClientKey, CloseReason, Option<io::Error>)>,
    /// Users whose clients were disconnected since they were last taken.
    departed: Vec<UserId>,
    queued_total: u64,
    max_queue_bound: u64,
    client_limit: u64,
    total_limit: u64,
    slow_client: SlowClient,
    /// Stalls under way, by client and start; one that is over may still stand here.
    stalls: TimeoutQueue<(ClientKey, Instant)>,
    /// How many clients have a stall for their own queue.
    stalled_clients: usize,
    /// The queues of all together are full until they hold no more bytes than this.
    total_low_watermark: Option<u64>,
    /// A client has left since that target was set: what waits may be for fewer now.
    is_watermark_stale: bool,
    /// Memory of the send queues.
    pool: BufferPool,
    /// Where the lines of one client are put together, one client after the other.
    piece: ByteBuffer,
    now: Instant,
    /// Lines queued so far.
    pub(crate) lines_queued: u64,
    /// Bytes that sockets have taken so far.
    pub(crate) bytes_written: u64,
    /// Lines queued in this turn for some and not for all.
    pub(crate) addressed_this_turn: u64,
    /// Bytes queued in this turn.
    pub(crate) queued_this_turn: u64,
}

impl<S> Outbound<S> {
    pub(crate) fn new(config: &Config, now: Instant) -> Outbound<S> {
        Outbound {
            clients: Clients::new(),
            registered: Vec::new(),
            batch: FanoutBatch::default(),
            pending_closes: Vec::new(),
            departed: Vec::new(),
            queued_total: 0,
            max_queue_bound: 0,
            client_limit: config.client_queue_bytes,
            total_limit: config.total_queue_bytes.min(BufferPool::MAX_QUEUED_BYTES),
            slow_client: config.slow_client,
            stalls: TimeoutQueue::new(config.stall_timeout),
            stalled_clients: 0,
            total_low_watermark: None,
            is_watermark_stale: false,
            pool: BufferPool::default(),
            piece: ByteBuffer::default(),
            now,
            lines_queued: 0,
            bytes_written: 0,
            addressed_this_turn: 0,
            queued_this_turn: 0,
        }
    }

    /// Starts a turn at `now`.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.addressed_this_turn = 0;
        self.queued_this_turn = 0;
    }

    /// Keys of the registered clients.
    pub(crate) fn registered(&self) -> &[ClientKey] {
        &self.registered
    }

    /// Bytes queued for all clients together.
    pub(crate) fn queued_total(&self) -> u64 {
        self.queued_total
    }

    pub(crate) fn client(&self, key: ClientKey) -> Option<&Client<S>> {
        self.clients.get(key)
    }

    pub(crate) fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client<S>> {
        self.clients.get_mut(key)
    }

    /// From now on the client is `user` and receives what is for this recipient.
    pub(crate) fn join(&mut self, key: ClientKey, user: UserId, Recipient(recipient): Recipient) {
        debug_assert!(!self.batch.has_broadcasts(), "clients register before anything is applied");
        let place = self.registered.len() as u32;
        if let Some(client) = self.clients.get_mut(key) {
            client.state = ClientState::Registered { user, place, recipient };
            self.registered.push(key);
            self.batch.open(recipient, key);
        }
    }

    /// The key of the client that is reached at a recipient.
    pub(crate) fn client_at(&self, Recipient(recipient): Recipient) -> Option<ClientKey> {
        self.batch.client(recipient)
    }

    /// The client receives nothing from now on. What is queued for it is forgotten. Returns who it
    /// was, if it was registered.
    pub(crate) fn leave(&mut self, key: ClientKey) -> Option<UserId> {
        let client = self.clients.get_mut(key)?;
        let ClientState::Registered { user, place, recipient } = client.state else { return None };
        client.state = ClientState::Closing { user };
        self.queued_total -= (client.send_queue.len() + self.batch.queued(recipient)) as u64;
        self.batch.forget(recipient);
        self.end_stall(key);
        self.registered.swap_remove(place as usize);
        if let Some(&moved) = self.registered.get(place as usize)
            && let Some(Client { state: ClientState::Registered { place: its, .. }, .. }) =
                self.clients.get_mut(moved)
        {
            *its = place;
        }
        self.is_watermark_stale = self.total_low_watermark.is_some();
        self.resume_if_below();
        Some(user)
    }

    /// Closes the client within this turn.
    pub(crate) fn schedule_close(
        &mut self,
        key: ClientKey,
        reason: CloseReason,
        error: Option<io::Error>,
    ) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.is_closing
        {
            client.is_closing = true;
            if let Some(recipient) = client.recipient() {
                self.batch.close(recipient);
            }
            self.pending_closes.push((key, reason, error));
        }
    }

    /// The clients to be closed now.
    pub(crate) fn take_pending_closes(
        &mut self,
    ) -> Vec<(ClientKey, CloseReason, Option<io::Error>)> {
        std::mem::take(&mut self.pending_closes)
    }

    /// Users to unregister, since their clients were disconnected for their queues.
    pub(crate) fn take_departed(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.departed)
    }

    /// Puts the client on the list of those to flush.
    pub(crate) fn mark_pending(&mut self, key: ClientKey) {
        if let Some(recipient) = self.client(key).and_then(Client::recipient) {
            self.batch.mark_pending(recipient);
        }
    }

    /// Frees the memory of a queue whose client is closed.
    pub(crate) fn release(&mut self, queue: &mut SendQueue) {
        queue.clear(&mut self.pool);
    }

    /// Returns how many lines more can be queued until those of the turn take `bytes` of memory.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        self.batch.lines_that_fit(bytes)
    }

    /// Gives most of the spare buffers back to the allocator.
    pub(crate) fn shrink_pools(&mut self) {
        self.batch.trim();
    }

    /// What is queued for a member.
    fn queued(&self, key: ClientKey) -> u64 {
        let Some(client) = self.client(key) else { return 0 };
        let in_batch = client.recipient().map_or(0, |recipient| self.batch.queued(recipient));
        (client.send_queue.len() + in_batch) as u64
    }

    /// Panics unless the accounts are right. Looks at every client.
    pub(crate) fn check(&self) {
        let queued = self.registered.iter().map(|&key| self.queued(key));
        assert_eq!(
            self.queued_total,
            queued.clone().sum::<u64>(),
            "the total is the sum of its parts"
        );
        let queues = self.clients.iter().map(|(_, client)| client.send_queue.blocks());
        let blocks: usize = queues.sum();
        assert_eq!(self.pool.used_blocks(), blocks, "each block in use is of a queue");
        assert!(self.max_queue_bound >= queued.max().unwrap_or(0), "no queue is above the largest");
        let full = self.registered.iter().filter(|&&key| {
            let stall = self.client(key).and_then(|client| client.stall.as_ref());
            stall.is_some_and(|stall| stall.cause == StallCause::OwnQueue)
        });
        assert_eq!(self.stalled_clients, full.count(), "the pause knows who holds it");
        for (place, &key) in self.registered.iter().enumerate() {
            let Some(client) = self.client(key) else { panic!("a member is a client") };
            let its_place = match client.state {
                ClientState::Registered { place, .. } => Some(place as usize),
                ClientState::AwaitingId(_) | ClientState::Closing { .. } => None,
            };
            assert_eq!(its_place, Some(place), "a member knows its place");
        }
    }
}

impl<S: Write> Outbound<S> {
    /// Writes what is queued for every client that got something since the last time, as far as
    /// the sockets take it.
    pub(crate) fn flush_pending(&mut self) {
        if self.batch.has_broadcasts() {
            // The newest first, as far as leavers have not mixed them: a newcomer has waited for one turn
            // already, and need not wait for the writes of another.
            for place in (0..self.registered.len()).rev() {
                self.flush(self.registered[place]);
            }
        }
        while let Some(key) = self.batch.pop_pending() {
            self.flush(key);
        }
        self.batch.end_turn();
        self.resume_if_below();
        if self.queued_total == 0 {
            self.max_queue_bound = 0;
        } else if self.max_queue_bound > self.client_limit / 2 {
            // A bound far above what is queued would make each event look twice.
            self.recompute_max_queue_bound();
        }
    }

    /// The same as [`flush`](Self::flush), whether or not the socket has said that it takes bytes
    /// again: for a client that will not hear of it.
    pub(crate) fn flush_before_close(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            client.writable = true;
        }
        self.flush(key);
    }

    /// Writes what is queued for one client, as far as its socket takes it. What is left is in its
    /// send queue then.
    pub(crate) fn flush(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(recipient) = client.recipient() else { return };
        let queue = &mut client.send_queue;
        let before = queue.len() + self.batch.queued(recipient);
        if before == 0 {
            return;
        }
        let mut outcome = match client.is_closing || !client.writable {
            true => Ok(FlushOutcome::WouldBlock),
            false => Ok(FlushOutcome::Complete),
        };
        loop {
            self.piece.clear();
            let is_last = self.batch.drain_into(recipient, &mut self.piece);
            let rest = if is_last { self.batch.unsent_broadcasts(recipient) } else { &[] };
            let tail = Tail(self.piece.as_slice(), rest);
            match outcome {
                Ok(FlushOutcome::Complete) => {
                    outcome = queue.flush(tail, &mut self.pool, &mut client.stream);
                }
                Ok(FlushOutcome::WouldBlock) | Err(_) => queue.extend(tail, &mut self.pool),
            }
            if is_last {
                break;
            }
        }
        self.batch.mark_broadcasts_sent(recipient);
        let after = queue.len();
        let is_stall_over = client.stall.as_ref().is_some_and(|stall| after as u64 <= stall.target);
        client.writable &= !matches!(outcome, Ok(FlushOutcome::WouldBlock));
        let error = outcome.err();
        let written = (before - after) as u64;
        self.queued_total -= written;
        self.bytes_written += written;
        if is_stall_over {
            self.end_stall(key);
        }
        if error.is_some() {
            self.schedule_close(key, CloseReason::IoError, error);
        }
    }

    /// Queues a line for some clients.
    #[inline]
    fn queue(&mut self, recipients: &[u32], line: &Line<'_>) {
        let taken = self.batch.queue(recipients, line);
        self.addressed_this_turn += taken;
        self.account_queued(size_of_line(line), taken);
    }

    /// Queues a line for everybody.
    fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        if self.registered.is_empty() {
            return;
        }
        self.batch.enqueue_broadcast(line);
        self.account_queued(size_of_line(line), self.registered.len() as u64);
    }

    #[inline]
    fn account_queued(&mut self, size: usize, clients: u64) {
        self.max_queue_bound += size as u64;
        self.queued_total += size as u64 * clients;
        self.queued_this_turn += size as u64 * clients;
        self.lines_queued += clients;
    }

    /// Makes `max_queue_bound` exact.
    fn recompute_max_queue_bound(&mut self) {
        let queues = self.registered.iter().map(|&key| self.queued(key));
        self.max_queue_bound = queues.max().unwrap_or(0);
    }
}

impl<S: Write> Sink for Outbound<S> {
    #[inline]
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Offer {
        let size = size_of_line(&line) as u64;
        let count = match audience {
            Recipients::One(_) => 1,
            Recipients::Many(recipients) => recipients.len(),
            Recipients::All => self.registered.len(),
        };
        let fits_fast = self.total_low_watermark.is_none()
            && self.max_queue_bound + size <= self.client_limit
            && self.queued_total + size * count as u64 <= self.total_limit;
        if !fits_fast && !self.try_reserve(audience, size) {
            return Offer::Refused;
        }
        match audience {
            Recipients::One(Recipient(recipient)) => self.queue(&[recipient], &line),
            Recipients::Many(recipients) => self.queue(recipients, &line),
            Recipients::All => self.enqueue_broadcast(&line),
        }
        Offer::Taken
    }
}
