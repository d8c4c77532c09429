//! Torn and flipped bytes: the start is right, or refused with the right words.

use eventserver::journal::{
    CommitPoint, Error, FORMAT_VERSION, HEADER_BYTES, Notice, Recovery, Storage, maintain,
};

use super::history::{History, hash_of, read, segments, start, state_of, write_all, writer_at};
use crate::journal::memory_disk::MemoryDisk;
use crate::sim::prng::Prng;

/// Returns a journal of several segments, the offset of the last record in the last one, and the end.
fn journal(seed: u64, entries: usize) -> (MemoryDisk, History, usize, usize) {
    let history = History::random(&mut Prng::announced(seed), entries);
    let disk = MemoryDisk::default();
    let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
    write_all(&mut writer, &history, 0);
    let end = read(&disk, history.first_sequence).unwrap().position.previous.unwrap().offset;
    let eventserver::engine::LogEntry::Batch(last) = history.entries.last().unwrap() else {
        panic!("the last entry is a batch with this seed");
    };
    let start = end as usize - HEADER_BYTES - last.lines.len();
    (disk, history, start, end as usize)
}

fn last_segment(disk: &MemoryDisk) -> String {
    segments(disk).pop().unwrap()
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_off_and_kept() {
    let (disk, history, last, end) = journal(11, 30);
    let name = last_segment(&disk);
    let whole = disk.content(&name);
    let old_records = whole[..end].iter().rev().copied();
    let junk: Vec<u8> = old_records.chain(std::iter::repeat(7)).take(whole.len()).collect();
    for torn in last..end {
        // What the file held before: zeros, or records of another segment.
        for before in [&vec![0; whole.len()], &junk] {
            let disk = disk.copy();
            let mut content = whole[..torn].to_vec();
            content.extend_from_slice(&before[torn..]);
            if torn == last {
                // The zeros after the previous record.
                content[torn..torn + HEADER_BYTES].fill(0);
            }
            disk.set_content(&name, &content);
            let recovery = read(&disk, history.first_sequence).unwrap();
            let expected = &history.states[history.entries.len() - 1];
            let is_complete = whole[torn..end] == content[torn..end];
            if is_complete {
                continue;
            }
            assert_eq!(state_of(&recovery), *expected, "torn at {torn}");
            assert_eq!(recovery.torn.is_some(), torn > last);
            recovery.complete(&mut disk.clone()).unwrap();
            if let Some(torn_tail) = &recovery.torn {
                assert_eq!((&torn_tail.file, torn_tail.offset), (&name, last as u64));
                let copy = disk.content(&torn_tail.copy_name());
                assert_eq!(copy.len() as u64, torn_tail.bytes);
                assert!(content[last..].starts_with(&copy), "the torn bytes are kept");
                assert!(copy.len() >= (torn - last).min(copy.len()) && !copy.is_empty());
            }
            let again = read(&disk, history.first_sequence).unwrap();
            assert_eq!((state_of(&again), again.torn), (expected.clone(), None));
            assert_eq!(again.position, recovery.position);
            let mut writer = writer_at(&disk, again.position, CommitPoint::Synced);
            write_all(&mut writer, &history, history.entries.len() - 1);
            assert_eq!(state_of(&read(&disk, history.first_sequence).unwrap()), *history.last());
        }
    }
}

#[test]
fn every_flipped_bit_is_harmless_or_noticed() {
    let (disk, history, last, end) = journal(11, 40);
    // Two snapshots, and segments before, between and after them.
    let mut first = None;
    for entries in [15, 40] {
        let partial = MemoryDisk::default();
        let mut part = history.clone();
        part.truncate(entries);
        write_all(
            &mut writer_at(&partial, start(part.first_sequence), CommitPoint::Synced),
            &part,
            0,
        );
        let maintained = maintain(&mut partial.clone(), u64::MAX, || {}).unwrap();
        let (name, _) = maintained.snapshot.unwrap();
        disk.clone().create(&name.to_string(), 0).unwrap();
        disk.set_content(&name.to_string(), &partial.content(&name.to_string()));
        assert_ne!(first.replace(name), Some(name));
    }
    let newest = last_segment(&disk);
    let before_last = &history.states[history.entries.len() - 1];
    let (mut refused, mut torn) = (0, 0);
    for name in disk.list().unwrap() {
        let content = disk.content(&name);
        // All after the zeros that mark the end is never read.
        let used = if name == newest { end + HEADER_BYTES } else { content.len() };
        for bit in 0..8 * used {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&name, &flipped);
            let context = format!("{name}, bit {bit}");
            match read(&disk, history.first_sequence) {
                Ok(recovery) if recovery.torn.is_none() => {
                    assert_eq!(state_of(&recovery), *history.last(), "{context}");
                }
                Ok(recovery) => {
                    assert!(name == newest && bit / 8 >= last, "{context}");
                    let is_in_last = bit / 8 < end;
                    let expected = if is_in_last { before_last } else { history.last() };
                    assert_eq!(state_of(&recovery), *expected, "{context}");
                    torn += 1;
                }
                Err(Error::Corrupt(corruption)) => {
                    assert_eq!(corruption.file, name, "{context}");
                    assert!(corruption.offset <= bit as u64 / 8, "{context}: {corruption}");
                    assert!(corruption.next.is_none_or(|next| next >= corruption.first));
                    refused += 1;
                }
                Err(error) => panic!("{context}: {error}"),
            }
        }
        disk.set_content(&name, &content);
    }
    println!("{refused} refused, {torn} torn tails");
    assert!(refused > 1000 && torn >= 8 * (end - last));
}

#[test]
fn a_missing_segment_is_named_with_its_sequences() {
    let (disk, history, ..) = journal(11, 40);
    let names = segments(&disk);
    for (index, name) in names.iter().enumerate() {
        let disk = disk.copy();
        disk.clone().remove(name).unwrap();
        let result = read(&disk, history.first_sequence);
        if index == names.len() - 1 {
            // Nothing in the other files tells of the last one.
            assert!(history.states.contains(&state_of(&result.unwrap())));
            continue;
        }
        let message = result.unwrap_err().to_string();
        assert!(message.contains("is missing") && message.contains(&names[index + 1]), "{message}");
    }
}

#[test]
fn a_snapshot_without_the_segments_after_it_is_refused() {
    let (disk, history, ..) = journal(11, 40);
    maintain(&mut disk.clone(), u64::MAX, || {}).unwrap().snapshot.unwrap();
    let mut names = segments(&disk);
    let newest = names.pop().unwrap();
    disk.clone().remove(&newest).unwrap();
    let message = read(&disk, history.first_sequence).unwrap_err().to_string();
    assert!(message.contains("the segments after this snapshot are missing"), "{message}");
    names.iter().for_each(|name| disk.clone().remove(name).unwrap());
    let message = read(&disk, history.first_sequence).unwrap_err().to_string();
    assert!(message.contains("the segments after this snapshot are missing"), "{message}");
}

#[test]
fn a_wrong_state_hash_is_refused() {
    let history = History::random(&mut Prng::announced(4), 40);
    let disk = MemoryDisk::default();
    let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
    for entry in &history.entries {
        writer.append(entry.clone());
        writer.flush().unwrap();
        while writer.unstamped().is_some() {
            assert!(writer.stamp(hash_of(&history.states[0])));
        }
    }
    let message = read(&disk, history.first_sequence).unwrap_err().to_string();
    assert!(message.contains("state hash"), "{message}");
    assert!(maintain(&mut disk.clone(), 0, || {}).unwrap_err().is_corruption());
}

#[test]
fn a_snapshot_with_another_state_hash_is_not_used() {
    let (disk, history, ..) = journal(11, 30);
    let (name, _) = maintain(&mut disk.clone(), u64::MAX, || {}).unwrap().snapshot.unwrap();
    let mut content = disk.content(&name.to_string());
    // The last record: a header, the number of follows, and the hash, with checksums that match.
    let end = content.len() - 24;
    content[end + 8] ^= 1;
    let checksum = crc32fast::hash(&content[end..]);
    content[end - 16..end - 12].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32fast::hash(&content[end - HEADER_BYTES..end - 4]);
    content[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
    disk.set_content(&name.to_string(), &content);
    let mut notices = Vec::new();
    let recovery =
        Recovery::read(&disk, history.first_sequence, |notice| notices.push(notice)).unwrap();
    let reason = "the state hash does not match".to_owned();
    let damaged = Notice::DamagedSnapshot { file: name.to_string(), reason };
    assert!(notices.contains(&damaged), "{notices:?}");
    assert_eq!(state_of(&recovery), *history.last());
}

#[test]
fn another_version_is_refused_by_name() {
    let (disk, history, _, end) = journal(11, 10);
    maintain(&mut disk.clone(), u64::MAX, || {}).unwrap().snapshot.unwrap();
    for name in disk.list().unwrap() {
        let content = disk.content(&name);
        for version in [0_u16, FORMAT_VERSION + 1] {
            let mut other = content.clone();
            other[4..6].copy_from_slice(&version.to_le_bytes());
            let checksum = crc32fast::hash(&other[..60]);
            other[60..64].copy_from_slice(&checksum.to_le_bytes());
            disk.set_content(&name, &other);
            match read(&disk, history.first_sequence) {
                Err(error @ Error::Version { .. }) => {
                    let message = error.to_string();
                    assert!(message.contains(&format!("version {version}")), "{message}");
                    assert!(message.contains(&name), "{message}");
                }
                result => panic!("{name}: {result:?}"),
            }
        }
        disk.set_content(&name, &content);
    }
    assert!(end > 0);
}
