//! A set of small numbers that is asked more often than walked.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::id_set::{hash, scan};

/// Up to this many members are looked through one by one: two cache lines.
const SCANNED: usize = 32;

/// A set of 32-bit keys in as few cache lines as may be: a short list, or a hash table (5 to 12
/// bytes a member). The order of a walk means nothing.
#[derive(Debug)]
pub(crate) enum KeySet {
    Few(SmallVec<[u32; 6]>),
    Many(HashTable<u32>),
}

impl Default for KeySet {
    fn default() -> KeySet {
        KeySet::Few(SmallVec::new())
    }
}

impl KeySet {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            KeySet::Few(members) => members.is_empty(),
            KeySet::Many(members) => members.is_empty(),
        }
    }

    /// Every member.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, many) = match self {
            KeySet::Few(members) => (Some(members.iter()), None),
            KeySet::Many(members) => (None, Some(members.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }

    /// Adds a member; `false` if it was one already.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        match self {
            KeySet::Few(members) => {
                if scan(members, member).is_some() {
                    return false;
                }
                if members.len() < SCANNED {
                    members.push(member);
                    return true;
                }
                let mut many = HashTable::with_capacity(2 * SCANNED);
                for &member in members.iter().chain([&member]) {
                    many.insert_unique(hash(member), member, |&each| hash(each));
                }
                *self = KeySet::Many(many);
                true
            }
            KeySet::Many(members) => {
                let entry = members.entry(hash(member), |&each| each == member, |&each| hash(each));
                let is_new = matches!(entry, hashbrown::hash_table::Entry::Vacant(_));
                entry.or_insert(member);
                is_new
            }
        }
    }

    /// Removes a member; `false` if it was none.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        match self {
            KeySet::Few(members) => {
                let Some(place) = scan(members, member) else { return false };
                members.swap_remove(place);
                if members.is_empty() {
                    *members = SmallVec::new();
                }
                true
            }
            KeySet::Many(members) => {
                let Ok(entry) = members.find_entry(hash(member), |&each| each == member) else {
                    return false;
                };
                entry.remove();
                if members.len() <= SCANNED / 2 {
                    *self = KeySet::Few(members.iter().copied().collect());
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_does_what_a_sorted_set_does(
            steps in proptest::collection::vec((0..100_u32, 0..5_u8), 0..600),
        ) {
            let mut set = KeySet::default();
            let mut plain = BTreeSet::new();
            for (member, step) in steps {
                if step < 3 {
                    prop_assert_eq!(set.insert(member), plain.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), plain.remove(&member));
                }
                prop_assert_eq!(set.is_empty(), plain.is_empty());
            }
            let mut members: Vec<u32> = set.iter().collect();
            members.sort_unstable();
            prop_assert_eq!(members, plain.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_large_set_filled_and_emptied_is_a_short_list_again() {
        let mut set = KeySet::default();
        for member in (0..100_000).map(|member| member << 12) {
            assert!(set.insert(member));
        }
        for member in (0..100_000).map(|member| member << 12) {
            assert!(set.remove(member));
        }
        assert!(matches!(set, KeySet::Few(members) if !members.spilled()));
    }
}
