//! The fuzz targets as a library for the fuzzer's binaries.

#[path = "../simulation/sim/mod.rs"]
mod sim;
#[path = "targets/mod.rs"]
mod targets;

pub use targets::*;
