//! Every operation of the disk fails once, in every way.

use eventserver::engine::{Batch, LogEntry};
use eventserver::journal::{CommitPoint, Writer, is_disk_full, maintain};

use super::history::{History, hash_of, read, start, state_of, writer_at};
use crate::journal::memory_disk::{Fault, MemoryDisk};
use crate::sim::prng::Prng;

const FAULTS: [Fault; 3] = [Fault::Error, Fault::Full, Fault::ShortWrite];

/// Tries until it succeeds, a few times.
fn retry<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let mut tries = 0;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if tries > 3 => panic!("{error:?}"),
            Err(_) => tries += 1,
        }
    }
}

/// Writes a history with two restarts and maintenance after every few entries. Repeats each step that fails.
/// Checks that everything committed is recovered after each end of the process, and after a power cut.
fn run(history: &History, commit_point: CommitPoint, disk: &MemoryDisk, random: &mut Prng) {
    let mut position = start(history.first_sequence);
    let mut from = 0;
    let third = history.entries.len() / 3;
    for life in 0..3 {
        let until = if life == 2 { history.entries.len() } else { from + third };
        let mut writer = writer_at(disk, position, commit_point);
        for index in from..until {
            writer.append(history.entries[index].clone());
            retry(|| writer.poll_sync());
            retry(|| writer.flush());
            assert_eq!(writer.committed(), (index + 1 - from) as u64);
            assert!(!writer.has_pending());
            while let Some(entries) = writer.unstamped() {
                writer.stamp(hash_of(&history.states[from + entries as usize]));
            }
            if commit_point == CommitPoint::Written && index % 3 == 0 {
                writer.start_sync();
            }
            if index % 5 == 0 {
                retry(|| writer.sync());
                retry(|| writer.flush());
            }
            if index % 7 == 0 {
                retry(|| maintain(&mut disk.clone(), 2000, || {}));
            }
        }
        if life == 1 {
            retry(|| writer.sync().and_then(|()| writer.flush()).and_then(|()| writer.sync()));
            disk.cut_power(random);
        }
        from = until;
        let recovery = retry(|| read(disk, history.first_sequence));
        assert_eq!(state_of(&recovery), history.states[until]);
        assert_eq!(recovery.torn, None);
        retry(|| recovery.complete(&mut disk.clone()));
        position = recovery.position;
    }
}

#[test]
fn every_operation_may_fail_once_in_every_way() {
    let history = History::random(&mut Prng::announced(21), 45);
    for commit_point in [CommitPoint::Synced, CommitPoint::Written] {
        let disk = MemoryDisk::default();
        run(&history, commit_point, &disk, &mut Prng::new(1));
        let operations = disk.operations();
        assert!(operations > 200);
        for (operation, fault) in (0..operations).flat_map(|at| FAULTS.map(|fault| (at, fault))) {
            let disk = MemoryDisk::default();
            disk.fail(operation, fault);
            run(&history, commit_point, &disk, &mut Prng::new(operation));
        }
    }
}

/// Returns a batch of 256 KiB of broadcasts from a sequence on.
fn large_batch(first: u64) -> Batch {
    let mut batch = Batch { first, next: first, ..Batch::default() };
    while !batch.is_full() {
        batch.lines.extend_from_slice(format!("{}|B\n", batch.next).as_bytes());
        batch.next += 1;
        batch.count += 1;
    }
    batch
}

#[test]
fn all_that_was_committed_of_a_segment_that_is_given_up_is_in_the_next_one() {
    // More than one write takes.
    const BATCHES: usize = 10;
    let committed_and_not_synced = |disk: &MemoryDisk| {
        let position = start(1);
        let mut writer = Writer::new(disk.clone(), position, CommitPoint::Written);
        let mut next = 1;
        for _ in 0..BATCHES {
            let batch = large_batch(next);
            next = batch.next;
            writer.append(LogEntry::Batch(batch));
            writer.flush().unwrap();
        }
        assert_eq!(writer.committed(), BATCHES as u64);
        // The sync fails, and the content of the segment is known to the operating system only.
        disk.fail(0, Fault::Error);
        writer.sync().unwrap_err();
        (writer, next)
    };
    let disk = MemoryDisk::default();
    let (mut writer, _) = committed_and_not_synced(&disk);
    let before = disk.operations();
    writer.flush().unwrap();
    let operations = disk.operations() - before;
    assert!(operations > 5);
    // The process ends at each operation of the next attempt.
    for operation in 0..=operations {
        let disk = MemoryDisk::default();
        let (mut writer, next) = committed_and_not_synced(&disk);
        disk.die(operation);
        // The last operations may fail without an effect.
        assert!(writer.flush().is_err() || operation > 5);
        disk.end_process();
        let recovery = read(&disk, 1).unwrap();
        assert_eq!(recovery.state.awaited, next, "operation {operation} of {operations}");
    }
}

#[test]
fn a_full_disk_holds_the_writer_up_until_it_is_freed() {
    let history = History::random(&mut Prng::announced(22), 60);
    for capacity in (0..3000).step_by(100) {
        let disk = MemoryDisk::default();
        let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
        disk.set_capacity(Some(capacity));
        let mut errors = 0;
        for entry in &history.entries {
            writer.append(entry.clone());
            if let Err(error) = writer.flush() {
                assert!(is_disk_full(&error), "{error}");
                errors += 1;
            }
        }
        assert!(errors > 0 && writer.committed() < 60);
        let files = eventserver::journal::Storage::list(&disk).unwrap().len();
        assert!(files < 10, "attempts leave no files: {files}");
        let recovery = read(&disk, history.first_sequence).unwrap();
        assert_eq!(state_of(&recovery), history.states[writer.committed() as usize]);
        disk.set_capacity(None);
        writer.flush().unwrap();
        assert_eq!(writer.committed(), 60);
        let recovery = read(&disk, history.first_sequence).unwrap();
        assert_eq!(state_of(&recovery), *history.last());
    }
}
