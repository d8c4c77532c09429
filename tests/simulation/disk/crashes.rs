//! Ends of the process and power cuts at any operation: nothing committed is forgotten.

use eventserver::journal::{CommitPoint, Error, Writer, maintain, snapshot_recovered};

use super::history::{History, read, stamp_closed, start, state_of, writer_at};
use crate::journal::memory_disk::MemoryDisk;
use crate::sim::prng::Prng;

const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 400 };
const LIVES: usize = 6;

/// One life of a process: writes random entries until the disk dies under it. Returns the number of entries
/// that have to survive a power cut, and the number that were committed.
fn live(
    writer: &mut Writer<MemoryDisk>,
    history: &mut History,
    disk: &MemoryDisk,
    random: &mut Prng,
    commit_point: CommitPoint,
) -> Result<(), (usize, usize, Error)> {
    let from = history.entries.len();
    let mut durable = from;
    // The number of entries that a sync in the background covers.
    let mut syncing = None;
    for _ in 0..random.below(60) {
        let result = step(writer, history, disk, random, from);
        let committed = from + writer.committed() as usize;
        if commit_point == CommitPoint::Synced {
            durable = committed;
        } else if result.is_ok() && !writer.has_unsynced() && !writer.has_pending() {
            durable = history.entries.len();
        }
        result.map_err(|error| (durable, committed, error))?;
        if !writer.is_syncing() {
            durable = durable.max(syncing.take().unwrap_or(0));
            if commit_point == CommitPoint::Written && random.below(3) == 0 {
                writer.start_sync();
                syncing = writer.is_syncing().then_some(history.entries.len());
            }
        }
    }
    Ok(())
}

fn step(
    writer: &mut Writer<MemoryDisk>,
    history: &mut History,
    disk: &MemoryDisk,
    random: &mut Prng,
    from: usize,
) -> Result<(), Error> {
    for _ in 0..random.below(4) {
        history.extend(random);
        writer.append(history.entries[history.entries.len() - 1].clone());
    }
    writer.poll_sync()?;
    writer.flush()?;
    if random.below(4) == 0 {
        writer.sync()?;
    }
    if random.below(2) == 0 {
        stamp_closed(writer, history, from);
    }
    if random.below(6) == 0 {
        maintain(&mut disk.clone(), random.below(2) * 2000, || {})?;
    }
    Ok(())
}

/// Runs several lives on one disk.
fn run(seed: u64, commit_point: CommitPoint) {
    let mut random = Prng::new(seed);
    let disk = MemoryDisk::default();
    let mut history = History::new(random.below(2) * 100);
    let mut position = start(history.first_sequence);
    for life in 0..LIVES {
        let context = format!("seed {seed}, {commit_point:?}, life {life}");
        let mut writer = writer_at(&disk, position, commit_point);
        let before = history.entries.len();
        disk.die(random.below(400));
        let (durable, committed) =
            match live(&mut writer, &mut history, &disk, &mut random, commit_point) {
                Ok(()) => {
                    let committed = before + writer.committed() as usize;
                    (if writer.has_unsynced() { before } else { committed }, committed)
                }
                Err((durable, committed, _)) => (durable, committed),
            };
        let mut is_power_cut = random.below(2) == 0;
        match is_power_cut {
            true => disk.cut_power(&mut random),
            false => disk.end_process(),
        }
        // A recovery may be cut short, too.
        disk.die(random.below(200));
        let min_bytes = random.below(3) * 1000;
        let cut_short = read(&disk, history.first_sequence).and_then(|mut recovery| {
            recovery.complete(&mut disk.clone())?;
            snapshot_recovered(&mut disk.clone(), &mut recovery, min_bytes)
        });
        if cut_short.is_err() && random.below(2) == 0 {
            is_power_cut = true;
            disk.cut_power(&mut random);
        }
        disk.end_process();
        let least = if is_power_cut { durable } else { committed };
        let mut recovery = read(&disk, history.first_sequence)
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        let state = state_of(&recovery);
        let survived = (least..history.states.len()).find(|&at| history.states[at] == state);
        let Some(survived) = survived else {
            panic!("{context}: {state:?} is none of the states from {least} on")
        };
        history.truncate(survived);
        recovery.complete(&mut disk.clone()).unwrap();
        disk.die(random.below(60));
        // The journal continues with and without the snapshot.
        let _ = snapshot_recovered(&mut disk.clone(), &mut recovery, min_bytes);
        disk.end_faults();
        position = recovery.position;
    }
}

#[test]
fn nothing_committed_is_forgotten() {
    for seed in 0..SEEDS {
        run(seed, CommitPoint::Synced);
        run(seed, CommitPoint::Written);
    }
}
