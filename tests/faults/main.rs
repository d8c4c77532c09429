//! What the world does to a server: crowds, storms, kills, suspensions, a lack of descriptors, a full
//! disk, a clock that jumps. Each fault happens to the real program while a stream goes on, every byte
//! of which is checked; afterwards the same server passes `loadgen verify`.
//!
//! `cargo test` plays each fault in a small size. `perf/faults.sh` plays the same ones in full, by
//! setting `FAULTS=full`. A fault that needs more descriptors than the system gives scales itself to
//! what there is, and says so.
//!
//! Where a test sleeps, the length of time is the fault's own pace; nothing is waited for that way.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod client_process;
mod clients_killed;
mod descriptors_taken;
mod full_disk;
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

/// Each source's end begins everything anew, so that a verification can follow on the same server.
const RESET: [&str; 2] = ["--on-source-disconnect", "reset"];
