//! A set that is searched more often than iterated.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::bit_set::{BitSet, bits_of};
use super::hash::{fibonacci_hash, linear_find};
use super::inline;

/// The number of members stored without an allocation.
const INLINE: usize = 5;

/// The largest set that is searched linearly: two cache lines.
const LINEAR_MAX: usize = 32;

/// A set is stored as bits while they are at most this many per member: 8 bytes, about as much as a hash
/// table takes.
const MAX_BITS_PER_MEMBER: usize = 64;

/// A hash table shrinks when it has more buckets per member than this.
const MAX_BUCKETS_PER_MEMBER: usize = 8;

/// A set of 32-bit keys in 24 bytes. Its representation depends on the number and density of members. The
/// order of members is unspecified.
#[derive(Debug)]
pub(crate) enum HybridSet {
    /// The first `len` of `members`.
    Inline { len: u8, members: [u32; INLINE] },
    /// A short list: 64 bytes, and 128 more from 15 members on.
    List(Box<SmallVec<[u32; 14]>>),
    /// A bit set for dense members.
    Bits { len: u32, members: BitSet },
    /// A hash table for sparse members: 5 to 12 bytes each.
    Table(Box<HashTable<u32>>),
}

impl Default for HybridSet {
    fn default() -> HybridSet {
        HybridSet::Inline { len: 0, members: [0; INLINE] }
    }
}

impl HybridSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the set contains `member`.
    pub(crate) fn contains(&self, member: u32) -> bool {
        match self {
            HybridSet::Inline { len, members } => members[..usize::from(*len)].contains(&member),
            HybridSet::List(members) => linear_find(members, member).is_some(),
            HybridSet::Bits { members, .. } => members.contains(member),
            HybridSet::Table(members) => {
                members.find(fibonacci_hash(member), |&each| each == member).is_some()
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            HybridSet::Inline { len, .. } => usize::from(*len),
            HybridSet::List(members) => members.len(),
            HybridSet::Bits { len, .. } => *len as usize,
            HybridSet::Table(members) => members.len(),
        }
    }

    /// Returns the members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (list, bits, table) = match self {
            HybridSet::Inline { len, members } => (&members[..usize::from(*len)], None, None),
            HybridSet::List(members) => (&members[..], None, None),
            HybridSet::Bits { members, .. } => (&[][..], Some(members.iter()), None),
            HybridSet::Table(members) => (&[][..], None, Some(members.iter())),
        };
        let list = list.iter().chain(table.into_iter().flatten()).copied();
        list.chain(bits.into_iter().flatten())
    }

    /// Inserts a member. Returns whether it was absent.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        match self {
            HybridSet::Inline { len, members } => {
                if let Some(is_new) = inline::insert(len, members, member) {
                    return is_new;
                }
                let mut list = Box::new(SmallVec::from_slice(members));
                list.push(member);
                *self = HybridSet::List(list);
                true
            }
            HybridSet::List(members) if linear_find(members, member).is_some() => false,
            HybridSet::List(members) if members.len() < LINEAR_MAX => {
                members.push(member);
                true
            }
            HybridSet::Bits { len, members } if is_dense(member, *len as usize) => {
                let is_new = members.insert(member);
                *len += u32::from(is_new);
                is_new
            }
            HybridSet::Table(members) if members.len() < members.capacity() => {
                match members.entry(
                    fibonacci_hash(member),
                    |&each| each == member,
                    |&each| fibonacci_hash(each),
                ) {
                    Entry::Occupied(_) => false,
                    Entry::Vacant(entry) => {
                        entry.insert(member);
                        true
                    }
                }
            }
            HybridSet::List(_) | HybridSet::Bits { .. } | HybridSet::Table(_) => {
                self.rebuild(member);
                self.insert(member)
            }
        }
    }

    /// Removes a member. Returns whether it was present.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let was_present = match self {
            HybridSet::Inline { len, members } => return inline::remove(len, members, member),
            HybridSet::List(members) => match linear_find(members, member) {
                Some(index) => {
                    members.swap_remove(index);
                    true
                }
                None => false,
            },
            HybridSet::Bits { len, members } => {
                let was_present = members.remove(member);
                *len -= u32::from(was_present);
                was_present
            }
            HybridSet::Table(members) => {
                match members.find_entry(fibonacci_hash(member), |&each| each == member) {
                    Ok(entry) => {
                        entry.remove();
                        true
                    }
                    Err(_) => false,
                }
            }
        };
        if self.is_oversized() {
            self.shrink();
        }
        was_present
    }

    /// Visits members from `cursor` on and advances it until `steps` are used up: one step per member, and
    /// one per word or bucket without members. Short lists are visited at once. Returns whether the walk is
    /// complete.
    ///
    /// A walk over several calls visits each member that is present throughout, if the caller restarts it
    /// whenever the [`form`](Self::form) changes. It may visit a member more than once.
    pub(crate) fn walk(
        &self,
        cursor: &mut usize,
        steps: &mut usize,
        mut visit: impl FnMut(u32),
    ) -> bool {
        if matches!(self, HybridSet::Inline { .. } | HybridSet::List(_)) {
            *steps = steps.saturating_sub(self.iter().map(visit).count());
            return true;
        }
        while *steps > 0 {
            let visited = match self {
                HybridSet::Bits { members, .. } => {
                    let word = members.words().get(*cursor);
                    word.map(|&word| bits_of(*cursor, word).map(&mut visit).count())
                }
                HybridSet::Table(members) if *cursor < members.num_buckets() => {
                    Some(members.get_bucket(*cursor).into_iter().copied().map(&mut visit).count())
                }
                _ => None,
            };
            let Some(visited) = visited else { return true };
            *cursor += 1;
            *steps = steps.saturating_sub(visited.max(1));
        }
        false
    }

    /// Returns a value that changes whenever members move.
    pub(crate) fn form(&self) -> (u8, usize) {
        match self {
            HybridSet::Inline { .. } | HybridSet::List(_) => (1, 0),
            // Bits never move.
            HybridSet::Bits { .. } => (2, 0),
            // A new table is allocated before the old one is freed, so the addresses differ.
            HybridSet::Table(members) => (3, std::ptr::from_ref(&**members).addr()),
        }
    }

    /// Returns whether a smaller representation suffices, even for a few more members.
    fn is_oversized(&self) -> bool {
        match self {
            HybridSet::Inline { .. } => false,
            HybridSet::List(members) => {
                members.len() < INLINE || members.spilled() && members.len() < LINEAR_MAX / 4
            }
            HybridSet::Bits { len, members } => {
                members.capacity() > 4 * MAX_BITS_PER_MEMBER * *len as usize
            }
            HybridSet::Table(members) => {
                members.len() <= LINEAR_MAX / 2
                    || members.num_buckets() > MAX_BUCKETS_PER_MEMBER * members.len()
            }
        }
    }

    #[cold]
    fn shrink(&mut self) {
        let len = self.len();
        *self = if len <= INLINE {
            let mut members = [0; INLINE];
            members.iter_mut().zip(self.iter()).for_each(|(slot, member)| *slot = member);
            HybridSet::Inline { len: len as u8, members }
        } else if len <= LINEAR_MAX {
            HybridSet::List(Box::new(self.iter().collect()))
        } else {
            return self.rebuild(0);
        };
    }

    /// Rebuilds the set in the representation for its members and `next`, with space for it.
    #[cold]
    fn rebuild(&mut self, next: u32) {
        let largest = self.iter().fold(next, u32::max);
        if is_dense(largest, self.len()) {
            *self = HybridSet::Bits { len: self.len() as u32, members: self.iter().collect() };
        } else {
            let mut table = HashTable::with_capacity(2 * self.len());
            for member in self.iter() {
                table.insert_unique(fibonacci_hash(member), member, |&each| fibonacci_hash(each));
            }
            *self = HybridSet::Table(Box::new(table));
        }
    }
}

/// Returns whether `members` keys up to `largest` are stored as bits.
#[inline]
fn is_dense(largest: u32, members: usize) -> bool {
    (largest as usize) < MAX_BITS_PER_MEMBER * members
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn matches_btree_set(
            spread in prop_oneof![Just(1_u32), Just(70), Just(1 << 20)],
            steps in proptest::collection::vec((0..100_u32, any::<bool>(), 0..5_u8), 0..600),
        ) {
            let mut set = HybridSet::default();
            let mut reference = BTreeSet::new();
            for (number, is_far, step) in steps {
                let member = if is_far { number * spread } else { number };
                if step < 3 {
                    prop_assert_eq!(set.insert(member), reference.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), reference.remove(&member));
                }
                prop_assert_eq!((set.len(), set.is_empty()), (reference.len(), reference.is_empty()));
            }
            let mut members: Vec<u32> = set.iter().collect();
            members.sort_unstable();
            prop_assert_eq!(members, reference.into_iter().collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn a_walk_in_slices_visits_every_remaining_member(
            spread in prop_oneof![Just(1_u32), Just(70), Just(1 << 20)],
            initial in 1..400_u32,
            slices in proptest::collection::vec(
                (1..40_usize, proptest::collection::vec((0..500_u32, any::<bool>()), 0..20)), 0..400),
        ) {
            let mut set = HybridSet::default();
            (0..initial).for_each(|number| assert!(set.insert(number * spread)));
            let mut stayed: BTreeSet<u32> = set.iter().collect();
            let (mut cursor, mut visited) = (0, BTreeSet::new());
            let mut is_complete = false;
            for (steps, changes) in slices {
                is_complete = set.walk(&mut cursor, &mut steps.clone(), |member| {
                    visited.insert(member);
                });
                if is_complete {
                    break;
                }
                for (number, is_added) in changes {
                    let (member, form) = (number * spread, set.form());
                    if is_added {
                        set.insert(member);
                    } else if set.remove(member) {
                        stayed.remove(&member);
                    }
                    if set.form() != form {
                        cursor = 0;
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
        let mut set = HybridSet::default();
        (0..32).for_each(|member| assert!(set.insert(member * 50)));
        assert!(matches!(set, HybridSet::List(_)));
        (32..1000).for_each(|member| assert!(set.insert(member * 50)));
        assert!(matches!(set, HybridSet::Bits { .. }));
        assert!(set.insert(u32::MAX));
        assert!(matches!(set, HybridSet::Table(_)));
        (0..1000).for_each(|member| assert!(set.remove(member * 50)));
        assert!(matches!(set, HybridSet::Inline { len: 1, members: [u32::MAX, ..] }));
    }

    #[test]
    fn a_set_takes_24_bytes() {
        assert_eq!(size_of::<HybridSet>(), 24);
        assert_eq!(size_of::<SmallVec<[u32; 14]>>(), 64);
    }

    #[test]
    fn a_large_set_shrinks_as_it_is_emptied() {
        for shift in [0, 12] {
            let mut set = HybridSet::default();
            for member in (0..100_000).map(|member| member << shift) {
                assert!(set.insert(member));
            }
            for (member, left) in (0..100_000).map(|member| member << shift).zip((0..100_000).rev())
            {
                assert!(set.remove(member));
                match &set {
                    HybridSet::Inline { .. } => assert!(left <= INLINE),
                    HybridSet::List(members) => {
                        assert!(!members.spilled() || left >= LINEAR_MAX / 4);
                    }
                    HybridSet::Bits { members, .. } => assert!(members.capacity() <= 256 * left),
                    HybridSet::Table(members) => assert!(members.num_buckets() <= 8 * left),
                }
            }
            assert!(matches!(set, HybridSet::Inline { len: 0, .. }));
        }
    }
}
