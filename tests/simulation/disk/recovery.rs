//! Recovering what was written, with nothing damaged.

use eventserver::journal::{CommitPoint, Error, Recovery, Storage};

use super::history::{
    History, read, segments, stamp_closed, start, state_of, write_all, writer_at,
};
use crate::journal::memory_disk::MemoryDisk;
use crate::sim::prng::Prng;

#[test]
fn an_empty_directory_is_an_empty_journal() {
    let disk = MemoryDisk::default();
    let recovery = read(&disk, 17).unwrap();
    assert_eq!((recovery.state.awaited, recovery.lines), (17, 0));
    recovery.complete(&mut disk.clone()).unwrap();
    assert_eq!(disk.list().unwrap(), [""; 0]);
}

#[test]
fn every_prefix_is_recovered_and_continued() {
    let mut random = Prng::announced(1);
    for commit_point in [CommitPoint::Synced, CommitPoint::Written] {
        let history = History::random(&mut random, 60);
        let disk = MemoryDisk::default();
        let mut position = start(history.first_sequence);
        for (index, entry) in history.entries.iter().enumerate() {
            let mut writer = writer_at(&disk, position, commit_point);
            writer.append(entry.clone());
            writer.flush().unwrap();
            assert_eq!(writer.committed(), 1);
            let recovery = read(&disk, history.first_sequence).unwrap();
            assert_eq!(state_of(&recovery), history.states[index + 1]);
            assert_eq!(recovery.torn, None);
            recovery.complete(&mut disk.clone()).unwrap();
            position = recovery.position;
        }
    }
}

#[test]
fn entries_of_any_grouping_are_recovered() {
    for seed in 0..200 {
        let mut random = Prng::new(seed);
        let history = History::random(&mut random, 80);
        let disk = MemoryDisk::default();
        let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
        for entry in &history.entries {
            writer.append(entry.clone());
            if random.below(5) == 0 {
                writer.flush().unwrap();
                stamp_closed(&mut writer, &history, 0);
            }
        }
        writer.flush().unwrap();
        assert_eq!(writer.committed(), 80);
        stamp_closed(&mut writer, &history, 0);
        assert_eq!(writer.take_free_buffers().filter(Vec::is_empty).count(), {
            let resets =
                |entry: &&eventserver::engine::LogEntry| entry.range().1 == history.first_sequence;
            80 - history.entries.iter().filter(resets).count()
        });
        let recovery = read(&disk, history.first_sequence).unwrap();
        assert_eq!(state_of(&recovery), *history.last(), "seed {seed}");
    }
}

#[test]
fn lines_are_kept_byte_by_byte() {
    let history = History::random(&mut Prng::announced(5), 50);
    let disk = MemoryDisk::default();
    let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
    write_all(&mut writer, &history, 0);
    let content: Vec<u8> = segments(&disk).iter().flat_map(|name| disk.content(name)).collect();
    for entry in &history.entries {
        let eventserver::engine::LogEntry::Batch(batch) = entry else { continue };
        let is_part = content.windows(batch.lines.len().max(1)).any(|part| part == batch.lines);
        assert!(is_part || batch.lines.is_empty(), "{batch:?}");
    }
}

#[test]
fn another_first_sequence_is_refused_and_both_are_named() {
    let history = History::random(&mut Prng::announced(2), 5);
    let disk = MemoryDisk::default();
    write_all(
        &mut writer_at(&disk, start(history.first_sequence), CommitPoint::Synced),
        &history,
        0,
    );
    let error = read(&disk, 77).unwrap_err();
    assert!(matches!(error, Error::FirstSequence { .. }));
    let message = error.to_string();
    assert!(message.contains("77") && message.contains(&history.first_sequence.to_string()));
}

#[test]
fn segments_are_recycled_and_old_records_in_them_do_not_count() {
    let history = History::random(&mut Prng::announced(3), 300);
    let disk = MemoryDisk::default();
    let mut position = start(history.first_sequence);
    for (index, entry) in history.entries.iter().enumerate() {
        // The oldest content that there is becomes the next segment.
        if let [first, _, ..] = &segments(&disk)[..]
            && position.previous.is_some()
            && index % 3 == 0
        {
            let junk = disk.content(first);
            disk.clone().create("spare.segment", 0).unwrap();
            disk.set_content("spare.segment", &junk);
        }
        let mut writer = writer_at(&disk, position, CommitPoint::Synced);
        writer.append(entry.clone());
        writer.flush().unwrap();
        let recovery = Recovery::read(&disk, history.first_sequence, |_| {}).unwrap();
        assert_eq!(state_of(&recovery), history.states[index + 1]);
        recovery.complete(&mut disk.clone()).unwrap();
        position = recovery.position;
    }
}
