//! Users by id.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::protocol::UserId;

/// Ids below this have a place of their own: 4 MiB of memory, of which the system provides no more
/// than what is used, in pages of a thousand ids.
const SMALL_IDS: u64 = 1 << 20;

/// From user ids to keys, which are below 2³²−1.
///
/// Ids are mostly small numbers: these are looked up by place. All others are hashed, by a seeded hash
/// since ids come from peers.
#[derive(Debug, Default)]
pub(super) struct UserIndex {
    /// One more than the key of each small id, 0 where there is none: memory that comes as zeros is
    /// not touched before it is used. Empty until there is a small id.
    places: Vec<u32>,
    others: HashTable<(UserId, u32)>,
    hasher: DefaultHashBuilder,
}

impl UserIndex {
    #[inline]
    pub(super) fn get(&self, id: UserId) -> Option<u32> {
        match place_of(id).and_then(|place| self.places.get(place)) {
            Some(key_and_one) => key_and_one.checked_sub(1),
            None => self.get_other(id),
        }
    }

    fn get_other(&self, id: UserId) -> Option<u32> {
        let entry = self.others.find(self.hasher.hash_one(id), |&(each, _)| each == id)?;
        Some(entry.1)
    }

    /// Adds an id that is not there.
    pub(super) fn insert(&mut self, id: UserId, key: u32) {
        debug_assert!(key < u32::MAX && self.get(id).is_none());
        if id.0 < SMALL_IDS {
            if self.places.is_empty() {
                self.places = vec![0; SMALL_IDS as usize];
            }
            self.places[id.0 as usize] = key + 1;
        } else {
            let hasher = &self.hasher;
            let hash = |&(id, _): &(UserId, u32)| hasher.hash_one(id);
            self.others.insert_unique(hasher.hash_one(id), (id, key), hash);
        }
    }

    /// Removes an id that is there.
    pub(super) fn remove(&mut self, id: UserId) {
        if let Some(key_and_one) = place_of(id).and_then(|place| self.places.get_mut(place)) {
            *key_and_one = 0;
        } else if let Ok(entry) =
            self.others.find_entry(self.hasher.hash_one(id), |&(each, _)| each == id)
        {
            entry.remove();
        }
    }
}

/// Where an id would stand if there were a place for each.
#[inline]
fn place_of(id: UserId) -> Option<usize> {
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
            prop_assert!(index.others.is_empty() && index.places.iter().all(|&place| place == 0));
        }
    }
}
