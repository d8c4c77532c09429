//! The parts of a run: kernel, peers, and the model that checks the server. The fuzz targets use
//! them too.

mod answers;
mod client;
mod differential;
mod event;
pub(crate) mod kernel;
mod line_generator;
mod model;
pub(crate) mod network;
mod peers;
#[path = "../../support/prng.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
pub(crate) mod prng;
mod random;
mod scenario;
mod sequencer;
mod simulation;
pub(crate) mod socket;
mod source;

pub(crate) use differential::{Differential, LineTemplate, Operation};
pub(crate) use random::Random;
pub(crate) use simulation::Simulation;
