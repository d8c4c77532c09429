//! Lines that are not flushed yet, stored once and indexed per client.

use std::collections::VecDeque;

use crate::hub::outbound::byte_buffer::{ByteBuffer, wire_len};
use crate::hub::outbound::flush_queue::FlushQueue;
use crate::hub::outbound::line_stream::{LineStream, Position};
use crate::hub::outbound::vec_pool::VecPool;
use crate::hub::token::ClientKey;
use crate::protocol::Line;

/// The position of an addressed line, with its header, in the stream of addressed lines.
type LineOffset = Position;

/// Typical maximum size of a line with its terminator.
const TYPICAL_LINE_BYTES: usize = 32;

/// Typical run of broadcast bytes between two addressed lines (about twenty broadcasts).
const TYPICAL_RUN_BYTES: usize = 256;

/// The maximum memory of a line: the longest line of an event has 64 bytes.
const MAX_LINE_BYTES: usize = Header::BYTES + 64 + 2;

/// The maximum number of bytes assembled for a client at once. Longer output takes several writes,
/// whose cost is negligible compared to the bytes, and the staging buffer stays small.
const MAX_STAGING_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// The maximum capacity that each buffer keeps while the server is idle.
const MAX_IDLE_BYTES: usize = 1 << 20;

/// The lines that are not flushed to all their recipients yet. Every line is stored once, with its
/// terminator: broadcasts in one stream, addressed lines in another. Each client has only a list of the
/// lines addressed to it.
///
/// A turn flushes a limited number of clients, and more lines may be queued before the next turn flushes the
/// others: each client is at a position of its own. The lines of a turn are dropped once all clients have been
/// flushed that waited when it ended. If no client waits any more, the usual case, all lines are dropped at once.
///
/// The bytes of a client are assembled when it is flushed, all at once: the lines are read from the
/// cache, and all clients share one staging buffer. Appending each line to the buffers of a hundred
/// clients as it arrives costs three times as much.
///
/// Offsets and sizes have 32 bits: see
/// [`Budgets::queued_bytes`](crate::hub::Budgets::queued_bytes).
#[derive(Debug, Default)]
pub(crate) struct FanoutBatch {
    /// Lines for all clients.
    broadcasts: LineStream,
    /// Lines for some clients, each after its [`Header`].
    addressed: LineStream,
    /// The batch of each client, by recipient number.
    clients: Vec<ClientBatch>,
    /// Recipients to flush: those with new lines, or with a socket that became writable.
    flush_queue: FlushQueue,
    /// Broadcasts were queued since all clients were listed for them.
    has_new_broadcasts: bool,
    /// The ends of earlier turns whose lines are not flushed to all clients, in order.
    marks: VecDeque<Mark>,
    /// The awaited sequence of the last turn whose lines are flushed to all clients.
    flushed: u64,
    /// Lists of emptied batches.
    pool: VecPool<LineOffset>,
    /// Offsets drained or dropped so far.
    drained_offsets: u64,
    /// The number of offsets already drained of the client that is being drained, if it is not finished.
    partially_drained: usize,
}

/// The end of a turn after which clients still waited to be flushed.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The number of removals from the flush queue after which all of these clients are flushed.
    removals: u64,
    broadcasts: Position,
    addressed: Position,
    /// The awaited sequence.
    awaited: u64,
}

/// The lines for one client, in order: 40 bytes.
#[derive(Debug)]
struct ClientBatch {
    offsets: Vec<LineOffset>,
    /// Bytes of the addressed lines not drained yet.
    addressed_bytes: u32,
    /// The position after the broadcasts already drained.
    broadcast_cursor: Position,
    /// The client's key, or [`NO_CLIENT`] if none has this recipient number.
    key: ClientKey,
    state: FlushState,
    /// The client was not taken from the flush queue since it registered.
    is_newcomer: bool,
}

/// The key that stands for no client. There are less than 2³¹ descriptors.
const NO_CLIENT: ClientKey = ClientKey(u32::MAX);

impl Default for ClientBatch {
    fn default() -> ClientBatch {
        ClientBatch {
            offsets: Vec::new(),
            addressed_bytes: 0,
            broadcast_cursor: 0,
            key: NO_CLIENT,
            state: FlushState::default(),
            is_newcomer: false,
        }
    }
}

/// Whether a [`ClientBatch`] accepts lines, and whether its client is listed for flushing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FlushState {
    /// The batch accepts no lines.
    #[default]
    Closed,
    /// The client is not listed yet.
    Clean,
    /// The client is listed.
    Pending,
}

/// The header stored before each addressed line.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// The position after the broadcasts queued before the line.
    broadcast_end: Position,
    /// Bytes of the line with its terminator.
    size: u32,
}

/// The memory of one offset. The capacity of a list may be up to twice its length.
pub(crate) const OFFSET_BYTES: u64 = size_of::<LineOffset>() as u64;

impl Header {
    const BYTES: usize = 8;

    fn to_bytes(self) -> [u8; Header::BYTES] {
        (u64::from(self.broadcast_end) | u64::from(self.size) << 32).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; Header::BYTES]) -> Header {
        let both = u64::from_le_bytes(bytes);
        Header { broadcast_end: both as u32, size: (both >> 32) as u32 }
    }
}

impl ClientBatch {
    /// Returns the client's key. `None` if no client has this recipient number.
    fn client(&self) -> Option<ClientKey> {
        (self.key != NO_CLIENT).then_some(self.key)
    }

    /// Appends the addressed lines from number `first` on, and the broadcasts before each, to `buffer`. Returns
    /// the number of the first line that was not appended. If `IS_BOUNDED`, stops at [`MAX_STAGING_BYTES`],
    /// exceeded by at most the last line. Unless `HAS_BASE`, both streams
    /// begin at position 0, which saves almost a nanosecond per line.
    fn append_to<const IS_BOUNDED: bool, const HAS_BASE: bool>(
        &mut self,
        buffer: &mut ByteBuffer,
        (broadcasts, addressed): (&LineStream, &LineStream),
        first: usize,
    ) -> usize {
        let (broadcast_base, addressed_base) = match HAS_BASE {
            true => (broadcasts.base(), addressed.base()),
            false => (0, 0),
        };
        let (broadcasts, addressed) = (broadcasts.as_slice(), addressed.as_slice());
        let index_of = |position: Position| position.wrapping_sub(broadcast_base) as usize;
        let (start, from) = (buffer.len(), index_of(self.broadcast_cursor));
        let (mut cursor, mut drained) = (from, 0);
        for &offset in &self.offsets[first..] {
            let index = offset.wrapping_sub(addressed_base) as usize;
            let Some((header, line)) = addressed[index..].split_first_chunk() else {
                break;
            };
            let Header { broadcast_end, size } = Header::from_bytes(*header);
            let broadcast_end = index_of(broadcast_end);
            if IS_BOUNDED {
                let space = MAX_STAGING_BYTES.saturating_sub(buffer.len());
                if broadcast_end - cursor >= space {
                    buffer.extend_from_slice(&broadcasts[cursor..cursor + space]);
                    cursor += space;
                    break;
                }
            }
            if cursor < broadcast_end {
                buffer.push_prefix::<TYPICAL_RUN_BYTES>(
                    &broadcasts[cursor..],
                    broadcast_end - cursor,
                );
                cursor = broadcast_end;
            }
            buffer.push_prefix::<TYPICAL_LINE_BYTES>(line, size as usize);
            drained += 1;
        }
        self.broadcast_cursor = broadcast_base.wrapping_add(cursor as u32);
        self.addressed_bytes -= (buffer.len() - start - (cursor - from)) as u32;
        first + drained
    }
}

impl FanoutBatch {
    /// Creates the batch of a client under its recipient number.
    pub(crate) fn register(&mut self, recipient: u32, key: ClientKey) {
        let index = recipient as usize;
        if index >= self.clients.len() {
            self.clients.resize_with(index + 1, ClientBatch::default);
        }
        self.clients[index] = ClientBatch {
            key,
            broadcast_cursor: self.broadcasts.end(),
            state: FlushState::Clean,
            is_newcomer: true,
            ..ClientBatch::default()
        };
    }

    /// Returns the key of the client with a recipient number.
    pub(crate) fn client(&self, recipient: u32) -> Option<ClientKey> {
        self.clients.get(recipient as usize)?.client()
    }

    /// Closes the batch of a client: it accepts no more lines, and keeps those it has.
    pub(crate) fn close(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            client_batch.state = FlushState::Closed;
        }
    }

    /// Removes the batch of a client, with its lines.
    pub(crate) fn unregister(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            self.drained_offsets += client_batch.offsets.len() as u64;
            *client_batch = ClientBatch::default();
        }
    }

    /// Returns the number of bytes for the client that are not drained yet.
    #[inline]
    pub(crate) fn queued(&self, recipient: u32) -> usize {
        self.clients.get(recipient as usize).map_or(0, |client_batch| {
            client_batch.addressed_bytes as usize
                + self.broadcasts.bytes_after(client_batch.broadcast_cursor)
        })
    }

    /// Returns the memory of the lines that are not dropped yet, in bytes.
    pub(crate) fn line_bytes(&self) -> usize {
        self.broadcasts.len() + self.addressed.len()
    }

    /// Returns how many more lines fit until the lines take `bytes` of memory. The first line always fits.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        let used = self.line_bytes();
        (bytes.saturating_sub(used) / MAX_LINE_BYTES).max(usize::from(used == 0))
    }

    /// Returns how many offsets were drained or dropped so far.
    pub(crate) fn drained_offsets(&self) -> u64 {
        self.drained_offsets
    }

    /// Lists the client for flushing.
    pub(crate) fn mark_pending(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize)
            && client_batch.state == FlushState::Clean
        {
            client_batch.state = FlushState::Pending;
            self.flush_queue.push(recipient, client_batch.is_newcomer);
        }
    }

    /// Lists all clients for flushing, those with the last numbers first, if there are broadcasts that they
    /// are not listed for.
    pub(crate) fn list_for_broadcasts(&mut self) {
        if !std::mem::take(&mut self.has_new_broadcasts) {
            return;
        }
        for (recipient, client_batch) in self.clients.iter_mut().enumerate().rev() {
            match client_batch.state {
                FlushState::Pending => continue,
                FlushState::Clean => client_batch.state = FlushState::Pending,
                // It accepted broadcasts until it was closed.
                FlushState::Closed if client_batch.key != NO_CLIENT => {}
                FlushState::Closed => continue,
            }
            self.flush_queue.push(recipient as u32, client_batch.is_newcomer);
        }
    }

    /// Removes the next newcomer from the list for flushing, and returns its key.
    pub(crate) fn pop_newcomer(&mut self) -> Option<ClientKey> {
        loop {
            let recipient = self.flush_queue.pop_newcomer()?;
            if let Some(key) = self.unlist(recipient) {
                return Some(key);
            }
        }
    }

    /// Lists the newcomers that are left after all other clients.
    pub(crate) fn requeue_newcomers(&mut self) {
        self.flush_queue.requeue_newcomers();
    }

    /// Removes the next client from the list for flushing, and returns its key.
    pub(crate) fn pop_pending(&mut self) -> Option<ClientKey> {
        loop {
            let recipient = self.flush_queue.pop()?;
            if let Some(key) = self.unlist(recipient) {
                return Some(key);
            }
        }
    }

    /// Records that a client is not listed any more, and returns its key.
    fn unlist(&mut self, recipient: u32) -> Option<ClientKey> {
        let client_batch = &mut self.clients[recipient as usize];
        client_batch.is_newcomer = false;
        if client_batch.state == FlushState::Pending {
            client_batch.state = FlushState::Clean;
        }
        client_batch.client()
    }

    /// Returns whether clients are listed for flushing.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        !self.flush_queue.is_empty()
    }

    /// Returns whether a client is listed for flushing.
    pub(crate) fn is_pending(&self, recipient: u32) -> bool {
        let client_batch = self.clients.get(recipient as usize);
        client_batch.is_some_and(|client_batch| client_batch.state == FlushState::Pending)
    }

    /// Queues a line for all clients.
    pub(crate) fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        self.broadcasts.push_line(line);
        self.has_new_broadcasts = true;
    }

    /// Queues a line for some clients. Returns how many of them accepted it.
    #[inline]
    pub(crate) fn queue(&mut self, recipients: &[u32], line: &Line<'_>) -> u64 {
        let offset = self.addressed.end();
        let size = wire_len(line) as u32;
        let header = Header { broadcast_end: self.broadcasts.end(), size };
        self.addressed.extend_from_slice(&header.to_bytes());
        self.addressed.push_line(line);
        let mut accepted = 0;
        for &recipient in recipients {
            let Some(client_batch) = self.clients.get_mut(recipient as usize) else { continue };
            match client_batch.state {
                FlushState::Pending => {}
                FlushState::Closed => continue,
                FlushState::Clean => {
                    client_batch.state = FlushState::Pending;
                    self.flush_queue.push(recipient, client_batch.is_newcomer);
                    if client_batch.offsets.capacity() == 0 {
                        client_batch.offsets = self.pool.get();
                    }
                }
            }
            client_batch.offsets.push(offset);
            client_batch.addressed_bytes += size;
            accepted += 1;
        }
        accepted
    }

    /// Drains the addressed lines of the client, and the broadcasts before them, into `buffer`,
    /// until it holds [`MAX_STAGING_BYTES`]. Returns whether no addressed line is left; if any are, the caller
    /// goes on until none is. Broadcasts after the last addressed line are not drained.
    pub(crate) fn drain_into(&mut self, recipient: u32, buffer: &mut ByteBuffer) -> bool {
        let Some(client_batch) = self.clients.get_mut(recipient as usize) else { return true };
        if client_batch.offsets.is_empty() {
            return true;
        }
        let lines = (&self.broadcasts, &self.addressed);
        let first = std::mem::take(&mut self.partially_drained);
        let bytes = client_batch.addressed_bytes as usize
            + self.broadcasts.bytes_after(client_batch.broadcast_cursor);
        let drained = if buffer.len() + bytes <= MAX_STAGING_BYTES {
            buffer.reserve(bytes);
            match (lines.0.base(), lines.1.base()) {
                (0, 0) => client_batch.append_to::<false, false>(buffer, lines, first),
                _ => client_batch.append_to::<false, true>(buffer, lines, first),
            }
        } else {
            buffer.reserve(MAX_STAGING_BYTES.saturating_sub(buffer.len()));
            client_batch.append_to::<true, true>(buffer, lines, first)
        };
        let is_last = drained == client_batch.offsets.len();
        if !is_last {
            self.partially_drained = drained;
        } else {
            self.drained_offsets += client_batch.offsets.len() as u64;
            self.pool.put(std::mem::take(&mut client_batch.offsets));
        }
        is_last
    }

    /// Returns the broadcasts not drained yet for the client.
    pub(crate) fn unsent_broadcasts(&self, recipient: u32) -> &[u8] {
        let Some(client_batch) = self.clients.get(recipient as usize) else { return &[] };
        let lines = self.broadcasts.as_slice();
        &lines[lines.len() - self.broadcasts.bytes_after(client_batch.broadcast_cursor)..]
    }

    /// Marks all broadcasts as drained for the client.
    pub(crate) fn mark_broadcasts_sent(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            client_batch.broadcast_cursor = self.broadcasts.end();
        }
    }

    /// Drops the lines that all their recipients have been flushed for. `awaited` is the awaited sequence.
    ///
    /// A client with lines waits in the flush queue, so the lines of a turn are flushed once all are removed
    /// that waited at its end.
    pub(crate) fn end_turn(&mut self, awaited: u64) {
        if self.flush_queue.is_empty() {
            if self.broadcasts.end() != 0 {
                self.clients.iter_mut().for_each(|client_batch| client_batch.broadcast_cursor = 0);
            }
            self.broadcasts.clear();
            self.addressed.clear();
            self.marks.clear();
            self.flushed = awaited;
            return;
        }
        let mut passed = None;
        while let Some(mark) = self.marks.front()
            && mark.removals <= self.flush_queue.removed()
        {
            passed = self.marks.pop_front();
        }
        if let Some(Mark { broadcasts, addressed, awaited, .. }) = passed {
            self.broadcasts.drop_before(broadcasts);
            self.addressed.drop_before(addressed);
            self.flushed = awaited;
        }
        self.marks.push_back(Mark {
            removals: self.flush_queue.appended(),
            broadcasts: self.broadcasts.end(),
            addressed: self.addressed.end(),
            awaited,
        });
    }

    /// Returns the awaited sequence of the last turn whose lines are flushed to all clients.
    pub(crate) fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Forgets the awaited sequences of earlier turns, because the stream was reset.
    pub(crate) fn reset_stream(&mut self) {
        self.flushed = 0;
        self.marks.iter_mut().for_each(|mark| mark.awaited = 0);
    }

    /// Panics unless the lines that the client was not flushed for are kept, and the client is listed if
    /// there are any.
    pub(crate) fn check(&self, recipient: u32) {
        let client_batch = &self.clients[recipient as usize];
        assert_eq!(self.partially_drained, 0, "no client is being drained");
        assert!(
            self.broadcasts.bytes_after(client_batch.broadcast_cursor) <= self.broadcasts.len()
        );
        for &offset in &client_batch.offsets {
            assert!(self.addressed.bytes_after(offset) <= self.addressed.len());
        }
        let is_listed = client_batch.state != FlushState::Clean || self.has_new_broadcasts;
        assert!(is_listed || self.queued(recipient) == 0, "lines of {recipient} are forgotten");
    }

    /// Frees memory beyond the limits of an idle server.
    pub(crate) fn shrink(&mut self) {
        self.pool.shrink();
        self.broadcasts.shrink(MAX_IDLE_BYTES);
        self.addressed.shrink(MAX_IDLE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENTS: u32 = 5;

    #[derive(Clone, Debug)]
    enum Step {
        ForAll(String),
        ForSome(String, Vec<u32>),
        Take(u32),
        Close(u32),
        /// Another client gets the recipient number of a removed one.
        Replace(u32),
        /// The end of a turn that flushes up to this many newcomers, and up to this many others.
        EndTurn(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let line = || "[a-z]{0,20}|[a-z]{30,300}";
        let step = prop_oneof![
            4 => line().prop_map(Step::ForAll),
            8 => (line(), proptest::sample::subsequence(vec![0, 1, 2, 3, 4], 0..=5))
                .prop_map(|(line, clients)| Step::ForSome(line, clients)),
            2 => (0..CLIENTS).prop_map(Step::Take),
            1 => (0..CLIENTS).prop_map(Step::Close),
            1 => (0..CLIENTS).prop_map(Step::Replace),
            2 => (0..3_usize, 0..8_usize).prop_map(|(newcomers, others)| Step::EndTurn(newcomers, others)),
        ];
        proptest::collection::vec(step, 0..100)
    }

    /// Drains the batch of a client as a flush does.
    fn take(batch: &mut FanoutBatch, key: u32) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut buffer = ByteBuffer::default();
        while !batch.drain_into(key, &mut buffer) {
            assert!(buffer.len() < MAX_STAGING_BYTES + 1000, "the staging buffer is bounded");
            taken.extend_from_slice(buffer.as_slice());
            buffer.clear();
        }
        taken.extend_from_slice(buffer.as_slice());
        taken.extend_from_slice(batch.unsent_broadcasts(key));
        batch.mark_broadcasts_sent(key);
        taken
    }

    /// Passes a line that is followed by other bytes.
    fn with_line(text: &str, use_line: impl FnOnce(&Line<'_>)) {
        let buffer = format!("{text}\n{}", "after".repeat(7));
        use_line(&Line::prefix_of(buffer.as_bytes(), text.len()));
    }

    proptest! {
        #[test]
        fn it_behaves_like_one_buffer_per_client(steps in steps()) {
            let mut batch = FanoutBatch::default();
            let mut reference: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS as usize];
            let mut closed = [false; CLIENTS as usize];
            let mut turns = 0;
            let registered: Vec<u32> = (0..CLIENTS).collect();
            registered.iter().for_each(|&key| batch.register(key, ClientKey(key)));
            for step in steps {
                match step {
                    Step::ForAll(text) => {
                        with_line(&text, |line| batch.enqueue_broadcast(line));
                        let line = format!("{text}\r\n");
                        reference.iter_mut().for_each(|buffer| buffer.extend(line.bytes()));
                    }
                    Step::ForSome(text, keys) => {
                        let open: Vec<u32> =
                            keys.iter().copied().filter(|&key| !closed[key as usize]).collect();
                        with_line(&text, |line| {
                            assert_eq!(batch.queue(&keys, line), open.len() as u64);
                        });
                        for key in open {
                            reference[key as usize].extend(format!("{text}\r\n").bytes());
                        }
                    }
                    Step::Take(key) => {
                        let expected = std::mem::take(&mut reference[key as usize]);
                        prop_assert_eq!(take(&mut batch, key), expected);
                    }
                    Step::Close(key) => {
                        batch.close(key);
                        closed[key as usize] = true;
                    }
                    Step::Replace(key) => {
                        batch.unregister(key);
                        batch.register(key, ClientKey(key));
                        reference[key as usize].clear();
                        closed[key as usize] = false;
                    }
                    Step::EndTurn(newcomers, others) => {
                        batch.list_for_broadcasts();
                        let mut flushed: Vec<ClientKey> =
                            (0..newcomers).map_while(|_| batch.pop_newcomer()).collect();
                        batch.requeue_newcomers();
                        flushed.extend((0..others).map_while(|_| batch.pop_pending()));
                        for key in flushed {
                            let expected = std::mem::take(&mut reference[key.0 as usize]);
                            prop_assert_eq!(take(&mut batch, key.0), expected);
                        }
                        turns += 1;
                        batch.end_turn(turns);
                        prop_assert_eq!(batch.has_pending(), batch.flushed() < turns);
                        prop_assert!(
                            batch.has_pending() || batch.line_bytes() == 0,
                            "lines that everybody got are dropped"
                        );
                        prop_assert!(
                            batch.has_pending() || reference.iter().all(Vec::is_empty),
                            "every client with lines was flushed"
                        );
                    }
                }
                for (key, reference) in (0..).zip(&reference) {
                    batch.check(key);
                    prop_assert_eq!(batch.queued(key), reference.len());
                }
            }
        }
    }
}
