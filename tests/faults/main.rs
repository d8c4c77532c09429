//! Faults from outside: crowds, connection storms, kills, suspensions, a lack of descriptors, a
//! full disk, a clock that jumps, kills of a server with a journal. Each fault is injected into the real program during a stream of
//! which every byte is checked; afterwards the same server passes `loadgen verify`.
//!
//! `cargo test` runs each fault in a small size, `perf/faults.sh` in full, by setting
//! `FAULTS=full`. A fault that needs more descriptors than the system allows scales itself down,
//! and says so.
//!
//! A sleep in these tests is the pace of the fault; no test waits for a condition that way.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod client_process;
mod clients_killed;
mod descriptors_taken;
mod full_disk;
mod journal;
#[cfg(target_env = "gnu")]
mod jumping_clock;
mod scale;
mod silent_clients;
mod sources_killed;
mod storms;
mod stream;
#[path = "../server/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
mod support;
mod suspended;
mod verification;
mod workload;

/// The end of the last source resets the server, so that a verification can follow on it.
const RESET: [&str; 2] = ["--on-source-disconnect", "reset"];
