//! Every operation of the disk fails once, in every way.

use eventserver::journal::{CommitPoint, is_disk_full, maintain};

use crate::history::{History, hash_of, read, start, state_of, writer_at};
use crate::memory_disk::{Fault, MemoryDisk};
use crate::prng::Prng;

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
            retry(|| writer.flush());
            assert_eq!(writer.committed(), (index + 1 - from) as u64);
            assert!(!writer.has_pending());
            while let Some(entries) = writer.unstamped() {
                writer.stamp(hash_of(&history.states[from + entries as usize]));
            }
            if index % 5 == 0 {
                retry(|| writer.sync());
                retry(|| writer.flush());
            }
            if index % 7 == 0 {
                retry(|| maintain(&mut disk.clone(), 2000));
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
