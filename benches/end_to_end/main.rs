//! The cost of an event from the first byte to the last: through the engine alone, and through the
//! hub with in-memory connections.
//!
//! Run with `cargo bench -p eventserver-benches --bench end_to_end`, or a selection with `--
//! hub` after it. Every bench checks its deliveries.
#![allow(clippy::unwrap_used, reason = "a bench may panic on anything unexpected")]

mod captured;
mod engine;
mod hub;
mod in_memory_transport;
#[path = "../support/mod.rs"]
mod support;
mod workload;

fn main() {
    let mut criterion = support::criterion();
    engine::captured_stream(&mut criterion);
    engine::full_disorder(&mut criterion);
    hub::captured_stream(&mut criterion);
    hub::fan_outs(&mut criterion);
    criterion.final_summary();
}
