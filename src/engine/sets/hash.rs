//! Search and hashing shared by the sets.

/// Returns the index of `member`. Compares blocks of eight without branches, which the compiler turns into
/// vector instructions.
#[inline]
pub(super) fn linear_find(members: &[u32], member: u32) -> Option<usize> {
    let (eights, rest) = members.as_chunks::<8>();
    for (block, eight) in eights.iter().enumerate() {
        if eight.iter().fold(false, |found, &each| found | (each == member)) {
            return eight.iter().position(|&each| each == member).map(|at| block * 8 + at);
        }
    }
    rest.iter().position(|&each| each == member).map(|at| eights.len() * 8 + at)
}

/// Hashes a key to 64 bits (Fibonacci hashing: Knuth, TAOCP vol. 3, section 6.4). The keys are slab
/// indices that no peer can choose, so no stronger hash is needed.
#[inline]
pub(super) fn fibonacci_hash(member: u32) -> u64 {
    let product = u64::from(member).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}
