//! What is fuzzed. Each target takes any bytes whatever, and panics if something comes out that is
//! not as it should be: nearly all of them compare with a second way to the same result, as plain as
//! can be.
//!
//! The fuzzer's binaries call these functions, and so does `tests/fuzz_corpus.rs` with what the fuzzer
//! has found worth keeping.
#![allow(unreachable_pub, reason = "the fuzzer's binaries have this as a library")]

pub mod config;
pub mod engine;
pub mod events;
pub mod ids;
mod input;
pub mod lines;
pub mod server;
#[path = "../../simulation/sim/mod.rs"]
mod sim;

/// What a target does with bytes.
pub type Target = fn(&[u8]);

/// Every target under its name, which is that of its binary and of its corpus too.
pub const TARGETS: [(&str, Target); 6] = [
    ("lines", lines::check),
    ("events", events::check),
    ("ids", ids::check),
    ("config", config::check),
    ("engine", engine::check),
    ("server", server::check),
];
