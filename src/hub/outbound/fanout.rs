//! The lines of one turn, and whose they are.

use crate::hub::outbound::buffer_pool::VecPool;
use crate::hub::outbound::byte_buffer::{ByteBuffer, size_of_line};
use crate::hub::token::ClientKey;
use crate::protocol::Line;

/// Where a addressed line stands among the others of its turn.
type LineOffset = u32;

/// A line and its terminator have seldom more bytes.
const TYPICAL_LINE_BYTES: usize = 32;

/// Between two lines that were addressed for a client there are seldom more bytes of the block: twenty
/// broadcasts.
const TYPICAL_RUN_BYTES: usize = 256;

/// What a line takes at most here: an event's longest has 64 bytes.
const MAX_LINE_BYTES: usize = Header::BYTES + 64 + 2;

/// Bytes that are put together for a client at once: more leave in several writes, which cost nothing
/// beside the bytes, and the memory for them stays small.
const MAX_PIECE_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// What is kept of each kind of memory while the server waits for something to do.
const MAX_IDLE_BYTES: usize = 1 << 20;

/// What leaves in one turn. Every line is kept once, with its terminator: what goes to everybody in
/// one block, what goes to some in another place. For each client there is no more than a list of the
/// lines that were addressed for it.
///
/// A client's bytes are put together when it is flushed, in one go: so the lines are read from the
/// cache, one client at a time is written to, and the next one is written in the same memory. To append
/// each line to the buffers of a hundred clients as it comes costs three times as much.
///
/// All that it refers to is counted with 32 bits: see [`Budgets::queued_bytes`](super::Budgets).
#[derive(Debug, Default)]
pub(crate) struct FanoutBatch {
    /// What goes to everybody.
    block: ByteBuffer,
    /// What goes to some, each line behind its [`Header`].
    addressed: ByteBuffer,
    /// What is for a client, by its recipient.
    clients: Vec<ClientBatch>,
    /// Recipients that got something of their own since they were last taken.
    pending_flush: Vec<u32>,
    /// Memory of emptied clients.
    spares: VecPool<LineOffset>,
}

/// The lines of a turn that are for one client, in order.
#[derive(Debug, Default)]
struct ClientBatch {
    offsets: Vec<LineOffset>,
    /// How many of them were taken out.
    taken: u32,
    /// Bytes of the addressed lines that were not taken out.
    addressed_bytes: u32,
    /// Bytes of the block that were taken out.
    broadcast_cursor: u32,
    /// The client's key; `None` where there is no client_batch.
    client: Option<ClientKey>,
    state: FlushState,
}

/// What is to be done before a line is put into a [`ClientBatch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FlushState {
    /// It takes nothing.
    #[default]
    Closed,
    /// Its client has to be put on the list of those to flush.
    Clean,
    /// Nothing: its client is on the list.
    Pending,
}

/// What stands in front of a addressed line.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// Bytes of the block that were queued before the line.
    broadcast_end: u32,
    /// Bytes of the line and its terminator.
    size: u32,
}

/// The memory that a pick takes. The list that it stands in may be twice as long as needed.
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
    /// Appends the addressed lines to `buffer`, out of the lines for everybody and of those for some; no more
    /// than [`MAX_PIECE_BYTES`] and the last line if that `IS_BOUNDED`.
    fn append_to<const IS_BOUNDED: bool>(
        &mut self,
        buffer: &mut ByteBuffer,
        (block, addressed): (&[u8], &[u8]),
    ) {
        let (start, first) = (buffer.len(), self.broadcast_cursor as usize);
        let (mut cursor, mut taken) = (first, 0);
        for &pick in &self.offsets[self.taken as usize..] {
            let Some((header, line)) = addressed[pick as usize..].split_first_chunk() else {
                break;
            };
            let Header { broadcast_end, size } = Header::from_bytes(*header);
            let broadcast_end = broadcast_end as usize;
            if IS_BOUNDED {
                let space = MAX_PIECE_BYTES.saturating_sub(buffer.len());
                if broadcast_end - cursor >= space {
                    buffer.extend_from_slice(&block[cursor..cursor + space]);
                    cursor += space;
                    break;
                }
            }
            if cursor < broadcast_end {
                buffer.push_prefix::<TYPICAL_RUN_BYTES>(&block[cursor..], broadcast_end - cursor);
                cursor = broadcast_end;
            }
            buffer.push_prefix::<TYPICAL_LINE_BYTES>(line, size as usize);
            taken += 1;
        }
        self.taken += taken;
        self.broadcast_cursor = cursor as u32;
        self.addressed_bytes -= (buffer.len() - start - (cursor - first)) as u32;
    }
}

impl FanoutBatch {
    /// From now on there is a client_batch for the client of this key, under this recipient.
    pub(crate) fn open(&mut self, recipient: u32, key: ClientKey) {
        let place = recipient as usize;
        if place >= self.clients.len() {
            self.clients.resize_with(place + 1, ClientBatch::default);
        }
        let broadcast_cursor = self.block.len() as u32;
        let state = FlushState::Clean;
        self.clients[place] =
            ClientBatch { client: Some(key), broadcast_cursor, state, ..ClientBatch::default() };
    }

    /// The key of the client that a recipient names.
    pub(crate) fn client(&self, recipient: u32) -> Option<ClientKey> {
        self.clients.get(recipient as usize)?.client
    }

    /// From now on nothing is put into the client's client_batch. What is there stays.
    pub(crate) fn close(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            client_batch.state = FlushState::Closed;
        }
    }

    /// Forgets the client and what was for it.
    pub(crate) fn forget(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            *client_batch = ClientBatch::default();
        }
    }

    /// Bytes for the client that were not taken out yet.
    #[inline]
    pub(crate) fn queued(&self, recipient: u32) -> usize {
        self.clients.get(recipient as usize).map_or(0, |client_batch| {
            client_batch.addressed_bytes as usize + self.block.len()
                - client_batch.broadcast_cursor as usize
        })
    }

    /// Returns how many lines more can be queued until those of the turn take `bytes` of memory. The first
    /// always fits.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        let taken = self.block.len() + self.addressed.len();
        (bytes.saturating_sub(taken) / MAX_LINE_BYTES).max(usize::from(taken == 0))
    }

    /// Returns whether something was queued for everybody.
    pub(crate) fn has_broadcasts(&self) -> bool {
        !self.block.is_empty()
    }

    /// Puts the client on the list of those to flush.
    pub(crate) fn mark_pending(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize)
            && client_batch.state == FlushState::Clean
        {
            client_batch.state = FlushState::Pending;
            self.pending_flush.push(recipient);
        }
    }

    /// Takes a client off the list of those to flush, and returns its key.
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

    /// Queues a line for everybody.
    pub(crate) fn enqueue_broadcast(&mut self, line: &Line<'_>) {
        self.block.push_line(line);
    }

    /// Queues a line for some clients. Returns how many of them take lines.
    #[inline]
    pub(crate) fn queue(&mut self, recipients: &[u32], line: &Line<'_>) -> u64 {
        let pick = self.addressed.len() as LineOffset;
        let size = size_of_line(line) as u32;
        let header = Header { broadcast_end: self.block.len() as u32, size };
        self.addressed.extend_from_slice(&header.to_bytes());
        self.addressed.push_line(line);
        let mut taken = 0;
        for &recipient in recipients {
            let Some(client_batch) = self.clients.get_mut(recipient as usize) else { continue };
            match client_batch.state {
                FlushState::Pending => {}
                FlushState::Closed => continue,
                FlushState::Clean => {
                    client_batch.state = FlushState::Pending;
                    self.pending_flush.push(recipient);
                    if client_batch.offsets.capacity() == 0 {
                        client_batch.offsets = self.spares.get();
                    }
                }
            }
            client_batch.offsets.push(pick);
            client_batch.addressed_bytes += size;
            taken += 1;
        }
        taken
    }

    /// Appends the lines that were addressed for the client to `buffer`, and what was queued for
    /// everybody before them, until it holds [`MAX_PIECE_BYTES`]. Returns whether no addressed line is
    /// left. What was queued for everybody after the last one stays in the client_batch.
    pub(crate) fn drain_into(&mut self, recipient: u32, buffer: &mut ByteBuffer) -> bool {
        let Some(client_batch) = self.clients.get_mut(recipient as usize) else { return true };
        if client_batch.offsets.is_empty() {
            return true;
        }
        let lines = (self.block.as_slice(), self.addressed.as_slice());
        let bytes = client_batch.addressed_bytes as usize + lines.0.len()
            - client_batch.broadcast_cursor as usize;
        if buffer.len() + bytes <= MAX_PIECE_BYTES {
            buffer.reserve(bytes);
            client_batch.append_to::<false>(buffer, lines);
        } else {
            buffer.reserve(MAX_PIECE_BYTES.saturating_sub(buffer.len()));
            client_batch.append_to::<true>(buffer, lines);
        }
        let is_last = client_batch.taken as usize == client_batch.offsets.len();
        if is_last {
            client_batch.taken = 0;
            self.spares.put(std::mem::take(&mut client_batch.offsets));
        }
        is_last
    }

    /// What was queued for everybody and is not taken out for the client.
    pub(crate) fn unsent_broadcasts(&self, recipient: u32) -> &[u8] {
        let cursor = self
            .clients
            .get(recipient as usize)
            .map(|client_batch| client_batch.broadcast_cursor as usize);
        &self.block.as_slice()[cursor.unwrap_or(self.block.len())..]
    }

    /// Takes all of the block out of the client's client_batch.
    pub(crate) fn mark_broadcasts_sent(&mut self, recipient: u32) {
        if let Some(client_batch) = self.clients.get_mut(recipient as usize) {
            client_batch.broadcast_cursor = self.block.len() as u32;
        }
    }

    /// Forgets the lines, after every client has taken what is for it.
    pub(crate) fn end_turn(&mut self) {
        if self.has_broadcasts() {
            self.clients.iter_mut().for_each(|client_batch| client_batch.broadcast_cursor = 0);
            self.block.clear();
        }
        self.addressed.clear();
    }

    /// Gives most of the memory back to the allocator.
    pub(crate) fn trim(&mut self) {
        self.spares.shrink();
        for lines in [&mut self.block, &mut self.addressed] {
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
        /// Another client comes in place of one that leaves.
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

    /// All that is for a client, as the server takes it at a flush.
    fn take(batch: &mut FanoutBatch, key: u32) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut buffer = ByteBuffer::default();
        while !batch.drain_into(key, &mut buffer) {
            assert!(buffer.len() < MAX_PIECE_BYTES + 1000, "a piece is bounded");
            taken.extend_from_slice(buffer.as_slice());
            buffer.clear();
        }
        taken.extend_from_slice(buffer.as_slice());
        taken.extend_from_slice(batch.unsent_broadcasts(key));
        batch.mark_broadcasts_sent(key);
        taken
    }

    /// The line as it stands in front of others.
    fn with_line(text: &str, use_line: impl FnOnce(&Line<'_>)) {
        let buffer = format!("{text}\n{}", "behind".repeat(6));
        use_line(&Line::prefix_of(buffer.as_bytes(), text.len()));
    }

    proptest! {
        #[test]
        fn it_does_what_a_buffer_for_each_client_does(steps in steps()) {
            let mut batch = FanoutBatch::default();
            let mut plain: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS as usize];
            let mut closed = [false; CLIENTS as usize];
            let registered: Vec<u32> = (0..CLIENTS).collect();
            registered.iter().for_each(|&key| batch.open(key, ClientKey(key)));
            for step in steps {
                match step {
                    Step::ForAll(text) => {
                        with_line(&text, |line| batch.enqueue_broadcast(line));
                        plain.iter_mut().for_each(|buffer| buffer.extend(format!("{text}\r\n").bytes()));
                    }
                    Step::ForSome(text, keys) => {
                        let open: Vec<u32> =
                            keys.iter().copied().filter(|&key| !closed[key as usize]).collect();
                        with_line(&text, |line| {
                            assert_eq!(batch.queue(&keys, line), open.len() as u64);
                        });
                        for key in open {
                            plain[key as usize].extend(format!("{text}\r\n").bytes());
                        }
                    }
                    Step::Take(key) => {
                        let expected = std::mem::take(&mut plain[key as usize]);
                        prop_assert_eq!(take(&mut batch, key), expected);
                    }
                    Step::Close(key) => {
                        batch.close(key);
                        closed[key as usize] = true;
                    }
                    Step::Replace(key) => {
                        batch.forget(key);
                        batch.open(key, ClientKey(key));
                        plain[key as usize].clear();
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
                            let expected = std::mem::take(&mut plain[key as usize]);
                            prop_assert_eq!(take(&mut batch, key), expected);
                        }
                        batch.end_turn();
                        prop_assert!(plain.iter().all(Vec::is_empty), "who got something is pending_flush");
                    }
                }
                for (key, plain) in (0..).zip(&plain) {
                    prop_assert_eq!(batch.queued(key), plain.len());
                }
            }
        }
    }
}
