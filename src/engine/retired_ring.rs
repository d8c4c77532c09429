//! A ring that is no longer used and too large to be freed at once.

use super::line_store::LineStore;
use super::slot::Slot;

/// The memory of a reorder buffer that was reset or has become empty, which is freed a few MiB at a time: the system
/// takes a quarter of a millisecond to take back a MiB.
#[derive(Debug, Default)]
pub(super) struct RetiredRing {
    slots: Vec<Slot>,
    long_lines: LineStore,
}

impl RetiredRing {
    pub(super) fn new(slots: Vec<Slot>, long_lines: LineStore) -> RetiredRing {
        RetiredRing { slots, long_lines }
    }

    /// Returns whether everything is freed.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.long_lines.is_empty()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Frees about so many bytes of slots, and of lines.
    pub(super) fn free_some(&mut self, bytes: usize) {
        let slots = (bytes / size_of::<Slot>()).max(1);
        self.slots.truncate(self.slots.len().saturating_sub(slots));
        // An allocator that got the memory from the system for this vector alone returns its end in place.
        self.slots.shrink_to_fit();
        self.long_lines.free_some(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_freed_a_few_slots_and_lines_at_a_time() {
        const SLOTS: usize = 1 << 17;
        const BYTES: usize = 1 << 20;
        let mut lines = LineStore::default();
        (0..SLOTS).for_each(|_| assert_eq!(lines.insert(&[b'x'; 64]).len, 64));
        let mut ring = RetiredRing::new(bytemuck::zeroed_vec(SLOTS), lines);
        let mut steps = 0;
        while !ring.is_empty() {
            let before = ring.slots.len();
            ring.free_some(BYTES);
            assert!(before - ring.slots.len() <= BYTES / size_of::<Slot>());
            assert_eq!(ring.slots.capacity(), ring.slots.len());
            steps += 1;
        }
        assert_eq!(steps, SLOTS * 64 / BYTES, "the lines take longer");
        ring.free_some(0);
        assert!(ring.is_empty());
    }
}
