//! Sets of 32-bit keys, each for one pattern of use.

mod bit_set;
mod hash;
mod hybrid_set;
mod index_set;
mod inline;

pub(super) use hybrid_set::HybridSet;
pub(super) use index_set::SmallIndexSet;
