//! Outbound queues: registration, fan-out, flushing and queue limits.
//!
//! The engine offers events here. The line of an event is queued for all of its recipients or for
//! none. The lines of a turn are stored once, in a [`FanoutBatch`]; the bytes of a client are
//! assembled when it is flushed, and its send queue holds those that its socket does not accept.
//!
//! Invariants between any two calls:
//!
//! - the bytes queued for a client are those in its send queue and in the turn's batch;
//! - `queued_total` is their sum over the registered clients;
//! - `max_queue_bound` is an upper bound on the bytes queued for any registered client.

mod backpressure;
mod block_pool;
mod byte_buffer;
pub(crate) mod fanout;
pub(crate) mod send_queue;
mod vec_pool;

use std::io::{self, Write};
use std::time::Instant;

use crate::config::{Config, SlowClient};
use crate::engine::{Full, Recipient, Recipients, Sink};
use crate::hub::clients::client::{Client, ClientState, StallCause};
use crate::hub::clients::table::Clients;
use crate::hub::close_reason::CloseReason;
use crate::hub::outbound::block_pool::BlockPool;
use crate::hub::outbound::byte_buffer::{ByteBuffer, wire_len};
use crate::hub::outbound::fanout::FanoutBatch;
use crate::hub::outbound::send_queue::{FlushOutcome, SendQueue, Tail};
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;
use crate::protocol::{Line, UserId};

/// All client connections and their queues.
#[derive(Debug)]
pub(crate) struct Outbound<S> {
    pub(crate) clients: Clients<S>,
    /// Keys of the registered clients.
    registered: Vec<ClientKey>,
    /// The output of this turn.
    batch: FanoutBatch,
    /// Clients to close within this turn.
    pending_closes: Vec<(ClientKey, CloseReason, Option<io::Error>)>,
    /// Users whose clients were disconnected for their queues, and who are not unregistered in the
    /// engine yet.
    departed: Vec<UserId>,
    queued_total: u64,
    max_queue_bound: u64,
    client_limit: u64,
    total_limit: u64,
    slow_client: SlowClient,
    /// Running stalls, by client and start time. An entry is stale once its stall has ended.
    stalls: TimeoutQueue<(ClientKey, Instant)>,
    /// The number of clients stalled for their own queue.
    stalled_clients: usize,
    /// Applying is paused until all queues together have at most this many bytes.
    total_low_watermark: Option<u64>,
    /// Whether a client was unregistered since the low watermark was set, so that the waiting event
    /// may have fewer recipients now.
    is_watermark_stale: bool,
    /// Memory of the send queues.
    pool: BlockPool,
    /// The staging buffer for the bytes of one client at a time.
    staging: ByteBuffer,
    now: Instant,
    /// Lines queued so far.
    pub(crate) lines_queued: u64,
    /// Bytes written to sockets so far.
    pub(crate) bytes_written: u64,
    /// Addressed deliveries in this turn: non-broadcast lines, counted once per recipient.
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
            total_limit: config.total_queue_bytes.min(BlockPool::MAX_QUEUED_BYTES),
            slow_client: config.slow_client,
            stalls: TimeoutQueue::new(config.stall_timeout),
            stalled_clients: 0,
            total_low_watermark: None,
            is_watermark_stale: false,
            pool: BlockPool::default(),
            staging: ByteBuffer::default(),
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

    /// Returns the keys of the registered clients.
    pub(crate) fn registered(&self) -> &[ClientKey] {
        &self.registered
    }

    /// Returns the number of bytes queued for all clients together.
    pub(crate) fn queued_total(&self) -> u64 {
        self.queued_total
    }

    pub(crate) fn client(&self, key: ClientKey) -> Option<&Client<S>> {
        self.clients.get(key)
    }

    pub(crate) fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client<S>> {
        self.clients.get_mut(key)
    }

    /// Registers the client as `user` under a recipient number.
    pub(crate) fn register(
        &mut self,
        key: ClientKey,
        user: UserId,
        Recipient(recipient): Recipient,
    ) {
        debug_assert!(!self.batch.has_broadcasts(), "clients register before anything is applied");
        let index = self.registered.len() as u32;
        if let Some(client) = self.clients.get_mut(key) {
            client.state = ClientState::Registered { user, index, recipient };
            self.registered.push(key);
            self.batch.register(recipient, key);
        }
    }

    /// Returns the key of the client with a recipient number.
    pub(crate) fn client_at(&self, Recipient(recipient): Recipient) -> Option<ClientKey> {
        self.batch.client(recipient)
    }

    /// Unregisters the client: it receives no more events, and its queued lines are not sent.
    /// Returns its user if it was registered.
    pub(crate) fn unregister(&mut self, key: ClientKey) -> Option<UserId> {
        let client = self.clients.get_mut(key)?;
        let ClientState::Registered { user, index, recipient } = client.state else { return None };
        client.state = ClientState::Closing { user };
        self.queued_total -= (client.send_queue.len() + self.batch.queued(recipient)) as u64;
        self.batch.unregister(recipient);
        self.end_stall(key);
        self.registered.swap_remove(index as usize);
        if let Some(&moved) = self.registered.get(index as usize)
            && let Some(Client {
                state: ClientState::Registered { index: moved_index, .. }, ..
            }) = self.clients.get_mut(moved)
        {
            *moved_index = index;
        }
        self.is_watermark_stale = self.total_low_watermark.is_some();
        self.resume_if_below();
        Some(user)
    }

    /// Schedules the close of the client within this turn.
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

    /// Returns and clears the clients to close.
    pub(crate) fn take_pending_closes(
        &mut self,
    ) -> Vec<(ClientKey, CloseReason, Option<io::Error>)> {
        std::mem::take(&mut self.pending_closes)
    }

    /// Returns and clears the users whose clients were disconnected for their queues.
    pub(crate) fn take_departed(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.departed)
    }

    /// Lists the client for flushing.
    pub(crate) fn mark_pending(&mut self, key: ClientKey) {
        if let Some(recipient) = self.client(key).and_then(Client::recipient) {
            self.batch.mark_pending(recipient);
        }
    }

    /// Frees the memory of the queue of a closed client.
    pub(crate) fn release(&mut self, queue: &mut SendQueue) {
        queue.clear(&mut self.pool);
    }

    /// Returns how many more lines fit until the lines of the turn take `bytes` of memory.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        self.batch.lines_that_fit(bytes)
    }

    /// Frees memory beyond the limits of an idle server.
    pub(crate) fn shrink_pools(&mut self) {
        self.batch.shrink();
    }

    /// Returns the number of bytes queued for a registered client.
    fn queued(&self, key: ClientKey) -> u64 {
        let Some(client) = self.client(key) else { return 0 };
        let in_batch = client.recipient().map_or(0, |recipient| self.batch.queued(recipient));
        (client.send_queue.len() + in_batch) as u64
    }

    /// Panics unless the invariants hold. Checks every client.
    pub(crate) fn check(&self) {
        let queued = self.registered.iter().map(|&key| self.queued(key));
        assert_eq!(
            self.queued_total,
            queued.clone().sum::<u64>(),
            "the total is the sum over the registered clients"
        );
        let queues = self.clients.iter().map(|(_, client)| client.send_queue.blocks());
        let blocks: usize = queues.sum();
        assert_eq!(self.pool.used_blocks(), blocks, "each block in use is of a queue");
        assert!(self.max_queue_bound >= queued.max().unwrap_or(0), "no queue exceeds the bound");
        let stalled = self.registered.iter().filter(|&&key| {
            let stall = self.client(key).and_then(|client| client.stall.as_ref());
            stall.is_some_and(|stall| stall.cause == StallCause::OwnQueue)
        });
        assert_eq!(self.stalled_clients, stalled.count(), "every stall is counted");
        for (index, &key) in self.registered.iter().enumerate() {
            let Some(client) = self.client(key) else { panic!("a registered key is of a client") };
            let stored_index = match client.state {
                ClientState::Registered { index, .. } => Some(index as usize),
                ClientState::AwaitingId(_) | ClientState::Closing { .. } => None,
            };
            assert_eq!(stored_index, Some(index), "a registered client stores its index");
        }
    }
}

impl<S: Write> Outbound<S> {
    /// Flushes every client with new lines or a socket that became writable, and ends the batch of
    /// the turn.
    pub(crate) fn flush_pending(&mut self) {
        if self.batch.has_broadcasts() {
            // Flush newest clients first: they already waited a full turn for their first event.
            // (swap_remove makes the order approximate.)
            for index in (0..self.registered.len()).rev() {
                self.flush(self.registered[index]);
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
            // A stale upper bound would send every event through the slow path.
            self.recompute_max_queue_bound();
        }
    }

    /// Flushes even if the socket last returned `WouldBlock`; used once before closing.
    pub(crate) fn flush_before_close(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            client.writable = true;
        }
        self.flush(key);
    }

    /// Writes the lines of one client until its socket would block. Its send queue keeps the rest.
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
            self.staging.clear();
            let is_last = self.batch.drain_into(recipient, &mut self.staging);
            let rest = if is_last { self.batch.unsent_broadcasts(recipient) } else { &[] };
            let tail = Tail(self.staging.as_slice(), rest);
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
        let is_stall_over =
            client.stall.as_ref().is_some_and(|stall| after as u64 <= stall.low_watermark);
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
        let accepted = self.batch.queue(recipients, line);
        self.addressed_this_turn += accepted;
        self.account_queued(wire_len(line), accepted);
    }

    /// Queues a line for all clients.
    fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        if self.registered.is_empty() {
            return;
        }
        self.batch.enqueue_broadcast(line);
        self.account_queued(wire_len(line), self.registered.len() as u64);
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
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Result<(), Full> {
        let size = wire_len(&line) as u64;
        let count = match audience {
            Recipients::One(_) => 1,
            Recipients::Many(recipients) => recipients.len(),
            Recipients::All => self.registered.len(),
        };
        let fits_fast = self.total_low_watermark.is_none()
            && self.max_queue_bound + size <= self.client_limit
            && self.queued_total + size * count as u64 <= self.total_limit;
        if !fits_fast && !self.try_reserve(audience, size) {
            return Err(Full);
        }
        match audience {
            Recipients::One(Recipient(recipient)) => self.queue(&[recipient], &line),
            Recipients::Many(recipients) => self.queue(recipients, &line),
            Recipients::All => self.enqueue_broadcast(&line),
        }
        Ok(())
    }
}
