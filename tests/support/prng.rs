//! The pseudo-random generator of tests, benches and fuzz targets.

/// `SplitMix64` (Steele, Lea and Flood, 2014): a few instructions per number, and the same numbers
/// for the same seed on every platform.
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    /// Creates a generator with this seed.
    pub(crate) fn new(seed: u64) -> Prng {
        Prng(seed)
    }

    /// Creates a generator, and prints the seed, which is shown if the test fails.
    pub(crate) fn announced(seed: u64) -> Prng {
        println!("seed {seed}");
        Prng(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is at most 2³².
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    /// Shuffles the items.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Fills the buffer with random bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}
