//! The state hash: a fingerprint of the follow set and the awaited sequence.

use std::fmt;

use crate::protocol::UserId;

/// A 128-bit fingerprint of a follow set and an awaited sequence.
///
/// It depends on nothing else, so it is equal on all machines and for all orders in which the follows were
/// added. The constants below are part of the journal's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash(pub u128);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The sum of the hashes of all follows. A sum is commutative, so that it is kept up to date with one
/// addition or subtraction per changed follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FollowSum(u128);

impl FollowSum {
    #[inline]
    pub(super) fn add(&mut self, follower: UserId, followed: UserId) {
        self.0 = self.0.wrapping_add(hash_pair(follower.0, followed.0));
    }

    #[inline]
    pub(super) fn subtract(&mut self, follower: UserId, followed: UserId) {
        self.0 = self.0.wrapping_sub(hash_pair(follower.0, followed.0));
    }

    /// Returns the hash of the follows together with an awaited sequence.
    pub(super) fn with_awaited(self, awaited: u64) -> StateHash {
        let [low, high] = [self.0 as u64, (self.0 >> 64) as u64];
        StateHash(hash_pair(mix(low ^ mix(awaited)), mix(high.wrapping_add(awaited))))
    }
}

/// Hashes an ordered pair to 128 bits. Its two halves use different constants.
#[inline]
fn hash_pair(first: u64, second: u64) -> u128 {
    let low = mix(mix(first ^ 0x9E37_79B9_7F4A_7C15).wrapping_add(second));
    let high = mix(mix(second ^ 0xC2B2_AE3D_27D4_EB4F).wrapping_add(first));
    u128::from(high) << 64 | u128::from(low)
}

/// The finalizer of `SplitMix64`: a bijection in which each input bit changes each output bit with a
/// probability of about one half.
#[inline]
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_format() {
        let mut sum = FollowSum::default();
        assert_eq!(sum.with_awaited(1).to_string(), "e628f46ba04b82a961f4c5af843d0c31");
        sum.add(UserId(1), UserId(2));
        sum.add(UserId(u64::MAX), UserId(0));
        assert_eq!(sum.with_awaited(3).to_string(), "fbfde298fbc785c070210aec73b2acfa");
    }

    #[test]
    fn pairs_and_their_order_matter_and_the_order_of_changes_does_not() {
        let sum_of = |pairs: &[(u64, u64)]| {
            let mut sum = FollowSum::default();
            pairs.iter().for_each(|&(a, b)| sum.add(UserId(a), UserId(b)));
            sum
        };
        assert_eq!(sum_of(&[(1, 2), (3, 4)]), sum_of(&[(3, 4), (1, 2)]));
        assert_ne!(sum_of(&[(1, 2)]), sum_of(&[(2, 1)]));
        assert_ne!(sum_of(&[(1, 2), (3, 4)]), sum_of(&[(1, 4), (3, 2)]));
        assert_ne!(sum_of(&[(0, 0)]), FollowSum::default());
        let mut sum = sum_of(&[(1, 2), (3, 4)]);
        sum.subtract(UserId(3), UserId(4));
        assert_eq!(sum, sum_of(&[(1, 2)]));
        assert_ne!(sum.with_awaited(1), sum.with_awaited(2));
    }

    #[test]
    fn small_ids_do_not_collide() {
        let pairs = (0..300_u64).flat_map(|a| (0..300_u64).map(move |b| hash_pair(a, b)));
        let halves: HashSet<u64> =
            pairs.flat_map(|hash| [hash as u64, (hash >> 64) as u64]).collect();
        assert_eq!(halves.len(), 2 * 300 * 300);
    }
}
