//! Three servers over a simulated engine: sources at any of them that move and share sequences, an engine that
//! refuses, delays, loses replies and loses its tail, servers that crash, stand still and join late.
//!
//! `CLUSTER_SEEDS=FROM..TO` runs other seeds than the hundred of `cargo test`, and `CLUSTER_VERBOSE=1`
//! prints what happens to the stream.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod content;
mod memory_engine;
mod node;
mod stream_log;
mod world;

use std::ops::Range;

use self::world::World;
use crate::{run_each_seed, seeds_of};

/// The seeds of `cargo test`.
const DEFAULT_SEEDS: Range<u64> = 0..100;

#[test]
fn all_servers_apply_the_same_stream() {
    let seeds = seeds_of("CLUSTER_SEEDS", DEFAULT_SEEDS);
    run_each_seed(seeds, |seed| format!("CLUSTER_SEEDS={seed}..{}", seed + 1), World::run);
}
