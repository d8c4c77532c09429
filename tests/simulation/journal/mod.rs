//! The hub with a journal on a simulated disk: crashes at any step, restarts, and a model of what must come
//! back.
//!
//! `JOURNAL_SEEDS=FROM..TO` runs other seeds than the two thousand of `cargo test`.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

pub(crate) mod commit_log;
pub(crate) mod memory_disk;
pub(crate) mod story;
mod world;

use std::ops::Range;

use self::world::World;
use crate::sim::prng;
use crate::{run_each_seed, seeds_of};

/// The seeds of `cargo test`.
const DEFAULT_SEEDS: Range<u64> = 0..2000;

#[test]
fn a_restart_forgets_nothing_that_the_journal_promises() {
    let seeds = seeds_of("JOURNAL_SEEDS", DEFAULT_SEEDS);
    run_each_seed(seeds, |seed| format!("JOURNAL_SEEDS={seed}..{}", seed + 1), World::run);
}
