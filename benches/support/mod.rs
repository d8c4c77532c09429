//! What more than one bench needs.

mod arrival_order;
mod captured;
mod encode;
mod random;
mod sinks;

use criterion::Criterion;
use eventserver::protocol::{LineBuffer, Sequence};

pub(crate) use arrival_order::ArrivalOrder;
pub(crate) use captured::captured_bytes;
pub(crate) use encode::line;
pub(crate) use random::Random;
pub(crate) use sinks::CountingSink;

/// How many clients a broadcast goes to, wherever one is measured.
pub(crate) const CONNECTED: u64 = 100;

/// `full` where time is taken, under `cargo bench`; `small` where `cargo test` runs each bench once
/// to see that its result is right.
pub(crate) fn scaled<T>(full: T, small: T) -> T {
    if std::env::args().any(|argument| argument == "--bench") { full } else { small }
}

/// Criterion as the command line asks for. An iteration of the larger benches takes up to a second,
/// so fewer samples than usual have to do.
pub(crate) fn criterion() -> Criterion {
    Criterion::default().sample_size(20).configure_from_args()
}

/// A sequence that is known to be one.
pub(crate) fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// Hands bytes to a splitter the way a source's socket does: as much at a time as there is room.
pub(crate) fn fill(buffer: &mut LineBuffer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let spare = buffer.unfilled_mut(bytes.len());
        let (now, later) = bytes.split_at(spare.len());
        spare.copy_from_slice(now);
        buffer.advance(now.len());
        bytes = later;
    }
}
