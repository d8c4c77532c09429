//! A set of small numbers.

use hashbrown::HashTable;
use smallvec::SmallVec;

/// Up to this many members are looked through one by one: two cache lines.
const SCANNED: usize = 32;

/// A set of 32-bit keys: walked as fast as a vector, changed in constant time at any size.
///
/// The members stand in one vector, the first four without an allocation. Beyond 32 members a table
/// of positions (about 5 to 11 bytes a member) finds one to remove. The order of a walk depends on
/// nothing but the operations before it.
#[derive(Debug, Default)]
pub(crate) struct IdSet {
    members: SmallVec<[u32; 4]>,
    /// Where each member stands in `members`, once they are too many to look through.
    positions: Option<Box<HashTable<u32>>>,
}

impl IdSet {
    /// Every member, without a second table look-up.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.members
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        self.position(member).is_some()
    }

    /// Adds a member; `false` if it was one already.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        if self.contains(member) {
            return false;
        }
        let position = self.members.len() as u32;
        self.members.push(member);
        match &mut self.positions {
            Some(positions) => {
                let members = &self.members;
                positions.insert_unique(hash(member), position, |&at| hash(members[at as usize]));
            }
            None if self.members.len() > SCANNED => self.index(),
            None => {}
        }
        true
    }

    /// Removes a member; `false` if it was none. The last member takes its place.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let Some(position) = self.position(member) else { return false };
        let last = self.members.len() - 1;
        if let Some(positions) = &mut self.positions {
            let moved = self.members[last];
            if let Ok(entry) = positions.find_entry(hash(member), |&at| at as usize == position) {
                entry.remove();
            }
            if let Some(at) = positions.find_mut(hash(moved), |&at| at as usize == last) {
                *at = position as u32;
            }
        }
        self.members.swap_remove(position);
        if self.positions.is_some() && self.members.len() <= SCANNED / 2 {
            self.positions = None;
            self.members.shrink_to_fit();
        }
        if self.members.is_empty() {
            self.members = SmallVec::new();
        }
        true
    }

    fn position(&self, member: u32) -> Option<usize> {
        match &self.positions {
            Some(positions) => {
                let members = &self.members;
                let at = positions.find(hash(member), |&at| members[at as usize] == member)?;
                Some(*at as usize)
            }
            None => scan(&self.members, member),
        }
    }

    fn index(&mut self) {
        let members = &self.members;
        let mut positions = Box::new(HashTable::with_capacity(members.len()));
        for (position, &member) in members.iter().enumerate() {
            positions.insert_unique(hash(member), position as u32, |&at: &u32| {
                hash(members[at as usize])
            });
        }
        self.positions = Some(positions);
    }
}

/// Where `member` stands. Eight at a time are compared without a branch between them, which the
/// compiler turns into vector instructions.
#[inline]
pub(super) fn scan(members: &[u32], member: u32) -> Option<usize> {
    let (eights, rest) = members.as_chunks::<8>();
    for (place, eight) in eights.iter().enumerate() {
        if eight.iter().fold(false, |found, &each| found | (each == member)) {
            return eight.iter().position(|&each| each == member).map(|at| place * 8 + at);
        }
    }
    rest.iter().position(|&each| each == member).map(|at| eights.len() * 8 + at)
}

/// Spreads a key over 64 bits (Fibonacci hashing: Knuth, TAOCP vol. 3, section 6.4). The keys are slab
/// indices that no peer can choose, so nothing stronger is needed.
#[inline]
pub(super) fn hash(member: u32) -> u64 {
    let product = u64::from(member).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
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
            let mut set = IdSet::default();
            let mut plain = BTreeSet::new();
            for (member, step) in steps {
                if step < 3 {
                    prop_assert_eq!(set.insert(member), plain.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), plain.remove(&member));
                }
                prop_assert_eq!(set.contains(member), plain.contains(&member));
            }
            let mut members = set.as_slice().to_vec();
            members.sort_unstable();
            prop_assert_eq!(members, plain.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_large_set_filled_and_emptied_gives_its_memory_back() {
        let mut set = IdSet::default();
        for member in (0..100_000).map(|member| member << 12) {
            assert!(set.insert(member));
        }
        for member in (0..100_000).map(|member| member << 12) {
            assert!(set.remove(member));
        }
        assert!(set.as_slice().is_empty() && set.positions.is_none() && !set.members.spilled());
    }
}
