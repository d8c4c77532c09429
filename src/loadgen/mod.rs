//! The parts of the load generator: the judge of the server.
//!
//! ```text
//! Workload ─prepare─▶ Slice ─▶ Session ─write─▶ server under test
//!  (events, Model)   (wire text,       ◀─read── every byte compared
//!                     expected bytes)
//! ```
//!
//! A run is cut into slices. A slice is prepared whole, with the bytes that each client must
//! receive for it, before its clock starts; while the clock runs, a `session` only writes, reads
//! and compares. So one core can judge a server that does nothing else on another.
//!
//! Deliberately absent: the server's parser, encoder and engine. What events mean stands a second
//! time in `model`, as plainly as it goes, so that one mistake cannot cancel another.

mod cli;
mod connect;
mod event;
mod expected;
mod fairness;
mod fault;
mod figures;
mod flood;
mod front;
mod idle;
mod in_flight;
mod interrupt;
mod journal;
mod latency;
mod launcher;
mod limit;
mod mix;
mod model;
mod pinned;
mod probe;
mod process;
mod progress;
mod pubsub;
mod random;
mod range;
mod relay;
mod replay;
mod report;
mod run;
mod server;
mod session;
mod settings;
mod silence;
mod slice;
mod soak;
mod steady;
mod stream;
mod timer;
mod verify;
mod workload;

pub use front::main;
