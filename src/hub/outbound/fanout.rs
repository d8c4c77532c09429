//! One turn's output, stored once and indexed per client.

use crate::hub::outbound::byte_buffer::{ByteBuffer, wire_len};
use crate::hub::outbound::vec_pool::VecPool;
use crate::hub::token::ClientKey;
use crate::protocol::Line;

/// The offset of an addressed line, with its header, in the buffer of addressed lines.
type LineOffset = u32;

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

/// The output of one turn. Every line is stored once, with its terminator: broadcasts in one
/// buffer, addressed lines in another. Each client has only a list of the lines addressed to it.
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
    broadcasts: ByteBuffer,
    /// Lines for some clients, each after its [`Header`].
    addressed: ByteBuffer,
    /// The batch of each client, by recipient number.
    clients: Vec<ClientBatch>,
    /// Recipients to flush: those with new addressed lines, or with a socket that became writable.
    pending_flush: Vec<u32>,
    /// Lists of emptied batches.
    pool: VecPool<LineOffset>,
}

/// The lines of a turn for one client, in order.
#[derive(Debug, Default)]
struct ClientBatch {
    offsets: Vec<LineOffset>,
    /// The number of offsets already drained.
    drained: u32,
    /// Bytes of the addressed lines not drained yet.
    addressed_bytes: u32,
    /// Bytes of the broadcasts already drained.
    broadcast_cursor: u32,
    /// The client's key; `None` if no client has this recipient number.
    client: Option<ClientKey>,
    state: FlushState,
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
    /// Bytes of broadcasts queued before the line.
    broadcast_end: u32,
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
    /// Appends the addressed lines and the broadcasts between them to `buffer`. If `IS_BOUNDED`,
    /// stops at [`MAX_STAGING_BYTES`], exceeded by at most the last line.
    fn append_to<const IS_BOUNDED: bool>(
        &mut self,
        buffer: &mut ByteBuffer,
        (broadcasts, addressed): (&[u8], &[u8]),
    ) {
        let (start, first) = (buffer.len(), self.broadcast_cursor as usize);
        let (mut cursor, mut drained) = (first, 0);
        for &offset in &self.offsets[self.drained as usize..] {
            let Some((header, line)) = addressed[offset as usize..].split_first_chunk() else {
                break;
            };
            let Header { broadcast_end, size } = Header::from_bytes(*header);
            let broadcast_end = broadcast_end as usize;
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
        self.drained += drained;
        self.broadcast_cursor = cursor as u32;
        self.addressed_bytes -= (buffer.len() - start - (cursor - first)) as u32;
    }
}

impl FanoutBatch {
    /// Creates the batch of a client under its recipient number.
    pub(crate) fn register(&mut self, recipient: u32, key: ClientKey) {
        let index = recipient as usize;
        if index >= self.clients.len() {
            self.clients.resize_with(index + 1, ClientBatch::default);
        }
        let broadcast_cursor = self.broadcasts.len() as u32;
        let state = FlushState::Clean;
        self.clients[index] =
            ClientBatch { client: Some(key), broadcast_cursor, state, ..ClientBatch::default() };
    }

    /// Returns the key of the client with a recipient number.
    pub(crate) fn client(&self, recipient: u32) -> Option<ClientKey> {
        self.clients.get(recipient as usize)?.client
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
            *client_batch = ClientBatch::default();
        }
    }

    /// Returns the number of bytes for the client that are not drained yet.
    #[inline]
    pub(crate) fn queued(&self, recipient: u32) -> usize {
        self.clients.get(recipient as usize).map_or(0, |client_batch| {
            client_batch.addressed_bytes as usize + self.broadcasts.len()
                - client_batch.broadcast_cursor as usize
        })
    }

    /// Returns how many more lines fit until the lines of the turn take `bytes` of memory. The
    /// first line always fits.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        let used = self.broadcasts.len() + self.addressed.len();
        (bytes.saturating_sub(used) / MAX_LINE_BYTES).max(usize::from(used == 0))
    }

    /// Returns whether a broadcast is queued.
    pub(crate) fn has_broadcasts(&self) -> bool {
        !self.broadcasts.is_empty()
    }

    /// Lists the client for flushing.
    pub(crate) fn mark_pending(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize)
            && client_batch.state == FlushState::Clean
        {
            client_batch.state = FlushState::Pending;
            self.pending_flush.push(recipient);
        }
    }

    /// Removes a client from the list for flushing, and returns its key.
    pub(crate) fn pop_pending(&mut self) -> Option<ClientKey> {
        loop {
            let recipient = self.pending_flush.pop()?;
            let client_batch = &mut self.clients[recipient as usize];
            if client_batch.state == FlushState::Pending {
                client_batch.state = FlushState::Clean;
            }
            if client_batch.client.is_some() {
                return client_batch.client;
            }
        }
    }

    /// Queues a line for all clients.
    pub(crate) fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        self.broadcasts.push_line(line);
    }

    /// Queues a line for some clients. Returns how many of them accepted it.
    #[inline]
    pub(crate) fn queue(&mut self, recipients: &[u32], line: &Line<'_>) -> u64 {
        let offset = self.addressed.len() as LineOffset;
        let size = wire_len(line) as u32;
        let header = Header { broadcast_end: self.broadcasts.len() as u32, size };
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
                    self.pending_flush.push(recipient);
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
    /// until it holds [`MAX_STAGING_BYTES`]. Returns whether no addressed line is left. Broadcasts
    /// after the last addressed line are not drained.
    pub(crate) fn drain_into(&mut self, recipient: u32, buffer: &mut ByteBuffer) -> bool {
        let Some(client_batch) = self.clients.get_mut(recipient as usize) else { return true };
        if client_batch.offsets.is_empty() {
            return true;
        }
        let lines = (self.broadcasts.as_slice(), self.addressed.as_slice());
        let bytes = client_batch.addressed_bytes as usize + lines.0.len()
            - client_batch.broadcast_cursor as usize;
        if buffer.len() + bytes <= MAX_STAGING_BYTES {
            buffer.reserve(bytes);
            client_batch.append_to::<false>(buffer, lines);
        } else {
            buffer.reserve(MAX_STAGING_BYTES.saturating_sub(buffer.len()));
            client_batch.append_to::<true>(buffer, lines);
        }
        let is_last = client_batch.drained as usize == client_batch.offsets.len();
        if is_last {
            client_batch.drained = 0;
            self.pool.put(std::mem::take(&mut client_batch.offsets));
        }
        is_last
    }

    /// Returns the broadcasts not drained yet for the client.
    pub(crate) fn unsent_broadcasts(&self, recipient: u32) -> &[u8] {
        let cursor = self
            .clients
            .get(recipient as usize)
            .map(|client_batch| client_batch.broadcast_cursor as usize);
        &self.broadcasts.as_slice()[cursor.unwrap_or(self.broadcasts.len())..]
    }

    /// Marks all broadcasts as drained for the client.
    pub(crate) fn mark_broadcasts_sent(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            client_batch.broadcast_cursor = self.broadcasts.len() as u32;
        }
    }

    /// Clears the lines, after the batches of all clients are drained.
    pub(crate) fn end_turn(&mut self) {
        if self.has_broadcasts() {
            self.clients.iter_mut().for_each(|client_batch| client_batch.broadcast_cursor = 0);
            self.broadcasts.clear();
        }
        self.addressed.clear();
    }

    /// Frees memory beyond the limits of an idle server.
    pub(crate) fn shrink(&mut self) {
        self.pool.shrink();
        for lines in [&mut self.broadcasts, &mut self.addressed] {
            if lines.is_empty() && lines.capacity() > MAX_IDLE_BYTES {
                *lines = ByteBuffer::default();
            }
        }
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
        EndTurn,
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
            2 => Just(Step::EndTurn),
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
                    Step::EndTurn => {
                        let mut left: Vec<u32> = match batch.has_broadcasts() {
                            true => registered.clone(),
                            false => {
                                std::iter::from_fn(|| batch.pop_pending()).map(|key| key.0).collect()
                            },
                        };
                        while batch.pop_pending().is_some() {}
                        left.retain(|&key| batch.queued(key) > 0);
                        for key in left {
                            let expected = std::mem::take(&mut reference[key as usize]);
                            prop_assert_eq!(take(&mut batch, key), expected);
                        }
                        batch.end_turn();
                        prop_assert!(
                            reference.iter().all(Vec::is_empty),
                            "every client with lines was flushed"
                        );
                    }
                }
                for (key, reference) in (0..).zip(&reference) {
                    prop_assert_eq!(batch.queued(key), reference.len());
                }
            }
        }
    }
}
