//! The lines of one turn, and whose they are.

use crate::hub::outbound::buffer_pool::VecPool;
use crate::hub::outbound::byte_buffer::{ByteBuffer, size_of_line};
use crate::protocol::Line;

/// Where a picked line stands among the others of its turn.
type Pick = u32;

/// A line and its terminator have seldom more bytes.
const USUAL_LINE: usize = 32;

/// Between two lines that were picked for a client there are seldom more bytes of the block: twenty
/// broadcasts.
const USUAL_PART: usize = 256;

/// What a line takes at most here: an event's longest has 64 bytes.
const MAX_LINE_BYTES: usize = Header::BYTES + 64 + 2;

/// Bytes that are put together for a client at once: more leave in several writes, which cost nothing
/// beside the bytes, and the memory for them stays small.
const MAX_PIECE_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// What is kept of each kind of memory while the server waits for something to do.
const MOST_BYTES_AT_REST: usize = 1 << 20;

/// What leaves in one turn. Every line is kept once, with its terminator: what goes to everybody in
/// one block, what goes to some in another place. For each client there is no more than a list of the
/// lines that were picked for it.
///
/// A client's bytes are put together when it is flushed, in one go: so the lines are read from the
/// cache, one client at a time is written to, and the next one is written in the same memory. To append
/// each line to the buffers of a hundred clients as it comes costs three times as much.
///
/// All that it refers to is counted with 32 bits: see [`Budgets::queued_bytes`](super::Budgets).
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    /// What goes to everybody.
    block: ByteBuffer,
    /// What goes to some, each line behind its [`Header`].
    picked: ByteBuffer,
    /// What is for a client, by its recipient.
    trays: Vec<Tray>,
    /// Recipients that got something of their own since they were last taken.
    touched: Vec<u32>,
    /// Memory of emptied trays.
    spares: VecPool<Pick>,
}

/// The lines of a turn that are for one client, in order.
#[derive(Debug, Default)]
struct Tray {
    picks: Vec<Pick>,
    /// How many of them were taken out.
    taken: u32,
    /// Bytes of the picked lines that were not taken out.
    picked_bytes: u32,
    /// Bytes of the block that were taken out.
    block_cursor: u32,
    /// The client's key; `None` where there is no tray.
    client: Option<u32>,
    state: TrayState,
}

/// What is to be done before a line is put into a [`Tray`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TrayState {
    /// It takes nothing.
    #[default]
    Closed,
    /// Its client has to be put on the list of those to flush.
    Untouched,
    /// Nothing: its client is on the list.
    Touched,
}

/// What stands in front of a picked line.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// Bytes of the block that were queued before the line.
    block_end: u32,
    /// Bytes of the line and its terminator.
    size: u32,
}

/// The memory that a pick takes. The list that it stands in may be twice as long as needed.
pub(crate) const PICK_BYTES: u64 = size_of::<Pick>() as u64;

impl Header {
    const BYTES: usize = 8;

    fn to_bytes(self) -> [u8; Header::BYTES] {
        (u64::from(self.block_end) | u64::from(self.size) << 32).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; Header::BYTES]) -> Header {
        let both = u64::from_le_bytes(bytes);
        Header { block_end: both as u32, size: (both >> 32) as u32 }
    }
}

impl Tray {
    /// Appends the picked lines to `buffer`, out of the lines for everybody and of those for some; no more
    /// than [`MAX_PIECE_BYTES`] and the last line if that `IS_BOUNDED`.
    fn append_to<const IS_BOUNDED: bool>(
        &mut self,
        buffer: &mut ByteBuffer,
        (block, picked): (&[u8], &[u8]),
    ) {
        let (start, first) = (buffer.len(), self.block_cursor as usize);
        let (mut cursor, mut taken) = (first, 0);
        for &pick in &self.picks[self.taken as usize..] {
            let Some((header, line)) = picked[pick as usize..].split_first_chunk() else { break };
            let Header { block_end, size } = Header::from_bytes(*header);
            let block_end = block_end as usize;
            if IS_BOUNDED {
                let space = MAX_PIECE_BYTES.saturating_sub(buffer.len());
                if block_end - cursor >= space {
                    buffer.extend_from_slice(&block[cursor..cursor + space]);
                    cursor += space;
                    break;
                }
            }
            if cursor < block_end {
                buffer.push_prefix::<USUAL_PART>(&block[cursor..], block_end - cursor);
                cursor = block_end;
            }
            buffer.push_prefix::<USUAL_LINE>(line, size as usize);
            taken += 1;
        }
        self.taken += taken;
        self.block_cursor = cursor as u32;
        self.picked_bytes -= (buffer.len() - start - (cursor - first)) as u32;
    }
}

impl Dispatch {
    /// From now on there is a tray for the client of this key, under this recipient.
    pub(crate) fn open(&mut self, recipient: u32, key: u32) {
        let place = recipient as usize;
        if place >= self.trays.len() {
            self.trays.resize_with(place + 1, Tray::default);
        }
        let block_cursor = self.block.len() as u32;
        let state = TrayState::Untouched;
        self.trays[place] = Tray { client: Some(key), block_cursor, state, ..Tray::default() };
    }

    /// The key of the client that a recipient names.
    pub(crate) fn client(&self, recipient: u32) -> Option<u32> {
        self.trays.get(recipient as usize)?.client
    }

    /// From now on nothing is put into the client's tray. What is there stays.
    pub(crate) fn close(&mut self, recipient: u32) {
        if let Some(tray) = self.trays.get_mut(recipient as usize) {
            tray.state = TrayState::Closed;
        }
    }

    /// Forgets the client and what was for it.
    pub(crate) fn forget(&mut self, recipient: u32) {
        if let Some(tray) = self.trays.get_mut(recipient as usize) {
            *tray = Tray::default();
        }
    }

    /// Bytes for the client that were not taken out yet.
    #[inline]
    pub(crate) fn queued(&self, recipient: u32) -> usize {
        self.trays.get(recipient as usize).map_or(0, |tray| {
            tray.picked_bytes as usize + self.block.len() - tray.block_cursor as usize
        })
    }

    /// How many lines more can be queued until those of the turn take `bytes` of memory. The first
    /// always fits.
    pub(crate) fn lines_that_fit(&self, bytes: usize) -> usize {
        let taken = self.block.len() + self.picked.len();
        (bytes.saturating_sub(taken) / MAX_LINE_BYTES).max(usize::from(taken == 0))
    }

    /// Whether something was queued for everybody.
    pub(crate) fn has_block(&self) -> bool {
        !self.block.is_empty()
    }

    /// Puts the client on the list of those to flush.
    pub(crate) fn touch(&mut self, recipient: u32) {
        if let Some(tray) = self.trays.get_mut(recipient as usize)
            && tray.state == TrayState::Untouched
        {
            tray.state = TrayState::Touched;
            self.touched.push(recipient);
        }
    }

    /// Takes a client off the list of those to flush, and returns its key.
    pub(crate) fn next_touched(&mut self) -> Option<u32> {
        loop {
            let recipient = self.touched.pop()?;
            let tray = &mut self.trays[recipient as usize];
            if tray.state == TrayState::Touched {
                tray.state = TrayState::Untouched;
            }
            if tray.client.is_some() {
                return tray.client;
            }
        }
    }

    /// Queues a line for everybody.
    pub(crate) fn queue_for_all(&mut self, line: &Line<'_>) {
        self.block.push_line(line);
    }

    /// Queues a line for some clients. Returns how many of them take lines.
    #[inline]
    pub(crate) fn queue(&mut self, recipients: &[u32], line: &Line<'_>) -> u64 {
        let pick = self.picked.len() as Pick;
        let size = size_of_line(line) as u32;
        let header = Header { block_end: self.block.len() as u32, size };
        self.picked.extend_from_slice(&header.to_bytes());
        self.picked.push_line(line);
        let mut taken = 0;
        for &recipient in recipients {
            let Some(tray) = self.trays.get_mut(recipient as usize) else { continue };
            match tray.state {
                TrayState::Touched => {}
                TrayState::Closed => continue,
                TrayState::Untouched => {
                    tray.state = TrayState::Touched;
                    self.touched.push(recipient);
                    if tray.picks.capacity() == 0 {
                        tray.picks = self.spares.get();
                    }
                }
            }
            tray.picks.push(pick);
            tray.picked_bytes += size;
            taken += 1;
        }
        taken
    }

    /// Appends the lines that were picked for the client to `buffer`, and what was queued for
    /// everybody before them, until it holds [`MAX_PIECE_BYTES`]. Returns whether no picked line is
    /// left. What was queued for everybody after the last one stays in the tray.
    pub(crate) fn take_picks(&mut self, recipient: u32, buffer: &mut ByteBuffer) -> bool {
        let Some(tray) = self.trays.get_mut(recipient as usize) else { return true };
        if tray.picks.is_empty() {
            return true;
        }
        let lines = (self.block.as_slice(), self.picked.as_slice());
        let bytes = tray.picked_bytes as usize + lines.0.len() - tray.block_cursor as usize;
        if buffer.len() + bytes <= MAX_PIECE_BYTES {
            buffer.reserve(bytes);
            tray.append_to::<false>(buffer, lines);
        } else {
            buffer.reserve(MAX_PIECE_BYTES.saturating_sub(buffer.len()));
            tray.append_to::<true>(buffer, lines);
        }
        let is_last = tray.taken as usize == tray.picks.len();
        if is_last {
            tray.taken = 0;
            self.spares.put(std::mem::take(&mut tray.picks));
        }
        is_last
    }

    /// What was queued for everybody and is not taken out for the client.
    pub(crate) fn rest_of_block(&self, recipient: u32) -> &[u8] {
        let cursor = self.trays.get(recipient as usize).map(|tray| tray.block_cursor as usize);
        &self.block.as_slice()[cursor.unwrap_or(self.block.len())..]
    }

    /// Takes all of the block out of the client's tray.
    pub(crate) fn skip_block(&mut self, recipient: u32) {
        if let Some(tray) = self.trays.get_mut(recipient as usize) {
            tray.block_cursor = self.block.len() as u32;
        }
    }

    /// Forgets the lines, after every client has taken what is for it.
    pub(crate) fn end_turn(&mut self) {
        if self.has_block() {
            self.trays.iter_mut().for_each(|tray| tray.block_cursor = 0);
            self.block.clear();
        }
        self.picked.clear();
    }

    /// Gives most of the memory back to the allocator.
    pub(crate) fn trim(&mut self) {
        self.spares.shrink();
        for lines in [&mut self.block, &mut self.picked] {
            if lines.is_empty() && lines.capacity() > MOST_BYTES_AT_REST {
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
    fn take(dispatch: &mut Dispatch, key: u32) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut buffer = ByteBuffer::default();
        while !dispatch.take_picks(key, &mut buffer) {
            assert!(buffer.len() < MAX_PIECE_BYTES + 1000, "a piece is bounded");
            taken.extend_from_slice(buffer.as_slice());
            buffer.clear();
        }
        taken.extend_from_slice(buffer.as_slice());
        taken.extend_from_slice(dispatch.rest_of_block(key));
        dispatch.skip_block(key);
        taken
    }

    /// The line as it stands in front of others.
    fn with_line(text: &str, use_line: impl FnOnce(&Line<'_>)) {
        let buffer = format!("{text}\n{}", "behind".repeat(6));
        use_line(&Line::in_front_of(buffer.as_bytes(), text.len()));
    }

    proptest! {
        #[test]
        fn it_does_what_a_buffer_for_each_client_does(steps in steps()) {
            let mut dispatch = Dispatch::default();
            let mut plain: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS as usize];
            let mut closed = [false; CLIENTS as usize];
            let members: Vec<u32> = (0..CLIENTS).collect();
            members.iter().for_each(|&key| dispatch.open(key, key));
            for step in steps {
                match step {
                    Step::ForAll(text) => {
                        with_line(&text, |line| dispatch.queue_for_all(line));
                        plain.iter_mut().for_each(|buffer| buffer.extend(format!("{text}\r\n").bytes()));
                    }
                    Step::ForSome(text, keys) => {
                        let open: Vec<u32> =
                            keys.iter().copied().filter(|&key| !closed[key as usize]).collect();
                        with_line(&text, |line| {
                            assert_eq!(dispatch.queue(&keys, line), open.len() as u64);
                        });
                        for key in open {
                            plain[key as usize].extend(format!("{text}\r\n").bytes());
                        }
                    }
                    Step::Take(key) => {
                        let expected = std::mem::take(&mut plain[key as usize]);
                        prop_assert_eq!(take(&mut dispatch, key), expected);
                    }
                    Step::Close(key) => {
                        dispatch.close(key);
                        closed[key as usize] = true;
                    }
                    Step::Replace(key) => {
                        dispatch.forget(key);
                        dispatch.open(key, key);
                        plain[key as usize].clear();
                        closed[key as usize] = false;
                    }
                    Step::EndTurn => {
                        let mut left: Vec<u32> = match dispatch.has_block() {
                            true => members.clone(),
                            false => std::iter::from_fn(|| dispatch.next_touched()).collect(),
                        };
                        while dispatch.next_touched().is_some() {}
                        left.retain(|&key| dispatch.queued(key) > 0);
                        for key in left {
                            let expected = std::mem::take(&mut plain[key as usize]);
                            prop_assert_eq!(take(&mut dispatch, key), expected);
                        }
                        dispatch.end_turn();
                        prop_assert!(plain.iter().all(Vec::is_empty), "who got something is touched");
                    }
                }
                for (key, plain) in (0..).zip(&plain) {
                    prop_assert_eq!(dispatch.queued(key), plain.len());
                }
            }
        }
    }
}
