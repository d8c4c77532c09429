//! Outbound queues: registration, fan-out, flushing and queue limits.
//!
//! The engine offers events to a [`Delivery`]. The line of an event is queued for all of its
//! recipients or for none. Lines are stored once, in a [`FanoutBatch`]; the bytes of a client are assembled
//! when it is flushed, and its send queue holds those that its socket does not accept. A turn flushes a
//! limited number of clients. The others wait in the order of a queue, each with all that was queued for it
//! when its time comes.
//!
//! Invariants between any two calls:
//!
//! - the bytes queued for a client are those in its send queue and in the batch;
//! - `queued_total` is their sum over the registered clients;
//! - `max_queue_bound` is an upper bound on the bytes queued for any client that gets live events.

mod backlog;
mod backpressure;
mod block_pool;
mod byte_buffer;
mod delivery;
mod fanout;
mod flush_queue;
mod line_stream;
mod output;
mod replay;
mod send_queue;
mod vec_pool;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Instant;

use hashbrown::HashMap;
use log::Level;

use self::backlog::Backlog;
use self::backpressure::Backpressure;
use self::output::{REPLAYING, Registered};
use crate::config::Config;
use crate::engine::{Recipient, Recipients};
use crate::hub::budgets::Budgets;
use crate::hub::clients::ClientTable;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::Disconnect;
use crate::hub::context::Context;
use crate::hub::log_limiter::LogKind;
use crate::hub::log_line::log_line;
use crate::hub::outbound::block_pool::BlockPool;
use crate::hub::outbound::byte_buffer::{ByteBuffer, wire_len};
use crate::hub::outbound::fanout::FanoutBatch;
use crate::hub::outbound::send_queue::{FlushOutcome, Tail};
use crate::hub::token::ClientKey;
use crate::protocol::Line;

pub use self::backlog::QueuedClient;
pub(crate) use self::delivery::Delivery;
pub(crate) use self::fanout::OFFSET_BYTES;
pub(crate) use self::output::ClientOutput;
pub(crate) use self::replay::ReplaySpace;

/// The queues of all registered clients.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Keys of the registered clients.
    registered: Vec<ClientKey>,
    /// The number of registered clients that get no live events yet.
    replaying: usize,
    /// Those of them whose sockets have become writable, until they are flushed.
    writable_replays: VecDeque<ClientKey>,
    /// The lines that are not flushed yet.
    batch: FanoutBatch,
    backpressure: Backpressure,
    /// Whether applying was paused when pauses were last logged.
    was_paused: bool,
    /// Clients that were disconnected for their queues and are not unregistered in the engine yet.
    departed: Vec<ClientKey>,
    /// The bytes of queues that were dropped before their clients are closed, in the same turn.
    dropped: HashMap<ClientKey, u64>,
    backlog: Backlog,
    queued_total: u64,
    /// The part of `queued_total` that is in send queues.
    send_queued: u64,
    max_queue_bound: u64,
    /// Memory of the send queues.
    pool: BlockPool,
    /// The staging buffer for the bytes of one client at a time.
    staging: ByteBuffer,
    /// Lines queued so far.
    lines_queued: u64,
    /// Bytes written to sockets so far.
    bytes_written: u64,
    /// Addressed deliveries before this turn.
    addressed_before: u64,
    /// Addressed deliveries in this turn: non-broadcast lines, counted once per recipient.
    addressed_this_turn: u64,
    /// Bytes queued in this turn.
    queued_this_turn: u64,
}

/// Registration of clients.
impl Outbound {
    pub(crate) fn new(config: &Config) -> Outbound {
        Outbound {
            registered: Vec::new(),
            replaying: 0,
            writable_replays: VecDeque::new(),
            batch: FanoutBatch::default(),
            backpressure: Backpressure::new(config),
            was_paused: false,
            departed: Vec::new(),
            dropped: HashMap::new(),
            backlog: Backlog::default(),
            queued_total: 0,
            send_queued: 0,
            max_queue_bound: 0,
            pool: BlockPool::default(),
            staging: ByteBuffer::default(),
            lines_queued: 0,
            bytes_written: 0,
            addressed_before: 0,
            addressed_this_turn: 0,
            queued_this_turn: 0,
        }
    }

    /// Changes the settings, between two turns. If they concern a pause, the event that waits is tried
    /// again, and stall timeouts start anew.
    pub(crate) fn reconfigure<S>(&mut self, clients: &mut ClientTable<S>, config: &Config) {
        if !self.backpressure.reconfigure(config) {
            return;
        }
        self.backpressure.end_total_pause();
        for &key in &self.registered {
            if let Some(output) = clients.output_mut(key) {
                self.backpressure.end_stall(output);
            }
        }
    }

    /// Returns the keys of the registered clients.
    pub(crate) fn registered(&self) -> &[ClientKey] {
        &self.registered
    }

    /// Registers the client under a recipient number.
    pub(crate) fn register<S>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        Recipient(recipient): Recipient,
    ) {
        let index = self.registered.len();
        if let Some(output) = clients.output_mut(key) {
            output.registration = Some(Registered::new(index, recipient));
            self.registered.push(key);
            self.batch.register(recipient, key);
        }
    }

    /// Returns the key of the client with a recipient number.
    pub(crate) fn client_at(&self, Recipient(recipient): Recipient) -> Option<ClientKey> {
        self.batch.client(recipient)
    }

    /// Unregisters the client: it receives no more events, and its queued lines are not sent.
    /// Returns whether it was registered.
    pub(crate) fn unregister<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) -> bool {
        let Some(output) = clients.output_mut(key) else { return false };
        let Some(registered) = output.registration.take() else { return false };
        let (index, recipient) = (registered.index(), registered.recipient);
        self.queued_total -= (output.unsent_bytes() + self.batch.queued(recipient)) as u64;
        self.replaying -= usize::from(recipient == REPLAYING);
        self.send_queued -= output.unsent_bytes() as u64;
        self.batch.unregister(recipient);
        self.backpressure.end_stall(output);
        self.backlog.remove(clients, key);
        self.registered.swap_remove(index);
        if let Some(&moved) = self.registered.get(index)
            && let Some(output) = clients.output_mut(moved)
            && let Some(registered) = &mut output.registration
        {
            registered.set_index(index);
        }
        self.backpressure.on_unregister();
        self.resume_if_below(clients);
        true
    }

    /// Returns and forgets the clients that were disconnected for their queues.
    pub(crate) fn take_departed(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.departed)
    }

    /// Schedules the close of a client within this turn: it accepts no more lines.
    fn schedule_close<S>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        end: impl Into<Disconnect>,
    ) {
        if let Some(recipient) = clients.output(key).and_then(ClientOutput::recipient) {
            self.batch.close(recipient);
        }
        clients.schedule_close(key, end);
    }

    /// Schedules the close of the clients whose queue is empty, and of all others once the drain
    /// timeout has expired. Clients for which more is to be queued are not drained.
    pub(crate) fn close_drained<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
        is_expired: bool,
        has_more: impl Fn(ClientKey) -> bool,
    ) {
        for index in 0..self.registered.len() {
            let key = self.registered[index];
            match self.queued(clients, key) == 0 && !has_more(key) {
                true => self.schedule_close(clients, key, CloseReason::Stopped),
                false if is_expired => {
                    self.flush(clients, key);
                    self.schedule_close(clients, key, CloseReason::DrainTimeout);
                }
                false => {}
            }
        }
    }

    /// Frees the queue of a client that is about to be closed. Returns the number of its bytes that
    /// were never written.
    pub(crate) fn release(&mut self, key: ClientKey, output: &mut ClientOutput) -> u64 {
        let dropped = self.dropped.remove(&key).unwrap_or_default();
        let unwritten = dropped + output.unsent_bytes() as u64;
        output.clear_queue(&mut self.pool);
        unwritten
    }
}

/// Queueing.
impl Outbound {
    /// Starts a turn.
    pub(crate) fn begin_turn(&mut self) {
        self.addressed_before += self.addressed_this_turn;
        self.addressed_this_turn = 0;
        self.queued_this_turn = 0;
    }

    /// Returns whether a line of `size` bytes certainly fits the queues of `audience`.
    #[inline]
    fn fits_fast(&self, audience: Recipients<'_>, size: u64) -> bool {
        let count = match audience {
            Recipients::One(_) => 1,
            Recipients::Many(recipients) => recipients.len(),
            Recipients::All => self.live(),
        };
        let total = self.queued_total + size * count as u64;
        self.backpressure.allows(self.max_queue_bound + size, total)
    }

    /// Returns how many of the audience are still registered.
    fn registered_among(&self, audience: Recipients<'_>) -> u64 {
        let is_registered = |recipient: u32| self.batch.client(recipient).is_some();
        let count = match audience {
            Recipients::One(Recipient(recipient)) => usize::from(is_registered(recipient)),
            Recipients::Many(recipients) => {
                recipients.iter().filter(|&&recipient| is_registered(recipient)).count()
            }
            Recipients::All => self.live(),
        };
        count as u64
    }

    /// Queues a line that fits.
    #[inline]
    fn enqueue(&mut self, audience: Recipients<'_>, line: &Line<'_>) {
        match audience {
            Recipients::One(Recipient(recipient)) => self.enqueue_addressed(&[recipient], line),
            Recipients::Many(recipients) => self.enqueue_addressed(recipients, line),
            Recipients::All => self.enqueue_broadcast(line),
        }
    }

    #[inline]
    fn enqueue_addressed(&mut self, recipients: &[u32], line: &Line<'_>) {
        let accepted = self.batch.queue(recipients, line);
        self.addressed_this_turn += accepted;
        self.account_queued(wire_len(line), accepted);
    }

    fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        if self.live() == 0 {
            return;
        }
        self.batch.enqueue_broadcast(line);
        self.account_queued(wire_len(line), self.live() as u64);
    }

    #[inline]
    fn account_queued(&mut self, size: usize, clients: u64) {
        self.max_queue_bound += size as u64;
        self.queued_total += size as u64 * clients;
        self.queued_this_turn += size as u64 * clients;
        self.lines_queued += clients;
    }

    /// Returns the memory of the lines that are not flushed to all their recipients, in bytes.
    pub(crate) fn line_bytes(&self) -> usize {
        self.batch.line_bytes()
    }

    /// Returns the number of bytes that wait to be flushed, for all clients together.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.queued_total - self.send_queued
    }

    /// Returns the number of addressed deliveries that wait to be flushed.
    pub(crate) fn unflushed_lines(&self) -> u64 {
        self.addressed_before + self.addressed_this_turn - self.batch.drained_offsets()
    }

    /// Returns how many more lines fit until the lines take `bytes` of memory.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        self.batch.lines_that_fit(bytes)
    }

    /// Returns the number of addressed deliveries in this turn: non-broadcast lines, counted once
    /// per recipient.
    #[inline]
    pub(crate) fn addressed_this_turn(&self) -> u64 {
        self.addressed_this_turn
    }

    /// Returns the number of bytes queued in this turn.
    #[inline]
    pub(crate) fn queued_this_turn(&self) -> u64 {
        self.queued_this_turn
    }

    /// Returns the number of bytes queued for all clients together.
    pub(crate) fn queued_total(&self) -> u64 {
        self.queued_total
    }

    /// Returns the number of lines queued so far.
    pub(crate) fn lines_queued(&self) -> u64 {
        self.lines_queued
    }

    /// Returns the number of bytes queued for a registered client.
    fn queued<S>(&self, clients: &ClientTable<S>, key: ClientKey) -> u64 {
        let Some(output) = clients.output(key) else { return 0 };
        let in_batch = output.recipient().map_or(0, |recipient| self.batch.queued(recipient));
        (output.unsent_bytes() + in_batch) as u64
    }

    /// Iterates over the clients that get live events.
    fn live_clients<S>(&self, clients: &ClientTable<S>) -> impl Iterator<Item = ClientKey> {
        let is_live =
            |key: &ClientKey| !clients.output(*key).is_some_and(ClientOutput::is_replaying);
        self.registered.iter().copied().filter(is_live)
    }

    /// Makes `max_queue_bound` exact.
    fn recompute_max_queue_bound<S>(&mut self, clients: &ClientTable<S>) {
        let queues = self.live_clients(clients).map(|key| self.queued(clients, key));
        self.max_queue_bound = queues.max().unwrap_or(0);
    }
}

/// Flushing.
impl Outbound {
    /// Records that the socket of a client accepts bytes again, and lists the client for flushing.
    pub(crate) fn on_writable<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        let Some(output) = clients.output_mut(key) else { return };
        let was_writable = std::mem::replace(&mut output.writable, true);
        match output.recipient().filter(|_| !was_writable) {
            Some(REPLAYING) => {
                output.writable = false;
                self.writable_replays.push_back(key);
            }
            Some(recipient) => self.batch.mark_pending(recipient),
            None => {}
        }
    }

    /// Flushes clients with new lines or a socket that became writable, within the budget of a turn: up to
    /// half of it clients that have not received anything, then others in the order in which they wait.
    /// `awaited` is the awaited sequence.
    pub(crate) fn flush_pending<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
        budgets: &Budgets,
        awaited: u64,
    ) {
        self.batch.list_for_broadcasts();
        let mut writes = budgets.flush_writes;
        let max_written = self.bytes_written + budgets.flush_bytes;
        while writes > budgets.flush_writes.div_ceil(2)
            && let Some(key) = self.batch.pop_newcomer()
        {
            writes -= usize::from(self.flush(clients, key));
        }
        self.batch.requeue_newcomers();
        while writes > 0
            && self.bytes_written < max_written
            && let Some(key) = self.batch.pop_pending()
        {
            writes -= usize::from(self.flush(clients, key));
        }
        self.batch.end_turn(awaited);
        self.resume_if_below(clients);
        if self.queued_total == 0 {
            self.max_queue_bound = 0;
        } else if self.max_queue_bound > self.backpressure.client_limit() / 2 {
            // A stale upper bound would send every event through the slow path.
            self.recompute_max_queue_bound(clients);
        }
    }

    /// Flushes even if the socket last returned `WouldBlock`; used once before closing.
    pub(crate) fn flush_before_close<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
    ) {
        if let Some(output) = clients.output_mut(key) {
            output.writable = true;
        }
        self.flush(clients, key);
    }

    /// Writes what waits to be flushed for a client whose peer has closed its sending side, and may still
    /// read. An error means that it does not.
    pub(crate) fn flush_ended<S: Write>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        let _ = self.try_flush(clients, key);
    }

    /// Writes the lines of one client until its socket would block. Its send queue keeps the rest. Schedules
    /// the close of the client if its connection has failed. Returns whether anything was queued for it.
    fn flush<S: Write>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) -> bool {
        match self.try_flush(clients, key) {
            Ok(had_bytes) => had_bytes,
            Err(error) => {
                self.schedule_close(clients, key, error);
                true
            }
        }
    }

    /// Does the same, and returns the error of a connection that has failed.
    fn try_flush<S: Write>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
    ) -> io::Result<bool> {
        let Some(client) = clients.get_mut(key) else { return Ok(false) };
        let is_closing = client.is_closing();
        let (stream, output) = client.stream_and_output();
        let Some(recipient) = output.recipient() else { return Ok(false) };
        let send_queued = output.unsent_bytes();
        let before = send_queued + self.batch.queued(recipient);
        if before == 0 {
            return Ok(false);
        }
        let mut queue = output.take_queue();
        let mut outcome = match is_closing || !output.writable {
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
                    outcome = queue.flush(tail, &mut self.pool, stream);
                }
                Ok(FlushOutcome::WouldBlock) | Err(_) => queue.extend(tail, &mut self.pool),
            }
            if is_last {
                break;
            }
        }
        self.batch.mark_broadcasts_sent(recipient);
        output.writable &= !matches!(outcome, Ok(FlushOutcome::WouldBlock));
        let written = (before - queue.len()) as u64;
        self.queued_total -= written;
        self.send_queued = self.send_queued - send_queued as u64 + queue.len() as u64;
        self.bytes_written += written;
        output.put_queue(queue);
        if output.is_stall_over() {
            self.backpressure.end_stall(output);
        }
        if output.is_empty() == output.backlog_index().is_some() {
            self.backlog.update(clients, key);
        }
        outcome.map(|_| true)
    }

    /// Returns whether clients wait to be flushed.
    #[inline]
    pub(crate) fn has_pending_flush(&self) -> bool {
        self.batch.has_pending()
    }

    /// Returns the awaited sequence of the last turn whose lines are flushed to all clients.
    pub(crate) fn flushed(&self) -> u64 {
        self.batch.flushed()
    }

    /// Forgets the awaited sequences of earlier turns, because the stream was reset.
    pub(crate) fn reset_stream(&mut self) {
        self.batch.reset_stream();
    }

    /// Returns how many clients have a full queue, for which applying waits.
    pub(crate) fn full_queues(&self) -> usize {
        self.backpressure.stalled_clients()
    }

    /// Returns up to `max` clients with the longest queues, the longest first.
    pub(crate) fn longest_queues<S>(
        &self,
        clients: &ClientTable<S>,
        max: usize,
    ) -> Vec<QueuedClient> {
        self.backlog.longest(clients, max)
    }

    /// Returns the number of bytes written to sockets so far.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Frees memory beyond the limits of an idle server.
    pub(crate) fn shrink_pools(&mut self) {
        self.batch.shrink();
    }
}

/// Pauses.
impl Outbound {
    /// Returns whether applying is paused until queues fall.
    pub(crate) fn is_paused(&self) -> bool {
        self.backpressure.is_paused()
    }

    /// Returns whether offering an event can succeed.
    #[inline]
    pub(crate) fn may_accept(&self) -> bool {
        self.backpressure.may_accept()
    }

    /// Ends a pause for the total limit, because an event was applied.
    #[inline]
    pub(crate) fn on_applied<S>(&mut self, clients: &mut ClientTable<S>) {
        if self.backpressure.is_total_paused() {
            self.resume(clients);
        }
    }

    fn resume_if_below<S>(&mut self, clients: &mut ClientTable<S>) {
        if self.backpressure.is_total_pause_over(self.queued_total) {
            self.resume(clients);
        }
    }

    /// Ends a pause for the total limit, and the stalls of the clients that it waited for.
    #[cold]
    fn resume<S>(&mut self, clients: &mut ClientTable<S>) {
        self.backpressure.end_total_pause();
        for &key in &self.registered {
            if let Some(output) = clients.output_mut(key)
                && output.is_stalled_for_total_limit()
            {
                self.backpressure.end_stall(output);
            }
        }
    }

    /// Schedules the close of clients whose stall timeout has expired.
    pub(crate) fn expire_stalls<S: Write>(&mut self, clients: &mut ClientTable<S>, now: Instant) {
        for key in self.backpressure.take_expired(now, |key| clients.output(key)) {
            self.flush(clients, key);
            self.schedule_close(clients, key, CloseReason::Stalled);
        }
    }

    /// Returns when the next stall timeout may expire, if ever.
    pub(crate) fn next_stall_deadline(&self) -> Option<Instant> {
        self.backpressure.next_deadline()
    }

    /// Logs when applying is paused for slow clients, and when it is resumed.
    pub(crate) fn log_pause_changes(&mut self, cx: &mut Context) {
        let is_paused = self.is_paused();
        if std::mem::replace(&mut self.was_paused, is_paused) == is_paused {
            return;
        }
        cx.counters.pauses.set_paused(is_paused, cx.now);
        let queued = self.queued_total;
        if is_paused {
            let stalled = self.backpressure.stalled_clients();
            cx.log(
                LogKind::Paused,
                Level::Warn,
                log_line!(
                    "paused: {stalled} clients have full queues, {bytes} bytes queued in total";
                    bytes = queued
                ),
            );
        } else {
            cx.log(
                LogKind::Paused,
                Level::Info,
                log_line!("resumed: {bytes} bytes queued in total"; bytes = queued),
            );
        }
    }
}

impl Outbound {
    /// Panics unless the invariants hold. Checks every client.
    pub(crate) fn check<S>(&self, clients: &ClientTable<S>) {
        let queued = self.registered.iter().map(|&key| self.queued(clients, key));
        assert_eq!(
            self.queued_total,
            queued.clone().sum::<u64>(),
            "the total is the sum over the registered clients"
        );
        let send_queues = self.registered.iter().filter_map(|&key| clients.output(key));
        let send_queued: usize = send_queues.map(ClientOutput::unsent_bytes).sum();
        assert_eq!(self.send_queued, send_queued as u64, "the total of the send queues");
        let queues = clients.iter().map(|(_, client)| client.output().blocks());
        let blocks: usize = queues.sum();
        assert_eq!(self.pool.used_blocks(), blocks, "each block in use is of a queue");
        let live = self.live_clients(clients).map(|key| self.queued(clients, key));
        assert!(self.max_queue_bound >= live.max().unwrap_or(0), "no queue exceeds the bound");
        assert_eq!(self.live(), self.live_clients(clients).count(), "all others are replaying");
        self.backlog.check(clients, &self.registered);
        let is_stalled = |key: &&ClientKey| {
            clients.output(**key).is_some_and(ClientOutput::is_stalled_for_own_queue)
        };
        let stalled = self.registered.iter().filter(is_stalled).count();
        assert_eq!(self.backpressure.stalled_clients(), stalled, "every stall is counted");
        for (index, &key) in self.registered.iter().enumerate() {
            let Some(output) = clients.output(key) else {
                panic!("a registered key is of a client")
            };
            let registration = output.registration;
            let stored_index = registration.map(Registered::index);
            assert_eq!(stored_index, Some(index), "a registered client stores its index");
            let live = output.recipient().filter(|_| !output.is_replaying());
            if let Some(recipient) = live {
                self.batch.check(recipient);
            }
            let is_pending = live.is_some_and(|recipient| self.batch.is_pending(recipient));
            assert!(
                is_pending || !output.is_flush_missing(),
                "bytes stay queued only after WouldBlock, or until the client is flushed"
            );
        }
    }
}
