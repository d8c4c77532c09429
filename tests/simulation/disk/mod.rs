//! The journal on a simulated disk: round trips, damage, faults of the disk, crashes.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod crashes;
mod damage;
mod faults;
mod history;
mod maintenance;
mod recovery;
mod streams;
mod tools;
