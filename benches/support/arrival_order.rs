//! In which order the events of a stream arrive.

use super::Random;

/// How far a stream is out of order.
#[derive(Clone, Copy)]
pub(crate) enum ArrivalOrder {
    InOrder,
    /// In batches of so many, each shuffled: what a well-behaved source does.
    Batches(usize),
    /// The last one first: everything waits for the very last line.
    Reverse,
    /// One shuffle of all.
    Random,
}

impl ArrivalOrder {
    /// Brings items that stand in order into the order in which they arrive.
    pub(crate) fn arrange<T>(self, items: &mut [T]) {
        let mut random = Random::new(4);
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
