//! The fuzz targets. Each takes arbitrary bytes, and panics on a wrong result. Most compare the
//! code with a simple reference implementation.
//!
//! The fuzzer's binaries call these functions, and `tests/simulation/corpus.rs` runs the corpus through
//! them. The crate around them has the simulation as `sim`.
#![allow(unreachable_pub, reason = "the fuzzer's binaries have them in a library")]

pub mod admin;
pub mod config;
pub mod engine;
pub mod events;
pub mod ids;
mod input;
pub mod journal;
pub mod lines;
pub mod server;

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
