//! The whole server on simulated sockets, in simulated time, against a naive model.
//!
//! One number decides everything that happens in a run. `cargo test` plays two thousand; more with
//!
//! ```text
//! SIMULATION_SEEDS=1000..2000000 cargo test --release --test simulation
//! ```
//!
//! A failure names its seed, and `SIMULATION_SEED=n cargo test --release --test simulation --
//! --nocapture` plays that one again, step by step; `SIMULATION_SCRIPT=FILE` does so with what the
//! fuzzer has found for its target `server`.

mod engine;
mod gaps;
mod limits;
mod stage;
mod turns;
#[path = "mod.rs"]
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;
use std::{fs, thread};

use world::{Random, Simulation};

/// What `cargo test` plays.
const USUAL_SEEDS: Range<u64> = 0..2000;

/// Tells which seed failed, and lets no other begin.
struct Announcement<'a> {
    seed: u64,
    next: &'a AtomicU64,
}

impl Drop for Announcement<'_> {
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
        let Ok(seed) = seed.parse() else { panic!("SIMULATION_SEED is a number, not {seed}") };
        Simulation::run(Random::new(&[], seed), true);
        return;
    }
    if let Some(file) = variable("SIMULATION_SCRIPT") {
        let script = fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        Simulation::run(Random::new(&script, 0), true);
        return;
    }
    let seeds = variable("SIMULATION_SEEDS").map_or(USUAL_SEEDS, |seeds| {
        parse_range(&seeds)
            .unwrap_or_else(|| panic!("SIMULATION_SEEDS is a count or FROM..TO, not {seeds}"))
    });
    play_all(seeds);
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

/// Plays these seeds on all cores.
fn play_all(seeds: Range<u64>) {
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
                    let _announcement = Announcement { seed, next: &next };
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
        "{count} seeds, {turns} turns in {seconds:.1} s: {:.0} a second",
        count as f64 / seconds
    );
}
