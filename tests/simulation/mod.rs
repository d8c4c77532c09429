//! What a run is made of: the kernel, the peers, and the model that watches the server. The fuzz
//! targets play with the same.

mod client;
mod event;
mod kernel;
mod model;
mod network;
mod order;
mod pair;
mod peers;
mod random;
mod scenario;
mod simulation;
mod socket;
mod source;
mod story;

pub(crate) use pair::{Operation, Pair, Text};
pub(crate) use random::Random;
pub(crate) use simulation::Simulation;
