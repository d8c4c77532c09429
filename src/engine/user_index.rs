//! Users by id.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::protocol::UserId;

/// Ids below this have a place of their own: 4 MiB of memory, of which the system provides no more
/// than what is used, in pages of a thousand ids.
const DENSE_IDS: u64 = 1 << 20;

/// Memory that no id uses any more is given back if so many have come since it was allocated: then
/// it is worth it, and an id that comes and goes does not cost an allocation each time.
const WORTH_GIVING_BACK: u32 = 1024;

/// Tables that share the ids which are not small: a table grows and shrinks for a fraction of them.
const TABLES: usize = 256;

/// A table is made smaller when it has this many times as many places as ids, unless it is small.
const VACANT_SHARE: usize = 8;
const SMALL_TABLE: usize = 512;

/// From user ids to keys, which are below 2³²−1.
///
/// Ids are mostly small numbers: these are looked up by place. All others are hashed, by a seeded hash
/// since ids come from peers. Only keys are kept for them, 6 to 12 bytes each: whoever asks says
/// which id the user with a key has.
#[derive(Debug, Default)]
pub(super) struct UserIndex {
    /// One more than the key of each small id, 0 where there is none: memory that comes as zeros is
    /// not touched before it is used. Empty until there is a small id.
    places: Vec<u32>,
    small_ids: HubCounters,
    /// None until there is an id that is not small.
    tables: Box<[HashTable<u32>]>,
    other_ids: HubCounters,
    hasher: DefaultHashBuilder,
}

/// Counts the ids that share some memory.
#[derive(Debug, Default)]
struct HubCounters {
    present: u32,
    /// Those that were added since the memory was allocated.
    added: u32,
}

impl HubCounters {
    fn add(&mut self) {
        self.present += 1;
        self.added = self.added.saturating_add(1);
    }

    /// Counts one less. Returns whether the memory is to be given back.
    fn remove(&mut self) -> bool {
        self.present -= 1;
        let is_worth_it = self.present == 0 && self.added >= WORTH_GIVING_BACK;
        if is_worth_it {
            self.added = 0;
        }
        is_worth_it
    }
}

impl UserIndex {
    // Always: every event asks for a user or two, and most by a small id.
    #[inline(always)]
    pub(super) fn get(&self, id: UserId, id_of: impl Fn(u32) -> UserId) -> Option<u32> {
        match dense_index(id).and_then(|place| self.places.get(place)) {
            Some(key_plus_one) => key_plus_one.checked_sub(1),
            None => self.get_other(id, id_of),
        }
    }

    #[inline(never)]
    fn get_other(&self, id: UserId, id_of: impl Fn(u32) -> UserId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.tables.get(table_of(hash))?.find(hash, |&key| id_of(key) == id).copied()
    }

    /// Adds an id that is not there.
    pub(super) fn insert(&mut self, id: UserId, key: u32, id_of: impl Fn(u32) -> UserId) {
        debug_assert!(key < u32::MAX && self.get(id, &id_of).is_none());
        if id.0 < DENSE_IDS {
            if self.places.is_empty() {
                self.places = vec![0; DENSE_IDS as usize];
            }
            self.places[id.0 as usize] = key + 1;
            self.small_ids.add();
            return;
        }
        if self.tables.is_empty() {
            self.tables = (0..TABLES).map(|_| HashTable::new()).collect();
        }
        let hash = self.hasher.hash_one(id);
        self.tables[table_of(hash)]
            .insert_unique(hash, key, |&key| self.hasher.hash_one(id_of(key)));
        self.other_ids.add();
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, id: UserId, id_of: impl Fn(u32) -> UserId) {
        if let Some(key_plus_one) = dense_index(id).and_then(|place| self.places.get_mut(place)) {
            *key_plus_one = 0;
            if self.small_ids.remove() {
                self.places = Vec::new();
            }
            return;
        }
        let hash = self.hasher.hash_one(id);
        let Some(table) = self.tables.get_mut(table_of(hash)) else { return };
        if let Ok(entry) = table.find_entry(hash, |&key| id_of(key) == id) {
            entry.remove();
        }
        if self.other_ids.remove() {
            self.tables = Box::default();
        } else if table.num_buckets() > SMALL_TABLE.max(VACANT_SHARE * table.len()) {
            table.shrink_to(2 * table.len(), |&key| self.hasher.hash_one(id_of(key)));
        }
    }
}

/// The table of the ids with this hash: by bits that the table itself has no use for.
#[inline]
fn table_of(hash: u64) -> usize {
    (hash >> 48) as usize % TABLES
}

/// Where an id would stand if there were a place for each.
#[inline]
fn dense_index(id: UserId) -> Option<usize> {
    usize::try_from(id.0).ok()
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
                (prop_oneof![0..3_000_u64, DENSE_IDS - 3..DENSE_IDS + 3, any::<u64>()], any::<bool>()),
                0..400,
            ),
        ) {
            let mut index = UserIndex::default();
            let ids: Vec<u64> = steps.iter().map(|&(id, _)| id).collect();
            let id_of = |key: u32| UserId(ids[key as usize]);
            let mut plain: BTreeMap<u64, u32> = BTreeMap::new();
            for (key, (id, is_removed)) in (0..).zip(steps) {
                let near = plain.range(id..).next().map(|(&near, _)| near);
                let id = near.filter(|_| is_removed).unwrap_or(id);
                prop_assert_eq!(index.get(UserId(id), id_of), plain.get(&id).copied());
                match plain.remove(&id) {
                    Some(_) => index.remove(UserId(id), id_of),
                    None => {
                        index.insert(UserId(id), key, id_of);
                        plain.insert(id, key);
                    }
                }
                prop_assert_eq!(index.get(UserId(id), id_of), plain.get(&id).copied());
            }
            for (id, key) in plain {
                prop_assert_eq!(index.get(UserId(id), id_of), Some(key));
                index.remove(UserId(id), id_of);
            }
            prop_assert!(index.tables.iter().all(HashTable::is_empty));
            prop_assert_eq!((index.small_ids.present, index.other_ids.present), (0, 0));
            prop_assert!(index.places.iter().all(|&place| place == 0));
        }
    }

    fn taken_bytes(index: &UserIndex) -> usize {
        4 * index.places.len() + index.tables.iter().map(HashTable::allocation_size).sum::<usize>()
    }

    #[test]
    fn memory_is_given_back_as_ids_are_removed() {
        for first in [0, DENSE_IDS] {
            let id_of = |key: u32| UserId(first + u64::from(key));
            let mut index = UserIndex::default();
            (0..1_000_000).for_each(|key| index.insert(id_of(key), key, id_of));
            let before = taken_bytes(&index);
            (1..1_000_000).for_each(|key| index.remove(id_of(key), id_of));
            assert_eq!(index.get(id_of(0), id_of), Some(0));
            if first == DENSE_IDS {
                assert!(taken_bytes(&index) < before / 10, "of {before}: {}", taken_bytes(&index));
            }
            index.remove(id_of(0), id_of);
            assert_eq!(taken_bytes(&index), 0);
        }
    }

    #[test]
    fn an_id_that_comes_and_goes_keeps_its_place() {
        let mut index = UserIndex::default();
        index.insert(UserId(7), 0, |_| UserId(7));
        index.remove(UserId(7), |_| UserId(7));
        assert!(!index.places.is_empty());
    }
}
