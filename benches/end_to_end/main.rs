//! What the way of an event costs from the first byte to the last: through the engine alone, and
//! through the hub with sockets that cost nothing.
//!
//! `cargo bench --bench end_to_end`; one is chosen by its name behind it, as in
//! `cargo bench --bench end_to_end -- hub`. Every bench checks what was delivered.
#![allow(clippy::unwrap_used, reason = "a bench may stop at what is not as it should be")]

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
