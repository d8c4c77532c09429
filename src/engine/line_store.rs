//! Storage for lines that do not fit a slot of the reorder buffer.

use super::paged_slab::PagedSlab;

/// The length of the longest valid line without leading zeros.
const TYPICAL_LINE_BYTES: usize = 64;

/// A store of lines. A line of up to 64 bytes takes 68 bytes, a longer one an allocation and 16 bytes.
#[derive(Debug, Default)]
pub(super) struct LineStore {
    typical: PagedSlab<[u8; TYPICAL_LINE_BYTES]>,
    longer: PagedSlab<Box<[u8]>>,
}

/// The key of a stored line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineKey {
    /// The key in the slab for lines of this length.
    pub(super) key: u32,
    pub(super) len: u32,
}

impl LineKey {
    fn is_typical(self) -> bool {
        self.len as usize <= TYPICAL_LINE_BYTES
    }
}

impl LineStore {
    /// Stores a line.
    pub(super) fn insert(&mut self, line: &[u8]) -> LineKey {
        let key = if line.len() <= TYPICAL_LINE_BYTES {
            let mut bytes = [0; TYPICAL_LINE_BYTES];
            bytes[..line.len()].copy_from_slice(line);
            self.typical.insert(bytes)
        } else {
            self.longer.insert(line.into())
        };
        // A line has at most 2¹⁶ bytes.
        LineKey { key, len: line.len() as u32 }
    }

    /// Returns a stored line.
    pub(super) fn get(&self, at: LineKey) -> &[u8] {
        match at.is_typical() {
            true => &self.typical[at.key as usize][..at.len as usize],
            false => &self.longer[at.key as usize],
        }
    }

    /// Returns whether no line is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.typical.is_empty() && self.longer.is_empty()
    }

    /// Frees lines of about so many bytes, of each kind. Meant for a store that is not used any more.
    pub(super) fn free_some(&mut self, bytes: usize) {
        self.typical.free_some(bytes / TYPICAL_LINE_BYTES);
        self.longer.free_some(bytes / TYPICAL_LINE_BYTES);
    }

    /// Removes a stored line.
    pub(super) fn remove(&mut self, at: LineKey) {
        match at.is_typical() {
            true => drop(self.typical.remove(at.key)),
            false => drop(self.longer.remove(at.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_are_stored_and_removed() {
        let mut store = LineStore::default();
        let lines: Vec<Vec<u8>> = (0..200).map(|len| vec![len as u8; len]).collect();
        let keys: Vec<LineKey> = lines.iter().map(|line| store.insert(line)).collect();
        for (line, &at) in lines.iter().zip(&keys) {
            assert_eq!(store.get(at), line);
        }
        keys.into_iter().for_each(|at| store.remove(at));
        assert_eq!((store.typical.len(), store.longer.len()), (0, 0));
    }
}
