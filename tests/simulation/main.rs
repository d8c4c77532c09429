//! The hub on simulated sockets, in simulated time, checked against a simple model.
//!
//! One number, the seed, decides everything in a run. `cargo test` runs two thousand seeds; to run
//! more:
//!
//! ```text
//! SIMULATION_SEEDS=1000..2000000 cargo test --release --test simulation
//! ```
//!
//! A failure prints its seed. `SIMULATION_SEED=n cargo test --release --test simulation --
//! --nocapture` runs that seed again and prints each step; `SIMULATION_SCRIPT=FILE` does the same
//! with an input that the fuzzer found for its target `server`.

mod admin;
mod engine;
mod gaps;
mod harness;
mod limits;
mod sim;
mod turns;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;
use std::{fs, thread};

use sim::{Random, Simulation};

/// The seeds of `cargo test`.
const DEFAULT_SEEDS: Range<u64> = 0..2000;

/// Prints the seed of a failed run, and stops the other threads.
struct SeedReporter<'a> {
    seed: u64,
    next: &'a AtomicU64,
}

impl Drop for SeedReporter<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.next.store(u64::MAX, Ordering::Relaxed);
            eprintln!(
                "the simulation failed; replay it with SIMULATION_SEED={} cargo test --release \
                 --test simulation -- --nocapture",
                self.seed
            );
        }
    }
}

#[test]
fn the_server_does_what_the_model_says() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let Ok(seed) = seed.parse() else { panic!("SIMULATION_SEED must be a number, not {seed}") };
        Simulation::run(Random::new(&[], seed), true);
        return;
    }
    if let Some(file) = variable("SIMULATION_SCRIPT") {
        let script = fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        Simulation::run(Random::new(&script, 0), true);
        return;
    }
    let seeds = variable("SIMULATION_SEEDS").map_or(DEFAULT_SEEDS, |seeds| {
        parse_range(&seeds)
            .unwrap_or_else(|| panic!("SIMULATION_SEEDS must be a count or FROM..TO, not {seeds}"))
    });
    run_seeds(seeds);
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `FROM..TO`, or a count.
fn parse_range(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..text.parse().ok()?),
    }
}

/// Runs these seeds on all cores.
fn run_seeds(seeds: Range<u64>) {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let turns = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let _reporter = SeedReporter { seed, next: &next };
                    turns.fetch_add(
                        Simulation::run(Random::new(&[], seed), false),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let (count, turns) = (seeds.end - seeds.start, turns.into_inner());
    println!(
        "{count} seeds, {turns} turns in {seconds:.1} s: {:.0} per second",
        count as f64 / seconds
    );
}
