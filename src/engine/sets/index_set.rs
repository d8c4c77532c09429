//! A set that is iterated more often than searched.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::hash::{fibonacci_hash, linear_find};
use super::inline;

/// The number of members stored without an allocation.
const INLINE: usize = 3;

/// The largest set that is searched linearly: two cache lines.
const LINEAR_MAX: usize = 32;

/// A vector shrinks when its capacity exceeds this per member.
const MAX_CAPACITY_PER_MEMBER: usize = 4;

/// A set of 32-bit keys in 16 bytes: iterated as fast as a vector, changed in constant time at any size.
///
/// The order of members depends only on the preceding operations.
#[derive(Debug)]
pub(crate) enum SmallIndexSet {
    /// The first `len` of `members`.
    Inline { len: u8, members: [u32; INLINE] },
    /// Any number of members. A set that was large keeps this form until few are left.
    Many(Box<Many>),
}

/// A set in one vector, whose first 12 members need no further allocation. Beyond 32 members a table of
/// positions (5 to 11 bytes per member) locates members.
#[derive(Debug, Default)]
pub(crate) struct Many {
    members: SmallVec<[u32; 12]>,
    /// The position of each member in `members`, for sets too large for a linear search.
    positions: Option<Box<HashTable<u32>>>,
}

impl Default for SmallIndexSet {
    fn default() -> SmallIndexSet {
        SmallIndexSet::Inline { len: 0, members: [0; INLINE] }
    }
}

impl SmallIndexSet {
    /// Returns the members.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            SmallIndexSet::Inline { len, members } => &members[..usize::from(*len)],
            SmallIndexSet::Many(many) => &many.members,
        }
    }

    /// Returns whether the set contains `member`.
    pub(crate) fn contains(&self, member: u32) -> bool {
        match self {
            SmallIndexSet::Inline { len, members } => {
                members[..usize::from(*len)].contains(&member)
            }
            SmallIndexSet::Many(many) => many.position(member).is_some(),
        }
    }

    /// Inserts a member. Returns whether it was absent.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        let (len, members) = match self {
            SmallIndexSet::Inline { len, members } => (len, members),
            SmallIndexSet::Many(many) => return many.insert(member),
        };
        if let Some(is_new) = inline::insert(len, members, member) {
            return is_new;
        }
        let mut many = Many { members: SmallVec::from_slice(members), positions: None };
        many.members.push(member);
        *self = SmallIndexSet::Many(Box::new(many));
        true
    }

    /// Removes a member. Returns whether it was present. The last member moves to its position.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        match self {
            SmallIndexSet::Inline { len, members } => inline::remove(len, members, member),
            SmallIndexSet::Many(many) => {
                let was_present = many.remove(member);
                // Hysteresis of one member, so that alternating insertions and removals do not allocate.
                if let len @ 0..INLINE = many.members.len() {
                    let mut members = [0; INLINE];
                    members[..len].copy_from_slice(&many.members);
                    *self = SmallIndexSet::Inline { len: len as u8, members };
                }
                was_present
            }
        }
    }
}

impl Many {
    fn insert(&mut self, member: u32) -> bool {
        if self.position(member).is_some() {
            return false;
        }
        let position = self.members.len() as u32;
        self.members.push(member);
        match &mut self.positions {
            Some(positions) => {
                let members = &self.members;
                positions.insert_unique(fibonacci_hash(member), position, |&at| {
                    fibonacci_hash(members[at as usize])
                });
            }
            None if self.members.len() > LINEAR_MAX => self.index(),
            None => {}
        }
        true
    }

    fn remove(&mut self, member: u32) -> bool {
        let Some(position) = self.position(member) else { return false };
        let last = self.members.len() - 1;
        if let Some(positions) = &mut self.positions {
            let moved = self.members[last];
            if let Ok(entry) =
                positions.find_entry(fibonacci_hash(member), |&at| at as usize == position)
            {
                entry.remove();
            }
            if let Some(at) = positions.find_mut(fibonacci_hash(moved), |&at| at as usize == last) {
                *at = position as u32;
            }
        }
        self.members.swap_remove(position);
        if self.members.spilled()
            && self.members.capacity() > MAX_CAPACITY_PER_MEMBER * self.members.len()
        {
            self.shrink();
        }
        true
    }

    #[cold]
    fn shrink(&mut self) {
        self.members = self.members.iter().copied().collect();
        self.positions = None;
        if self.members.len() > LINEAR_MAX / 2 {
            self.index();
        }
    }

    fn position(&self, member: u32) -> Option<usize> {
        match &self.positions {
            Some(positions) => {
                let members = &self.members;
                let at =
                    positions.find(fibonacci_hash(member), |&at| members[at as usize] == member)?;
                Some(*at as usize)
            }
            None => linear_find(&self.members, member),
        }
    }

    fn index(&mut self) {
        let members = &self.members;
        let mut positions = Box::new(HashTable::with_capacity(members.len()));
        for (position, &member) in members.iter().enumerate() {
            positions.insert_unique(fibonacci_hash(member), position as u32, |&at: &u32| {
                fibonacci_hash(members[at as usize])
            });
        }
        self.positions = Some(positions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn matches_btree_set(
            steps in proptest::collection::vec((0..100_u32, 0..5_u8), 0..600),
        ) {
            let mut set = SmallIndexSet::default();
            let mut reference = BTreeSet::new();
            for (member, step) in steps {
                if step < 3 {
                    prop_assert_eq!(set.insert(member), reference.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), reference.remove(&member));
                }
                prop_assert_eq!(set.as_slice().contains(&member), reference.contains(&member));
            }
            let mut members = set.as_slice().to_vec();
            members.sort_unstable();
            prop_assert_eq!(members, reference.into_iter().collect::<Vec<_>>());
        }
    }

    fn large_set() -> SmallIndexSet {
        let mut set = SmallIndexSet::default();
        for member in (0..100_000).map(|member| member << 12) {
            assert!(set.insert(member));
        }
        set
    }

    #[test]
    fn a_set_takes_16_bytes() {
        assert_eq!((size_of::<SmallIndexSet>(), size_of::<Many>()), (16, 64));
    }

    #[test]
    fn a_large_set_shrinks_as_it_is_emptied() {
        let mut set = large_set();
        for (member, left) in (0..100_000).map(|member| member << 12).zip((0..100_000).rev()) {
            assert!(set.remove(member));
            if let SmallIndexSet::Many(many) = &set {
                let buckets =
                    many.positions.as_ref().map_or(0, |positions| positions.num_buckets());
                assert!(many.members.capacity() <= 4 * left || !many.members.spilled());
                assert!(buckets <= 10 * left, "{buckets} buckets for {left}");
            }
        }
        assert!(matches!(set, SmallIndexSet::Inline { len: 0, .. }));
    }
}
