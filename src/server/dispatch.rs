//! The lines of one turn, and whose they are.

use super::byte_queue::{ByteQueue, size_of_line};
use super::pile::Pile;
use crate::protocol::Line;

/// Where a picked line stands among the others of its turn.
type Pick = u32;

/// A line and its terminator have seldom more bytes.
const USUAL_LINE: usize = 32;

/// Between two lines that were picked for a client there are seldom more bytes of the block: twenty
/// broadcasts.
const USUAL_PART: usize = 256;

/// What leaves in one turn. Every line is kept once, with its terminator: what goes to everybody in
/// one block, what goes to some in another place. For each client there is no more than a list of the
/// lines that were picked for it.
///
/// A client's bytes are put together when it is flushed, in one go: so the lines are read from the
/// cache, one outbox at a time is written, and the next one is written in the same memory. To append
/// each line to a hundred outboxes as it comes costs three times as much.
///
/// All that it refers to is counted with 32 bits: see [`Budgets::queued_bytes`](super::Budgets).
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    /// What goes to everybody.
    block: ByteQueue,
    /// What goes to some, each line behind its [`Header`].
    picked: ByteQueue,
    /// What is for a client, by its key.
    trays: Vec<Tray>,
    /// Keys of the clients that got something of their own since they were last taken.
    touched: Vec<u32>,
    /// Memory of emptied trays.
    spares: Pile<Vec<Pick>>,
}

/// The lines of a turn that are for one client, in order.
#[derive(Debug, Default)]
struct Tray {
    picks: Vec<Pick>,
    /// Bytes of the picked lines.
    picked_bytes: u32,
    /// Bytes of the block that were taken out.
    block_cursor: u32,
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

impl Dispatch {
    /// From now on there is a tray for the client.
    pub(crate) fn open(&mut self, key: u32) {
        let place = key as usize;
        if place >= self.trays.len() {
            self.trays.resize_with(place + 1, Tray::default);
        }
        let block_cursor = self.block.len() as u32;
        self.trays[place] = Tray { block_cursor, state: TrayState::Untouched, ..Tray::default() };
    }

    /// From now on nothing is put into the client's tray. What is there stays.
    pub(crate) fn close(&mut self, key: u32) {
        if let Some(tray) = self.trays.get_mut(key as usize) {
            tray.state = TrayState::Closed;
        }
    }

    /// Forgets the client and what was for it.
    pub(crate) fn forget(&mut self, key: u32) {
        if let Some(tray) = self.trays.get_mut(key as usize) {
            *tray = Tray::default();
        }
    }

    /// Bytes for the client that were not taken out yet.
    #[inline]
    pub(crate) fn queued(&self, key: u32) -> usize {
        self.trays.get(key as usize).map_or(0, |tray| {
            tray.picked_bytes as usize + self.block.len() - tray.block_cursor as usize
        })
    }

    /// Whether something was queued for everybody.
    pub(crate) fn has_block(&self) -> bool {
        !self.block.is_empty()
    }

    /// Puts the client on the list of those to flush.
    pub(crate) fn touch(&mut self, key: u32) {
        if let Some(tray) = self.trays.get_mut(key as usize)
            && tray.state == TrayState::Untouched
        {
            tray.state = TrayState::Touched;
            self.touched.push(key);
        }
    }

    /// Takes a client off the list of those to flush.
    pub(crate) fn next_touched(&mut self) -> Option<u32> {
        let key = self.touched.pop()?;
        if let Some(tray) = self.trays.get_mut(key as usize)
            && tray.state == TrayState::Touched
        {
            tray.state = TrayState::Untouched;
        }
        Some(key)
    }

    /// Queues a line for everybody.
    pub(crate) fn queue_for_all(&mut self, line: &Line<'_>) {
        self.block.push_line(line);
    }

    /// Queues a line for some clients. Returns how many of them take lines.
    #[inline]
    pub(crate) fn queue(&mut self, keys: &[u32], line: &Line<'_>) -> u64 {
        let pick = self.picked.len() as Pick;
        let size = size_of_line(line) as u32;
        let header = Header { block_end: self.block.len() as u32, size };
        self.picked.push_bytes(&header.to_bytes());
        self.picked.push_line(line);
        let mut taken = 0;
        for &key in keys {
            let Some(tray) = self.trays.get_mut(key as usize) else { continue };
            match tray.state {
                TrayState::Touched => {}
                TrayState::Closed => continue,
                TrayState::Untouched => {
                    tray.state = TrayState::Touched;
                    self.touched.push(key);
                    if tray.picks.capacity() == 0 {
                        tray.picks = self.spares.take();
                    }
                }
            }
            tray.picks.push(pick);
            tray.picked_bytes += size;
            taken += 1;
        }
        taken
    }

    /// Appends the lines that were picked for the client to `outbox`, and what was queued for
    /// everybody in front of them. What was queued for everybody behind them stays in the tray.
    pub(crate) fn take_picks(&mut self, key: u32, outbox: &mut ByteQueue) {
        let Some(tray) = self.trays.get_mut(key as usize) else { return };
        if tray.picks.is_empty() {
            return;
        }
        let picks = std::mem::take(&mut tray.picks);
        let mut cursor = tray.block_cursor as usize;
        let (block, picked) = (self.block.as_slice(), self.picked.as_slice());
        outbox.reserve(tray.picked_bytes as usize + block.len() - cursor);
        for &pick in &picks {
            let Some((header, line)) = picked[pick as usize..].split_first_chunk() else { break };
            let Header { block_end, size } = Header::from_bytes(*header);
            let block_end = block_end as usize;
            if cursor < block_end {
                outbox.push_front_of::<USUAL_PART>(&block[cursor..], block_end - cursor);
                cursor = block_end;
            }
            outbox.push_front_of::<USUAL_LINE>(line, size as usize);
        }
        tray.block_cursor = cursor as u32;
        tray.picked_bytes = 0;
        self.spares.keep(picks);
    }

    /// What was queued for everybody and is not taken out for the client.
    pub(crate) fn rest_of_block(&self, key: u32) -> &[u8] {
        let cursor = self.trays.get(key as usize).map(|tray| tray.block_cursor as usize);
        &self.block.as_slice()[cursor.unwrap_or(self.block.len())..]
    }

    /// Takes all of the block out of the client's tray.
    pub(crate) fn skip_block(&mut self, key: u32) {
        if let Some(tray) = self.trays.get_mut(key as usize) {
            tray.block_cursor = self.block.len() as u32;
        }
    }

    /// Forgets the lines, after `members` and everybody who was touched have taken theirs.
    pub(crate) fn end_turn(&mut self, members: &[u32]) {
        if self.has_block() {
            for &key in members {
                self.trays[key as usize].block_cursor = 0;
            }
            self.block.clear();
        }
        self.picked.clear();
    }

    /// Gives most of the memory back to the allocator.
    pub(crate) fn trim(&mut self) {
        self.spares.trim();
    }
}
