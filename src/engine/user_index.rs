//! The index of users by id.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::protocol::UserId;

/// The number of dense ids: those below it are looked up by index. The array takes at most 4 MiB, of which the
/// system commits only the pages in use, each for 1,024 ids.
const DENSE_IDS: u64 = 1 << 20;

/// The length of the array until a larger id comes. An allocator that reuses freed memory has to clear it: 64 KiB
/// rather than 4 MiB after each reset of a server of few users. There is no length in between: once glibc has got
/// back a piece that it had mapped, it keeps all smaller ones that it gets back.
const FEW_DENSE_IDS: usize = 1 << 14;

/// The number of insertions after which memory without ids is freed. An id that is inserted and removed
/// again and again therefore does not cost an allocation each time.
const MIN_INSERTIONS_TO_FREE: u32 = 1024;

/// The number of tables for sparse ids. Several tables, so that each resize moves a fraction of the ids.
const TABLES: usize = 256;

/// A table shrinks when it has more buckets per id than this, unless it is small.
const MAX_BUCKETS_PER_ID: usize = 8;

/// The largest table that never shrinks, in buckets.
const MAX_SMALL_TABLE_BUCKETS: usize = 512;

/// A map from user ids to keys below 2³²−1.
///
/// Most ids are small numbers: these are looked up by index. All others are hashed with a seed, because
/// ids come from peers. The tables store only keys, 6 to 12 bytes each. Callers pass `id_of`, which
/// returns the id of the user with a key.
#[derive(Debug, Default)]
pub(super) struct UserIndex {
    /// `key + 1`, or 0 for absent, so that a zeroed allocation is committed lazily, page by page. Empty until the
    /// first dense id, and short until the first that is not small.
    dense: Vec<u32>,
    dense_ids: IdCount,
    /// Empty until the first sparse id.
    sparse: Box<[HashTable<u32>]>,
    sparse_ids: IdCount,
    hasher: DefaultHashBuilder,
}

/// A count of the ids that share an allocation.
#[derive(Debug, Default)]
struct IdCount {
    present: u32,
    /// Insertions since the allocation.
    added: u32,
}

impl IdCount {
    fn add(&mut self) {
        self.present += 1;
        self.added = self.added.saturating_add(1);
    }

    /// Counts a removal. Returns whether the allocation is to be freed.
    fn remove(&mut self) -> bool {
        self.present -= 1;
        let may_free = self.present == 0 && self.added >= MIN_INSERTIONS_TO_FREE;
        if may_free {
            self.added = 0;
        }
        may_free
    }
}

impl UserIndex {
    /// Returns the key of an id.
    // inline(always): every event looks up one or two users, most of them with dense ids.
    #[inline(always)]
    pub(super) fn get(&self, id: UserId, id_of: impl Fn(u32) -> UserId) -> Option<u32> {
        match dense_index(id).and_then(|index| self.dense.get(index)) {
            Some(key_plus_one) => key_plus_one.checked_sub(1),
            None => self.get_sparse(id, id_of),
        }
    }

    #[inline(never)]
    fn get_sparse(&self, id: UserId, id_of: impl Fn(u32) -> UserId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.sparse.get(table_of(hash))?.find(hash, |&key| id_of(key) == id).copied()
    }

    /// Inserts an absent id.
    pub(super) fn insert(&mut self, id: UserId, key: u32, id_of: impl Fn(u32) -> UserId) {
        debug_assert!(key < u32::MAX && self.get(id, &id_of).is_none());
        if id.0 < DENSE_IDS {
            let index = id.0 as usize;
            if index >= self.dense.len() {
                self.grow_dense(index);
            }
            self.dense[index] = key + 1;
            self.dense_ids.add();
            return;
        }
        if self.sparse.is_empty() {
            self.sparse = (0..TABLES).map(|_| HashTable::new()).collect();
        }
        let hash = self.hasher.hash_one(id);
        self.sparse[table_of(hash)]
            .insert_unique(hash, key, |&key| self.hasher.hash_one(id_of(key)));
        self.sparse_ids.add();
    }

    /// Makes the dense array long enough for `index`.
    #[cold]
    fn grow_dense(&mut self, index: usize) {
        let len = if index < FEW_DENSE_IDS { FEW_DENSE_IDS } else { DENSE_IDS as usize };
        let mut longer = vec![0; len];
        longer[..self.dense.len()].copy_from_slice(&self.dense);
        self.dense = longer;
    }

    /// Removes a present id.
    pub(super) fn remove(&mut self, id: UserId, id_of: impl Fn(u32) -> UserId) {
        if let Some(key_plus_one) = dense_index(id).and_then(|index| self.dense.get_mut(index)) {
            *key_plus_one = 0;
            if self.dense_ids.remove() {
                self.dense = Vec::new();
            }
            return;
        }
        let hash = self.hasher.hash_one(id);
        let Some(table) = self.sparse.get_mut(table_of(hash)) else { return };
        if let Ok(entry) = table.find_entry(hash, |&key| id_of(key) == id) {
            entry.remove();
        }
        if self.sparse_ids.remove() {
            self.sparse = Box::default();
        } else if table.num_buckets()
            > MAX_SMALL_TABLE_BUCKETS.max(MAX_BUCKETS_PER_ID * table.len())
        {
            table.shrink_to(2 * table.len(), |&key| self.hasher.hash_one(id_of(key)));
        }
    }
}

/// Returns the table for a hash. It depends on bits that the table itself does not use.
#[inline]
fn table_of(hash: u64) -> usize {
    (hash >> 48) as usize % TABLES
}

/// Returns the index of an id in the dense array, which may be too short for it.
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
        fn matches_btree_map(
            steps in proptest::collection::vec(
                (prop_oneof![0..3_000_u64, DENSE_IDS - 3..DENSE_IDS + 3, any::<u64>()], any::<bool>()),
                0..400,
            ),
        ) {
            let mut index = UserIndex::default();
            let ids: Vec<u64> = steps.iter().map(|&(id, _)| id).collect();
            let id_of = |key: u32| UserId(ids[key as usize]);
            let mut reference: BTreeMap<u64, u32> = BTreeMap::new();
            for (key, (id, is_removed)) in (0..).zip(steps) {
                let near = reference.range(id..).next().map(|(&near, _)| near);
                let id = near.filter(|_| is_removed).unwrap_or(id);
                prop_assert_eq!(index.get(UserId(id), id_of), reference.get(&id).copied());
                match reference.remove(&id) {
                    Some(_) => index.remove(UserId(id), id_of),
                    None => {
                        index.insert(UserId(id), key, id_of);
                        reference.insert(id, key);
                    }
                }
                prop_assert_eq!(index.get(UserId(id), id_of), reference.get(&id).copied());
            }
            for (id, key) in reference {
                prop_assert_eq!(index.get(UserId(id), id_of), Some(key));
                index.remove(UserId(id), id_of);
            }
            prop_assert!(index.sparse.iter().all(HashTable::is_empty));
            prop_assert_eq!((index.dense_ids.present, index.sparse_ids.present), (0, 0));
            prop_assert!(index.dense.iter().all(|&key_plus_one| key_plus_one == 0));
        }
    }

    fn allocated_bytes(index: &UserIndex) -> usize {
        4 * index.dense.len() + index.sparse.iter().map(HashTable::allocation_size).sum::<usize>()
    }

    #[test]
    fn memory_is_freed_as_ids_are_removed() {
        for first in [0, DENSE_IDS] {
            let id_of = |key: u32| UserId(first + u64::from(key));
            let mut index = UserIndex::default();
            (0..1_000_000).for_each(|key| index.insert(id_of(key), key, id_of));
            let before = allocated_bytes(&index);
            (1..1_000_000).for_each(|key| index.remove(id_of(key), id_of));
            assert_eq!(index.get(id_of(0), id_of), Some(0));
            if first == DENSE_IDS {
                assert!(
                    allocated_bytes(&index) < before / 10,
                    "of {before}: {}",
                    allocated_bytes(&index)
                );
            }
            index.remove(id_of(0), id_of);
            assert_eq!(allocated_bytes(&index), 0);
        }
    }

    #[test]
    fn an_id_that_is_inserted_and_removed_again_keeps_the_allocation() {
        let mut index = UserIndex::default();
        index.insert(UserId(7), 0, |_| UserId(7));
        index.remove(UserId(7), |_| UserId(7));
        assert!(!index.dense.is_empty());
    }
}
