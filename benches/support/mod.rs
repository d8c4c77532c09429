//! Helpers shared by the benches.

mod arrival_order;
mod captured;
mod encode;
#[path = "../../tests/support/prng.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod prng;
mod sinks;

use criterion::Criterion;
use eventserver::protocol::{LineBuffer, Sequence};

pub(crate) use arrival_order::ArrivalOrder;
pub(crate) use captured::captured_bytes;
pub(crate) use encode::line;
pub(crate) use prng::Prng;
pub(crate) use sinks::CountingSink;

/// Number of connected clients in all benches.
pub(crate) const CONNECTED: u64 = 100;

/// Returns `full` under `cargo bench`; `small` under `cargo test`, which runs each bench once to
/// check its result.
pub(crate) fn scaled<T>(full: T, small: T) -> T {
    if std::env::args().any(|argument| argument == "--bench") { full } else { small }
}

/// Returns Criterion configured by the command line. An iteration of the larger benches takes up to
/// a second, hence fewer samples than by default.
pub(crate) fn criterion() -> Criterion {
    Criterion::default().sample_size(20).configure_from_args()
}

/// Returns a sequence that is known to be valid.
pub(crate) fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// Appends bytes to a line buffer as a socket does: as much at a time as it has space for.
pub(crate) fn fill(buffer: &mut LineBuffer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let spare = buffer.unfilled_mut(bytes.len());
        let (now, later) = bytes.split_at(spare.len());
        spare.copy_from_slice(now);
        buffer.advance(now.len());
        bytes = later;
    }
}
