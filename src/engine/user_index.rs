//! Users by id.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::protocol::UserId;

/// Ids below this have a place of their own. They take 4 MiB at most, whoever chooses them.
const SMALL_IDS: u64 = 1 << 20;

/// How many of these places are allocated together: 4 KiB.
const PAGE_IDS: usize = 1024;

/// What stands at a place without a key.
const NO_KEY: u32 = u32::MAX;

/// From user ids to keys, which are below 2³²−1.
///
/// Ids are mostly small numbers: these are looked up by place. All others are hashed, by a seeded hash
/// since ids come from peers.
#[derive(Debug, Default)]
pub(super) struct UserIndex {
    pages: Vec<Option<Box<Page>>>,
    others: HashTable<(UserId, u32)>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Page {
    keys: [u32; PAGE_IDS],
    used: usize,
}

impl UserIndex {
    #[inline]
    pub(super) fn get(&self, id: UserId) -> Option<u32> {
        if id.0 >= SMALL_IDS {
            return self.get_other(id);
        }
        let (page, place) = split(id);
        let key = self.pages.get(page)?.as_ref()?.keys[place];
        (key != NO_KEY).then_some(key)
    }

    fn get_other(&self, id: UserId) -> Option<u32> {
        let entry = self.others.find(self.hasher.hash_one(id), |&(each, _)| each == id)?;
        Some(entry.1)
    }

    /// Adds an id that is not there.
    pub(super) fn insert(&mut self, id: UserId, key: u32) {
        debug_assert!(key != NO_KEY && self.get(id).is_none());
        if id.0 >= SMALL_IDS {
            let hasher = &self.hasher;
            let hash = |&(id, _): &(UserId, u32)| hasher.hash_one(id);
            self.others.insert_unique(hasher.hash_one(id), (id, key), hash);
            return;
        }
        let (page, place) = split(id);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(Page::empty);
        page.keys[place] = key;
        page.used += 1;
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, id: UserId) {
        if id.0 >= SMALL_IDS {
            if let Ok(entry) =
                self.others.find_entry(self.hasher.hash_one(id), |&(each, _)| each == id)
            {
                entry.remove();
            }
            return;
        }
        let (page, place) = split(id);
        let Some(Some(used_page)) = self.pages.get_mut(page) else { return };
        used_page.keys[place] = NO_KEY;
        used_page.used -= 1;
        if used_page.used == 0 {
            self.pages[page] = None;
        }
    }
}

impl Page {
    fn empty() -> Box<Page> {
        Box::new(Page { keys: [NO_KEY; PAGE_IDS], used: 0 })
    }
}

/// The page of a small id, and its place there.
#[inline]
fn split(id: UserId) -> (usize, usize) {
    (id.0 as usize / PAGE_IDS, id.0 as usize % PAGE_IDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(
            steps in proptest::collection::vec(
                (prop_oneof![0..3_000_u64, SMALL_IDS - 3..SMALL_IDS + 3, any::<u64>()], any::<bool>()),
                0..400,
            ),
        ) {
            let mut index = UserIndex::default();
            let mut plain: BTreeMap<u64, u32> = BTreeMap::new();
            for (key, (id, is_removed)) in (0..).zip(steps) {
                let id = plain.range(id..).next().map_or(id, |(&near, _)| if is_removed { near } else { id });
                prop_assert_eq!(index.get(UserId(id)), plain.get(&id).copied());
                match plain.remove(&id) {
                    Some(_) => index.remove(UserId(id)),
                    None => {
                        index.insert(UserId(id), key);
                        plain.insert(id, key);
                    }
                }
                prop_assert_eq!(index.get(UserId(id)), plain.get(&id).copied());
            }
            for (id, key) in plain {
                prop_assert_eq!(index.get(UserId(id)), Some(key));
                index.remove(UserId(id));
            }
            prop_assert!(index.others.is_empty() && index.pages.iter().all(Option::is_none));
        }
    }
}
