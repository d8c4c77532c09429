//! What a run is made of: the kernel, the peers, and the model that watches the server. The fuzz
//! targets play with the same.

mod client;
mod event;
pub(crate) mod kernel;
mod model;
pub(crate) mod network;
mod order;
mod pair;
mod peers;
mod random;
mod scenario;
mod simulation;
pub(crate) mod socket;
mod source;
mod story;

pub(crate) use pair::{Operation, Pair, Text};
pub(crate) use random::Random;
pub(crate) use simulation::Simulation;
