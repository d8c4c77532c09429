//! A set of small numbers that is asked more often than walked.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::bit_set::{BitSet, bits_of};
use super::id_set::{hash, scan};

/// Up to this many members are looked through one by one: two cache lines.
const SCANNED: usize = 32;

/// A set of bits is used as long as it has no more bits than this for each member: 8 bytes, about
/// what a hash table takes.
const BITS_A_MEMBER: usize = 64;

/// A set of 32-bit keys in as few cache lines as may be. The order of a walk means nothing.
#[derive(Debug)]
pub(crate) enum KeySet {
    /// A short list.
    Few(SmallVec<[u32; 6]>),
    /// Many of the keys that there are.
    Dense(BitSet),
    /// Many keys far from each other: 5 to 12 bytes each.
    Sparse(HashTable<u32>),
}

/// Where a walk over a [`KeySet`] stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    form: (u8, usize),
    place: usize,
}

impl Default for KeySet {
    fn default() -> KeySet {
        KeySet::Few(SmallVec::new())
    }
}

impl KeySet {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is one.
    pub(crate) fn contains(&self, member: u32) -> bool {
        match self {
            KeySet::Few(members) => scan(members, member).is_some(),
            KeySet::Dense(members) => members.contains(member),
            KeySet::Sparse(members) => members.find(hash(member), |&each| each == member).is_some(),
        }
    }

    fn len(&self) -> usize {
        match self {
            KeySet::Few(members) => members.len(),
            KeySet::Dense(members) => members.len(),
            KeySet::Sparse(members) => members.len(),
        }
    }

    /// Every member.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, dense, sparse) = match self {
            KeySet::Few(members) => (Some(members.iter()), None, None),
            KeySet::Dense(members) => (None, Some(members.iter()), None),
            KeySet::Sparse(members) => (None, None, Some(members.iter())),
        };
        let listed = few.into_iter().flatten().chain(sparse.into_iter().flatten()).copied();
        listed.chain(dense.into_iter().flatten())
    }

    /// Adds a member; `false` if it was one already.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        match self {
            KeySet::Few(members) if scan(members, member).is_some() => false,
            KeySet::Few(members) if members.len() < SCANNED => {
                members.push(member);
                true
            }
            KeySet::Dense(members) if is_dense(member, members.len()) => members.insert(member),
            KeySet::Sparse(members) if members.len() < members.capacity() => {
                match members.entry(hash(member), |&each| each == member, |&each| hash(each)) {
                    Entry::Occupied(_) => false,
                    Entry::Vacant(entry) => {
                        entry.insert(member);
                        true
                    }
                }
            }
            KeySet::Few(_) | KeySet::Dense(_) | KeySet::Sparse(_) => {
                self.restructure(member);
                self.insert(member)
            }
        }
    }

    /// Removes a member; `false` if it was none.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let was_there = match self {
            KeySet::Few(members) => match scan(members, member) {
                Some(place) => {
                    members.swap_remove(place);
                    true
                }
                None => false,
            },
            KeySet::Dense(members) => members.remove(member),
            KeySet::Sparse(members) => {
                match members.find_entry(hash(member), |&each| each == member) {
                    Ok(entry) => {
                        entry.remove();
                        true
                    }
                    Err(_) => false,
                }
            }
        };
        let is_too_large = match self {
            KeySet::Few(members) => members.spilled() && members.is_empty(),
            KeySet::Dense(members) => members.bits() > 4 * BITS_A_MEMBER * members.len(),
            KeySet::Sparse(members) => {
                members.len() <= SCANNED / 2 || members.capacity() > 8 * members.len()
            }
        };
        if is_too_large && self.len() <= SCANNED {
            *self = KeySet::Few(self.iter().collect());
        } else if is_too_large {
            self.restructure(0);
        }
        was_there
    }

    /// Visits members from where `cursor` stands and moves it on, until `steps` are used up: one for
    /// each member, and one for each place without any. Returns whether the walk is complete.
    ///
    /// A member that stays in the set from the first call to the last is visited, whatever is added
    /// and removed meanwhile; one may be visited more than once.
    pub(crate) fn walk(
        &self,
        cursor: &mut Cursor,
        steps: &mut usize,
        mut visit: impl FnMut(u32),
    ) -> bool {
        let form = self.form();
        if cursor.form != form {
            // The members stand elsewhere now.
            *cursor = Cursor { form, place: 0 };
        }
        while *steps > 0 {
            let place = cursor.place;
            let visited = match self {
                KeySet::Few(members) => members.get(place).map(|&member| {
                    visit(member);
                    1
                }),
                KeySet::Dense(members) => members
                    .words()
                    .get(place)
                    .map(|&word| bits_of(place, word).map(&mut visit).count()),
                KeySet::Sparse(members) if place < members.num_buckets() => {
                    Some(members.get_bucket(place).into_iter().copied().map(&mut visit).count())
                }
                KeySet::Sparse(_) => None,
            };
            let Some(visited) = visited else { return true };
            cursor.place += 1;
            *steps = steps.saturating_sub(visited.max(1));
        }
        false
    }

    /// Changes whenever members may have moved.
    fn form(&self) -> (u8, usize) {
        match self {
            // Of a short list a removal moves the last member: its length tells.
            KeySet::Few(members) => (1, members.len()),
            KeySet::Dense(_) => (2, 0),
            KeySet::Sparse(members) => (3, members.num_buckets()),
        }
    }

    /// Takes the form that suits the members and one more, with room for it.
    #[cold]
    fn restructure(&mut self, next: u32) {
        let largest = self.iter().fold(next, u32::max);
        if is_dense(largest, self.len()) {
            *self = KeySet::Dense(self.iter().collect());
        } else {
            let mut sparse = HashTable::with_capacity(2 * self.len());
            for member in self.iter() {
                sparse.insert_unique(hash(member), member, |&each| hash(each));
            }
            *self = KeySet::Sparse(sparse);
        }
    }
}

/// Whether `members` keys up to `largest` are better kept as bits.
#[inline]
fn is_dense(largest: u32, members: usize) -> bool {
    (largest as usize) < BITS_A_MEMBER * members
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_does_what_a_sorted_set_does(
            spread in prop_oneof![Just(1_u32), Just(70), Just(1 << 20)],
            steps in proptest::collection::vec((0..100_u32, any::<bool>(), 0..5_u8), 0..600),
        ) {
            let mut set = KeySet::default();
            let mut plain = BTreeSet::new();
            for (number, is_far, step) in steps {
                let member = if is_far { number * spread } else { number };
                if step < 3 {
                    prop_assert_eq!(set.insert(member), plain.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), plain.remove(&member));
                }
                prop_assert_eq!((set.len(), set.is_empty()), (plain.len(), plain.is_empty()));
            }
            let mut members: Vec<u32> = set.iter().collect();
            members.sort_unstable();
            prop_assert_eq!(members, plain.into_iter().collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn a_walk_in_slices_visits_every_member_that_stays(
            spread in prop_oneof![Just(1_u32), Just(70), Just(1 << 20)],
            initial in 1..400_u32,
            slices in proptest::collection::vec(
                (1..40_usize, proptest::collection::vec((0..500_u32, any::<bool>()), 0..20)), 0..400),
        ) {
            let mut set = KeySet::default();
            (0..initial).for_each(|number| assert!(set.insert(number * spread)));
            let mut stayed: BTreeSet<u32> = set.iter().collect();
            let (mut cursor, mut visited) = (Cursor::default(), BTreeSet::new());
            let mut is_complete = false;
            for (steps, changes) in slices {
                is_complete = set.walk(&mut cursor, &mut steps.clone(), |member| {
                    visited.insert(member);
                });
                if is_complete {
                    break;
                }
                for (number, is_added) in changes {
                    let member = number * spread;
                    if is_added {
                        set.insert(member);
                    } else if set.remove(member) {
                        stayed.remove(&member);
                    }
                }
            }
            prop_assert!(!is_complete || stayed.is_subset(&visited));
            let mut rest = usize::MAX;
            let is_complete = set.walk(&mut cursor, &mut rest, |member| {
                visited.insert(member);
            });
            prop_assert!(is_complete);
            prop_assert!(stayed.is_subset(&visited));
        }
    }

    #[test]
    fn the_form_follows_the_members() {
        let mut set = KeySet::default();
        (0..32).for_each(|member| assert!(set.insert(member * 50)));
        assert!(matches!(set, KeySet::Few(_)));
        (32..1000).for_each(|member| assert!(set.insert(member * 50)));
        assert!(matches!(set, KeySet::Dense(_)));
        assert!(set.insert(u32::MAX));
        assert!(matches!(set, KeySet::Sparse(_)));
        (0..1000).for_each(|member| assert!(set.remove(member * 50)));
        assert!(matches!(&set, KeySet::Few(members) if members[..] == [u32::MAX]));
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
