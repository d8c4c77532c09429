//! Snapshots and retention.

use eventserver::journal::{
    CommitPoint, MAX_PAYLOAD_BYTES, Recovery, SnapshotName, SnapshotPoint, State, Storage,
    maintain, read_snapshot, snapshot_recovered, write_snapshot,
};
use eventserver::protocol::UserId;

use super::history::{History, read, segments, stamp_closed, start, state_of, writer_at};
use crate::journal::memory_disk::MemoryDisk;
use crate::sim::prng::Prng;

fn snapshots(disk: &MemoryDisk) -> Vec<SnapshotName> {
    disk.list().unwrap().iter().filter_map(|name| SnapshotName::parse(name)).collect()
}

#[test]
fn snapshots_bound_the_journal_and_restore_the_state() {
    for (seed, retain) in (0..40).flat_map(|seed| [0, 3000, u64::MAX].map(|retain| (seed, retain)))
    {
        let mut random = Prng::new(seed);
        let history = History::random(&mut random, 200);
        let disk = MemoryDisk::default();
        let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
        for (index, entry) in history.entries.iter().enumerate() {
            writer.append(entry.clone());
            writer.flush().unwrap();
            if random.below(3) == 0 {
                stamp_closed(&mut writer, &history, 0);
            }
            if random.below(4) == 0 {
                maintain(&mut disk.clone(), retain, || {}).unwrap();
                assert!(snapshots(&disk).len() <= 2);
            }
            if random.below(10) == 0 {
                let recovery = read(&disk, history.first_sequence).unwrap();
                assert_eq!(state_of(&recovery), history.states[index + 1], "seed {seed}");
            }
        }
        let count = segments(&disk).len();
        match retain {
            0 => assert!(count < 12, "{count} segments are kept"),
            u64::MAX => assert!(count > 20, "{count} segments are kept"),
            _ => {}
        }
        assert_eq!(snapshots(&disk).len(), 2);
        if let [older, newest] = snapshots(&disk)[..] {
            // Either of them suffices.
            for damaged in [older, newest] {
                let disk = disk.copy();
                let mut content = disk.content(&damaged.to_string());
                content[100] ^= 1;
                disk.set_content(&damaged.to_string(), &content);
                let recovery = read(&disk, history.first_sequence).unwrap();
                assert_eq!(state_of(&recovery), *history.last(), "seed {seed}");
            }
        }
    }
}

/// Lives that end before anything but the start has written a snapshot, and that keep `max_events` events for
/// clients that come back. Returns the largest number of lines that one of the starts replayed, and the number of
/// snapshots.
fn short_lives(min_bytes: u64, lives: usize, max_events: usize) -> (u64, usize) {
    let mut random = Prng::announced(min_bytes);
    let disk = MemoryDisk::default();
    let mut history = History::new(1);
    let (mut most_lines, mut count) = (0, 0);
    for _ in 0..lives {
        let mut recovery =
            Recovery::read_with_history(&disk, 1, max_events, &mut (), |_| {}).unwrap();
        assert_eq!(state_of(&recovery), *history.last());
        most_lines = most_lines.max(recovery.lines);
        recovery.complete(&mut disk.clone()).unwrap();
        let last = snapshots(&disk).last().copied();
        let written = snapshot_recovered(&mut disk.clone(), &mut recovery, min_bytes).unwrap();
        count += usize::from(written.is_some());
        assert_eq!(snapshots(&disk).last().copied(), written.map(|(name, _)| name).or(last));
        let mut writer = writer_at(&disk, recovery.position, CommitPoint::Synced);
        for _ in 0..random.below(6) {
            history.extend(&mut random);
            writer.append(history.entries[history.entries.len() - 1].clone());
            writer.flush().unwrap();
        }
    }
    (most_lines, count)
}

#[test]
fn many_short_lives_do_not_make_a_start_longer() {
    // A batch has 64 bytes and up to 6 lines.
    let (most_lines, count) = short_lives(3000, 400, 0);
    assert!(most_lines < 3000 / 64 * 6 + 30, "{most_lines} lines");
    // However little each life has written, one start has at most 64 segments to replay.
    let (most_lines, _) = short_lives(u64::MAX, 400, 0);
    assert!((65..64 * 6 * 6).contains(&most_lines), "{most_lines} lines");
    // A start that goes back further for its history writes no more snapshots: two close to each other would not reach
    // back far enough the next time.
    assert!(count > 10);
    assert_eq!(short_lives(3000, 150, 1_000_000).1, short_lives(3000, 150, 0).1);
}

#[test]
fn a_start_with_little_to_replay_writes_no_snapshot() {
    let history = History::random(&mut Prng::announced(3), 20);
    let disk = MemoryDisk::default();
    let first = history.first_sequence;
    let mut empty = read(&disk, first).unwrap();
    assert_eq!(snapshot_recovered(&mut disk.clone(), &mut empty, 0).unwrap(), None);
    let mut writer = writer_at(&disk, start(first), CommitPoint::Synced);
    history.entries.iter().for_each(|entry| writer.append(entry.clone()));
    writer.flush().unwrap();
    let mut recovery = read(&disk, first).unwrap();
    recovery.complete(&mut disk.clone()).unwrap();
    assert_eq!(snapshot_recovered(&mut disk.clone(), &mut recovery, 1 << 20).unwrap(), None);
    // Nor does one with nothing to replay after a snapshot.
    let written = snapshot_recovered(&mut disk.clone(), &mut recovery, 0).unwrap();
    let mut recovery = read(&disk, first).unwrap();
    assert_eq!((recovery.lines, state_of(&recovery)), (0, history.last().clone()));
    recovery.complete(&mut disk.clone()).unwrap();
    let again = snapshot_recovered(&mut disk.clone(), &mut recovery, 0).unwrap();
    assert!(written.is_some() && again.is_none(), "{written:?}, {again:?}");
}

#[test]
fn a_snapshot_of_many_follows_roundtrips() {
    let mut state = State::new(3);
    state.awaited = 1_000_000;
    let mut random = Prng::announced(9);
    for _ in 0..400_000 {
        let followed = random.next() >> random.below(64);
        state.graph.follow(UserId(random.below(50)), UserId(followed));
    }
    (0..5000).for_each(|id| state.graph.follow(UserId(u64::MAX), UserId(id)));
    (100..5000).for_each(|id| state.graph.follow(UserId(id), UserId(7)));
    let mut disk = MemoryDisk::default();
    let point = SnapshotPoint { generation: 7, id: 99 };
    let (name, bytes) = write_snapshot(&mut disk, &state, point, || {}).unwrap();
    assert_eq!(name, SnapshotName { generation: 7, awaited: 1_000_000 });
    let content = disk.content(&name.to_string());
    assert_eq!(content.len() as u64, bytes);
    assert!(content.len() > 3 * MAX_PAYLOAD_BYTES, "several chunks");
    let (read, at) = read_snapshot(&disk.open(&name.to_string()).unwrap(), name, |_| {}).unwrap();
    assert_eq!(at, point);
    assert_eq!((read.awaited, read.first_sequence), (1_000_000, 3));
    assert_eq!(read.hash(), state.hash());
    assert_eq!(read.graph.follows().count(), state.graph.follows().count());
}

#[test]
fn a_snapshot_of_nothing_roundtrips() {
    let mut disk = MemoryDisk::default();
    let point = SnapshotPoint { generation: 1, id: 5 };
    let (name, _) = write_snapshot(&mut disk, &State::new(0), point, || {}).unwrap();
    let (read, _) = read_snapshot(&disk.open(&name.to_string()).unwrap(), name, |_| {}).unwrap();
    assert_eq!((read.awaited, read.graph.follows().count()), (0, 0));
}
