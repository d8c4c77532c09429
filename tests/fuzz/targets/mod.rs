//! The fuzz targets. Each takes arbitrary bytes, and panics on a wrong result. Most compare the
//! code with a simple reference implementation.
//!
//! The fuzzer's binaries call these functions, and `tests/fuzz_corpus.rs` runs the corpus through
//! them.
#![allow(unreachable_pub, reason = "the fuzzer's binaries have this as a library")]

pub mod admin;
pub mod config;
pub mod engine;
pub mod events;
pub mod ids;
mod input;
pub mod journal;
pub mod lines;
pub mod server;
#[path = "../../simulation/sim/mod.rs"]
mod sim;

/// The function of a target.
pub type Target = fn(&[u8]);

/// All targets with their names, which are also those of their binaries and corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("lines", lines::check),
    ("events", events::check),
    ("ids", ids::check),
    ("config", config::check),
    ("engine", engine::check),
    ("journal", journal::check),
    ("server", server::check),
    ("admin", admin::check),
];
