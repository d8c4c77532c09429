//! A slab whose pages are freed one by one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Index, IndexMut};

/// The number of key bits that select an entry within a page.
const PAGE_BITS: u32 = 11;

/// The number of entries per page. Pages of users and of lines take 128 KiB or slightly more, which
/// allocators map from the system and return to it one by one.
const PAGE_LEN: usize = 1 << PAGE_BITS;

/// A slab: a collection that assigns a key to each inserted value.
///
/// Values are in pages of fixed size. The slab grows without moving them, and frees any page that becomes
/// empty. It keeps at most one empty page, so that alternating insertions and removals do not allocate. New
/// values go to the first page with a vacant entry, so that few pages are in use after many removals.
#[derive(Debug)]
pub(super) struct PagedSlab<T> {
    pages: Vec<Page<T>>,
    /// A min-heap of the pages with a vacant entry, freed pages included.
    vacant_pages: BinaryHeap<Reverse<u32>>,
    /// The empty page that keeps its memory.
    idle_page: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// The entries used so far. Empty if the page is freed.
    entries: Vec<Entry<T>>,
    occupied: u32,
    /// The head of the free list: the entry vacated last, or the number of entries if none is vacant.
    vacant: u32,
}

#[derive(Debug)]
enum Entry<T> {
    /// The next entry of the free list, as in [`Page::vacant`].
    Vacant(u32),
    Occupied(T),
}

impl<T> PagedSlab<T> {
    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Inserts a value. Returns its key, which is unique among the present values.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = match self.vacant_pages.peek() {
            Some(&Reverse(number)) => number,
            None => self.add_page(),
        };
        let page = &mut self.pages[number as usize];
        let entry = page.insert(value);
        if page.occupied as usize == PAGE_LEN {
            self.vacant_pages.pop();
        }
        if self.idle_page == Some(number) {
            self.idle_page = None;
        }
        self.len += 1;
        number << PAGE_BITS | entry
    }

    /// Removes the value with a key.
    ///
    /// # Panics
    ///
    /// If no value has this key.
    pub(super) fn remove(&mut self, key: u32) -> T {
        let number = key >> PAGE_BITS;
        let page = &mut self.pages[number as usize];
        let value = page.remove(entry_index(key as usize) as u32);
        if page.occupied as usize == PAGE_LEN - 1 {
            self.vacant_pages.push(Reverse(number));
        }
        if page.occupied == 0 {
            self.keep_one_idle(number);
        }
        self.len -= 1;
        value
    }

    /// Iterates over all keys and values in ascending order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = self.pages.iter().zip(0..).flat_map(|(page, number)| {
            page.entries
                .iter()
                .zip(0..)
                .map(move |(entry, index)| (number << PAGE_BITS | index, entry))
        });
        entries.filter_map(|(key, entry)| match entry {
            Entry::Occupied(value) => Some((key, value)),
            Entry::Vacant(_) => None,
        })
    }

    /// Iterates over all values in ascending order of their keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    /// Returns whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Frees whole pages with at most `max` values in total, and at least one page, if there is any value. Meant
    /// for a slab that is not used any more.
    pub(super) fn free_some(&mut self, max: usize) {
        for _ in 0..(max / PAGE_LEN).max(1) {
            let Some(page) = self.pages.pop() else { return };
            self.len -= page.occupied as usize;
        }
    }

    fn add_page(&mut self) -> u32 {
        let number = self.pages.len() as u32;
        self.pages.push(Page::default());
        // Space for all pages, so that a removal never allocates.
        self.vacant_pages.reserve(self.pages.len());
        self.vacant_pages.push(Reverse(number));
        number
    }

    /// Keeps the lower one of two empty pages, `emptied` and the idle one, and frees the other.
    fn keep_one_idle(&mut self, emptied: u32) {
        let kept = self.idle_page.map_or(emptied, |idle| idle.min(emptied));
        let freed = self.idle_page.map_or(emptied, |idle| idle.max(emptied));
        self.idle_page = Some(kept);
        if freed != kept {
            self.pages[freed as usize] = Page::default();
        }
    }
}

impl<T> Page<T> {
    fn insert(&mut self, value: T) -> u32 {
        let index = self.vacant;
        match self.entries.get_mut(index as usize) {
            Some(entry) => match std::mem::replace(entry, Entry::Occupied(value)) {
                Entry::Vacant(next) => self.vacant = next,
                Entry::Occupied(_) => unreachable!("a vacant entry is occupied"),
            },
            None => {
                if self.entries.capacity() == 0 {
                    self.entries.reserve_exact(PAGE_LEN);
                }
                self.entries.push(Entry::Occupied(value));
                self.vacant += 1;
            }
        }
        self.occupied += 1;
        index
    }

    fn remove(&mut self, index: u32) -> T {
        let vacated = Entry::Vacant(self.vacant);
        match std::mem::replace(&mut self.entries[index as usize], vacated) {
            Entry::Occupied(value) => {
                self.vacant = index;
                self.occupied -= 1;
                value
            }
            Entry::Vacant(_) => absent(),
        }
    }
}

impl<T> Default for PagedSlab<T> {
    fn default() -> PagedSlab<T> {
        PagedSlab { pages: Vec::new(), vacant_pages: BinaryHeap::new(), idle_page: None, len: 0 }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Page<T> {
        Page { entries: Vec::new(), occupied: 0, vacant: 0 }
    }
}

impl<T> Index<usize> for PagedSlab<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: usize) -> &T {
        match &self.pages[key >> PAGE_BITS].entries[entry_index(key)] {
            Entry::Occupied(value) => value,
            Entry::Vacant(_) => absent(),
        }
    }
}

impl<T> IndexMut<usize> for PagedSlab<T> {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut T {
        match &mut self.pages[key >> PAGE_BITS].entries[entry_index(key)] {
            Entry::Occupied(value) => value,
            Entry::Vacant(_) => absent(),
        }
    }
}

/// Returns the index of a key's entry in its page.
#[inline]
fn entry_index(key: usize) -> usize {
    key & (PAGE_LEN - 1)
}

#[cold]
fn absent() -> ! {
    panic!("no value has this key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    impl<T> PagedSlab<T> {
        /// The size of one entry.
        pub(in crate::engine) const ENTRY_BYTES: usize = size_of::<Entry<T>>();

        fn pages_with_memory(&self) -> usize {
            self.pages.iter().filter(|page| page.entries.capacity() > 0).count()
        }
    }

    proptest! {
        // A case has up to 84,000 steps.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn matches_btree_map(
            phases in proptest::collection::vec((0..6_000_usize, 0..6_000_usize, any::<u64>()), 1..8),
        ) {
            let mut slab = PagedSlab::default();
            let mut reference: BTreeMap<u32, Box<usize>> = BTreeMap::new();
            for (inserted, removed, seed) in phases {
                for value in 0..inserted {
                    let key = slab.insert(Box::new(value));
                    prop_assert_eq!(reference.insert(key, Box::new(value)), None, "key {} is taken", key);
                }
                for step in 0..removed as u64 {
                    let from = (seed ^ step).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 20_000;
                    let Some((&key, _)) = reference.range(from as u32..).next() else { continue };
                    *slab[key as usize] += 1;
                    prop_assert_eq!(slab.remove(key), Box::new(*reference.remove(&key).unwrap() + 1));
                }
                prop_assert_eq!(slab.len(), reference.len());
                prop_assert!(reference.iter().all(|(&key, value)| slab[key as usize] == *value));
                let used: BTreeSet<u32> = reference.keys().map(|key| key >> PAGE_BITS).collect();
                prop_assert!(slab.pages_with_memory() <= used.len() + 1, "at most one idle page");
            }
            prop_assert!(slab.iter().eq(reference.iter().map(|(&key, value)| (key, value))));
        }
    }

    #[test]
    fn alternating_insertions_and_removals_do_not_allocate() {
        let mut slab = PagedSlab::default();
        let keys: Vec<u32> = (0..PAGE_LEN).map(|value| slab.insert(value)).collect();
        for _ in 0..10 {
            let key = slab.insert(0);
            slab.remove(key);
            assert_eq!(slab.pages_with_memory(), 2);
        }
        keys.into_iter().for_each(|key| assert_eq!(slab.remove(key), key as usize));
        assert_eq!((slab.len(), slab.pages_with_memory()), (0, 1));
        assert_eq!(slab.insert(0), PAGE_LEN as u32 - 1, "on the first page");
    }

    #[test]
    #[should_panic(expected = "no value has this key")]
    fn a_key_is_invalid_after_its_value_is_removed() {
        let mut slab = PagedSlab::default();
        let (key, _) = (slab.insert('a'), slab.insert('b'));
        slab.remove(key);
        assert_eq!(slab[key as usize], 'a');
    }
}
