//! The whole server in the simulation, with the bytes instead of a seed for its choices.

use crate::sim::{Random, Simulation};

/// The seed of the choices after the end of the bytes.
const SEED: u64 = 0;

/// Runs the simulation: each byte decides one choice, of the settings first, then of the actions of
/// peers and kernel.
pub fn check(bytes: &[u8]) {
    Simulation::run(Random::new(bytes, SEED), false);
}
