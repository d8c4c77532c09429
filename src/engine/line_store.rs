//! Lines that do not fit the slots of the reorder buffer.

use super::paged_slab::PagedSlab;

/// The longest valid line without leading zeros has as many bytes.
const TYPICAL_LINE_BYTES: usize = 64;

/// Lines under keys. Up to 64 bytes take 68, and a longer one an allocation of its own and 16.
#[derive(Debug, Default)]
pub(super) struct LineStore {
    usual: PagedSlab<[u8; TYPICAL_LINE_BYTES]>,
    longer: PagedSlab<Box<[u8]>>,
}

/// Where a line is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineKey {
    /// A key of the slab for lines of this length.
    pub(super) key: u32,
    pub(super) len: u32,
}

impl LineKey {
    fn is_usual(self) -> bool {
        self.len as usize <= TYPICAL_LINE_BYTES
    }
}

impl LineStore {
    /// Keeps a line.
    pub(super) fn insert(&mut self, line: &[u8]) -> LineKey {
        let key = if line.len() <= TYPICAL_LINE_BYTES {
            let mut bytes = [0; TYPICAL_LINE_BYTES];
            bytes[..line.len()].copy_from_slice(line);
            self.usual.insert(bytes)
        } else {
            self.longer.insert(line.into())
        };
        // A line has at most 2¹⁶ bytes.
        LineKey { key, len: line.len() as u32 }
    }

    /// The line that is kept there.
    pub(super) fn get(&self, at: LineKey) -> &[u8] {
        match at.is_usual() {
            true => &self.usual[at.key as usize][..at.len as usize],
            false => &self.longer[at.key as usize],
        }
    }

    /// Forgets a line.
    pub(super) fn remove(&mut self, at: LineKey) {
        match at.is_usual() {
            true => drop(self.usual.remove(at.key)),
            false => drop(self.longer.remove(at.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_come_back_until_they_are_removed() {
        let mut store = LineStore::default();
        let lines: Vec<Vec<u8>> = (0..200).map(|len| vec![len as u8; len]).collect();
        let keys: Vec<LineKey> = lines.iter().map(|line| store.insert(line)).collect();
        for (line, &at) in lines.iter().zip(&keys) {
            assert_eq!(store.get(at), line);
        }
        keys.into_iter().for_each(|at| store.remove(at));
        assert_eq!((store.usual.len(), store.longer.len()), (0, 0));
    }
}
