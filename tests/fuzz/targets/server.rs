//! The whole server in the simulation: the bytes decide what would else be drawn from a seed.

use super::sim::{Random, Simulation};

/// What is drawn once the bytes are used up.
const SEED: u64 = 0;

/// Each byte decides one choice: of the settings first, then of what peers and kernel do.
pub fn check(bytes: &[u8]) {
    Simulation::run(Random::new(bytes, SEED), false);
}
