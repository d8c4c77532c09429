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
mod cluster;
mod corpus;
mod disk;
mod engine;
mod gaps;
mod harness;
mod journal;
mod limits;
mod resumes;
mod sim;
#[path = "../fuzz/targets/mod.rs"]
mod targets;
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
    /// Returns the environment that replays a seed.
    replay: fn(u64) -> String,
    next: &'a AtomicU64,
}

impl Drop for SeedReporter<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.next.store(u64::MAX, Ordering::Relaxed);
            eprintln!(
                "the simulation failed; replay it with {} cargo test --release --test simulation -- \
                 --nocapture",
                (self.replay)(self.seed)
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
    let seeds = seeds_of("SIMULATION_SEEDS", DEFAULT_SEEDS);
    let replay = |seed| format!("SIMULATION_SEED={seed}");
    run_each_seed(seeds, replay, |seed| Simulation::run(Random::new(&[], seed), false));
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the seeds that a variable names, if it is set.
fn seeds_of(name: &str, default: Range<u64>) -> Range<u64> {
    variable(name).map_or(default, |seeds| {
        parse_range(&seeds)
            .unwrap_or_else(|| panic!("{name} must be a count or FROM..TO, not {seeds}"))
    })
}

/// `FROM..TO`, or a count.
fn parse_range(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => Some(0..text.parse().ok()?),
    }
}

/// Runs these seeds on all cores. `run` returns the number of turns.
fn run_each_seed(seeds: Range<u64>, replay: fn(u64) -> String, run: impl Fn(u64) -> usize + Sync) {
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
                    let _reporter = SeedReporter { seed, replay, next: &next };
                    turns.fetch_add(run(seed), Ordering::Relaxed);
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
