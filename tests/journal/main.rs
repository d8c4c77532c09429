//! The journal on a simulated disk: round trips, damage, faults of the disk, crashes.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod crashes;
mod damage;
mod faults;
mod history;
mod maintenance;
#[path = "../support/memory_disk.rs"]
mod memory_disk;
#[path = "../support/prng.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod prng;
mod recovery;
mod streams;
mod tools;
