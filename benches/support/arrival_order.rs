//! The order in which the events of a stream arrive.

use super::Prng;

/// The degree of disorder of a stream.
#[derive(Clone, Copy)]
pub(crate) enum ArrivalOrder {
    InOrder,
    /// In shuffled batches of this size, as a well-behaved source sends.
    Batches(usize),
    /// The last one first, so that everything waits for the last line.
    Reverse,
    /// Shuffled as a whole.
    Random,
}

impl ArrivalOrder {
    /// Rearranges ordered items into the order of arrival.
    pub(crate) fn arrange<T>(self, items: &mut [T]) {
        let mut random = Prng::new(4);
        match self {
            ArrivalOrder::InOrder => {}
            ArrivalOrder::Batches(size) => {
                items.chunks_mut(size).for_each(|batch| random.shuffle(batch));
            }
            ArrivalOrder::Reverse => items.reverse(),
            ArrivalOrder::Random => random.shuffle(items),
        }
    }
}
