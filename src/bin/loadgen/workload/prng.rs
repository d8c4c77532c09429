//! A pseudo-random number generator with the same sequence everywhere for a seed.

use std::collections::HashMap;

/// xoshiro256**, by David Blackman and Sebastiano Vigna (public domain,
/// <https://prng.di.unimi.it/xoshiro256starstar.c>), seeded with splitmix64 as they recommend.
pub(crate) struct Prng {
    state: [u64; 4],
}

impl Prng {
    pub(crate) fn from_seed(seed: u64) -> Prng {
        let mut counter = seed;
        Prng { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// Returns the next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Returns a number in `0..bound`; `bound` is not 0.
    ///
    /// The bias is below `bound` / 2⁶⁴, which no load can show.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// Returns an index into a slice of `len` elements; `len` is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Shuffles by Fisher-Yates: every order is equally likely.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Returns `count` distinct numbers out of `1..=max`, in random order; `count` is at most
    /// `max`.
    ///
    /// A partial Fisher-Yates shuffle that stores only displaced elements.
    pub(crate) fn distinct(&mut self, count: usize, max: u64) -> Vec<u64> {
        let mut moved = HashMap::new();
        (0..count as u64)
            .map(|index| {
                let other = index + self.below(max - index);
                let displaced = moved.remove(&index).unwrap_or(index + 1);
                if other == index {
                    return displaced;
                }
                moved.insert(other, displaced).unwrap_or(other + 1)
            })
            .collect()
    }
}

fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        let mut prng = Prng { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| prng.next()).collect();
        assert_eq!(first, [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn distinct_numbers_are_distinct_and_in_range() {
        let mut numbers = Prng::from_seed(666).distinct(100, 150);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 100);
        assert!(numbers.iter().all(|n| (1..=150).contains(n)));
    }

    #[test]
    fn distinct_numbers_are_those_of_a_whole_shuffle() {
        for (count, max) in [(0, 1), (1, 1), (10, 10), (7, 10), (50, 1000)] {
            let (mut prng, mut all) = (Prng::from_seed(7), (1..=max).collect::<Vec<_>>());
            for index in 0..count {
                let other = index + prng.index(all.len() - index);
                all.swap(index, other);
            }
            assert_eq!(Prng::from_seed(7).distinct(count, max), all[..count]);
        }
    }

    #[test]
    fn a_shuffle_keeps_every_element() {
        let mut items: Vec<u32> = (0..100).collect();
        Prng::from_seed(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
