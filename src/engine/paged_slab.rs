//! Values under small keys, in pages that are given back one by one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Index, IndexMut};

/// Bits of a key that choose a value of a page.
const PAGE_BITS: u32 = 11;

/// Values to a page. The pages of users and of lines have 128 KiB or a little more: as much as makes
/// an allocator get each from the system, and give it back to the system.
const PAGE_LEN: usize = 1 << PAGE_BITS;

/// A slab: keeps values, and chooses for each the key under which it is found.
///
/// The values stand in pages of fixed size: it grows without moving any of them, and a page on which
/// no value is left is freed, wherever it stands. One empty page at most is kept, so that values which
/// come and go cost no allocation each. New values go to the first page with room, so that what is
/// left after many removals gathers on few pages.
#[derive(Debug)]
pub(super) struct PagedSlab<T> {
    pages: Vec<Page<T>>,
    /// The pages with a vacant entry, those without memory included; the first one on top.
    with_room: BinaryHeap<Reverse<u32>>,
    /// The empty page that has kept its memory.
    spare: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// As many as were ever occupied at once; none once the page has been freed.
    entries: Vec<Entry<T>>,
    occupied: u32,
    /// The entry that was vacated last; the number of entries where none is vacant.
    vacant: u32,
}

#[derive(Debug)]
enum Entry<T> {
    /// The entry that was vacated before this one, as in [`Page::vacant`].
    Vacant(u32),
    Occupied(T),
}

impl<T> PagedSlab<T> {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a value. Returns its key, one that no other value has now.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = match self.with_room.peek() {
            Some(&Reverse(number)) => number,
            None => self.add_page(),
        };
        let page = &mut self.pages[number as usize];
        let place = page.insert(value);
        if page.occupied as usize == PAGE_LEN {
            self.with_room.pop();
        }
        if self.spare == Some(number) {
            self.spare = None;
        }
        self.len += 1;
        number << PAGE_BITS | place
    }

    /// Removes the value under a key.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub(super) fn remove(&mut self, key: u32) -> T {
        let number = key >> PAGE_BITS;
        let page = &mut self.pages[number as usize];
        let value = page.remove(dense_index(key as usize) as u32);
        if page.occupied as usize == PAGE_LEN - 1 {
            self.with_room.push(Reverse(number));
        }
        if page.occupied == 0 {
            self.keep_one_spare(number);
        }
        self.len -= 1;
        value
    }

    /// All values, those with the smallest keys first.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_iter().flat_map(|page| page.entries).filter_map(|entry| match entry {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        })
    }

    fn add_page(&mut self) -> u32 {
        let number = self.pages.len() as u32;
        self.pages.push(Page::default());
        // For all of them, so that a removal never allocates.
        self.with_room.reserve(self.pages.len());
        self.with_room.push(Reverse(number));
        number
    }

    /// Of the page that has become empty and the one that was before, keeps the first one's memory.
    fn keep_one_spare(&mut self, emptied: u32) {
        let spare = self.spare.map_or(emptied, |spare| spare.min(emptied));
        let freed = self.spare.map_or(emptied, |spare| spare.max(emptied));
        self.spare = Some(spare);
        if freed != spare {
            self.pages[freed as usize] = Page::default();
        }
    }
}

impl<T> Page<T> {
    fn insert(&mut self, value: T) -> u32 {
        let place = self.vacant;
        match self.entries.get_mut(place as usize) {
            Some(entry) => match std::mem::replace(entry, Entry::Occupied(value)) {
                Entry::Vacant(next) => self.vacant = next,
                Entry::Occupied(_) => unreachable!("a value stands in a vacant entry"),
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
        place
    }

    fn remove(&mut self, place: u32) -> T {
        let vacated = Entry::Vacant(self.vacant);
        match std::mem::replace(&mut self.entries[place as usize], vacated) {
            Entry::Occupied(value) => {
                self.vacant = place;
                self.occupied -= 1;
                value
            }
            Entry::Vacant(_) => absent(),
        }
    }
}

impl<T> Default for PagedSlab<T> {
    fn default() -> PagedSlab<T> {
        PagedSlab { pages: Vec::new(), with_room: BinaryHeap::new(), spare: None, len: 0 }
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
        match &self.pages[key >> PAGE_BITS].entries[dense_index(key)] {
            Entry::Occupied(value) => value,
            Entry::Vacant(_) => absent(),
        }
    }
}

impl<T> IndexMut<usize> for PagedSlab<T> {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut T {
        match &mut self.pages[key >> PAGE_BITS].entries[dense_index(key)] {
            Entry::Occupied(value) => value,
            Entry::Vacant(_) => absent(),
        }
    }
}

/// Where the value with this key stands in its page.
#[inline]
fn dense_index(key: usize) -> usize {
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
        /// What each value takes.
        pub(in crate::engine) const ENTRY_BYTES: usize = size_of::<Entry<T>>();

        fn pages_with_memory(&self) -> usize {
            self.pages.iter().filter(|page| page.entries.capacity() > 0).count()
        }
    }

    proptest! {
        // A case is up to some ten thousand steps.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_does_what_a_map_does(
            phases in proptest::collection::vec((0..6_000_usize, 0..6_000_usize, any::<u64>()), 1..8),
        ) {
            let mut slab = PagedSlab::default();
            let mut plain: BTreeMap<u32, Box<usize>> = BTreeMap::new();
            for (inserted, removed, seed) in phases {
                for value in 0..inserted {
                    let key = slab.insert(Box::new(value));
                    prop_assert_eq!(plain.insert(key, Box::new(value)), None, "key {} is taken", key);
                }
                for step in 0..removed as u64 {
                    let from = (seed ^ step).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 20_000;
                    let Some((&key, _)) = plain.range(from as u32..).next() else { continue };
                    *slab[key as usize] += 1;
                    prop_assert_eq!(slab.remove(key), Box::new(*plain.remove(&key).unwrap() + 1));
                }
                prop_assert_eq!(slab.len(), plain.len());
                prop_assert!(plain.iter().all(|(&key, value)| slab[key as usize] == *value));
                let used: BTreeSet<u32> = plain.keys().map(|key| key >> PAGE_BITS).collect();
                prop_assert!(slab.pages_with_memory() <= used.len() + 1, "one spare page at most");
            }
            prop_assert!(slab.into_values().eq(plain.into_values()));
        }
    }

    #[test]
    fn a_value_that_comes_and_goes_costs_no_allocation() {
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
    fn a_key_is_over_when_its_value_is_removed() {
        let mut slab = PagedSlab::default();
        let (key, _) = (slab.insert('a'), slab.insert('b'));
        slab.remove(key);
        assert_eq!(slab[key as usize], 'a');
    }
}
