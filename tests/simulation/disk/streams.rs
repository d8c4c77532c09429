//! Journals of servers that follow a stream.

use std::sync::Arc;

use eventserver::cluster::{Entry, Link, Origin, Position};
use eventserver::engine::{Batch, LogEntry};
use eventserver::journal::{
    CommitPoint, Recovery, State, Storage, StreamEntry, StreamLink, StreamPart, begin_at,
    begin_with, dump, inspect, maintain, plan_repair, read_entries, snapshot_recovered,
};

use super::history::{read, start, writer_at};
use crate::journal::memory_disk::{Fault, MemoryDisk};
use crate::sim::prng::Prng;

/// The entries of a stream, as a server has read them.
struct Stream {
    link: StreamLink,
    entries: Vec<StreamEntry>,
    /// All lines that are applied.
    lines: String,
}

impl Stream {
    /// Creates entries. Each begins up to two sequences before the end of the one before it.
    fn random(random: &mut Prng, count: u64) -> Stream {
        let genesis = Entry::genesis(1, 77);
        let mut link = Link::default().then(genesis.next, genesis.fingerprint);
        let origin =
            |link: Link| StreamLink { stream: 77, epoch: 5, chain: link.chain, fingerprint: 0 };
        let mut stream =
            Stream { link: origin(Link::default()), entries: Vec::new(), lines: String::new() };
        stream.push(&genesis, 1, link);
        for nonce in 0..count {
            let awaited = stream.awaited();
            let (first, next) =
                (awaited.saturating_sub(random.below(3)).max(1), awaited + 1 + random.below(4));
            let line = |sequence: u64| format!("{sequence}|F|{}|{}\n", nonce % 5, sequence % 3);
            // The last one is void.
            let lines: String = (first..next - 1).map(line).collect();
            let batch =
                Batch { first, next, count: (next - 1 - first) as u32, lines: lines.into_bytes() };
            let entry = Entry::encode(Origin { server: 9, nonce, base: link }, &batch);
            link = link.then(entry.next, entry.fingerprint);
            stream.lines.extend((awaited..next - 1).map(line));
            stream.push(&entry, awaited, link);
        }
        stream
    }

    fn awaited(&self) -> u64 {
        self.entries.last().map_or(1, |entry| entry.next)
    }

    fn push(&mut self, entry: &Entry, first: u64, link: Link) {
        self.entries.push(StreamEntry {
            first,
            next: entry.next.0,
            count: entry.remainder(first).lines().iter().filter(|&&it| it == b'\n').count() as u32,
            link: StreamLink { chain: link.chain, fingerprint: entry.fingerprint, ..self.link },
            bytes: Arc::clone(&entry.bytes),
        });
    }

    /// Writes a journal of everything, in segments of a few entries.
    fn write(&self, disk: &MemoryDisk) {
        let state = State::new(1);
        let position = eventserver::journal::Position { stream: Some(self.link), ..start(1) };
        let position = begin_with(&mut disk.clone(), position, &self.entries[0], &state).unwrap();
        let mut writer = writer_at(disk, position, CommitPoint::Synced);
        let mut state = State::new(1);
        state.stream = position.stream;
        for entry in &self.entries[1..] {
            writer.append_stream(entry.clone());
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
    }

    /// Returns the entries after a place, as a journal returns them.
    fn part(&self, from: usize) -> StreamPart {
        let after = from.checked_sub(1).map(|last| self.entries[last].link.fingerprint);
        let entries = self.entries[from..].iter();
        let entries = entries.map(|entry| (entry.first, entry.next, entry.bytes.to_vec()));
        StreamPart { after, entries: entries.collect() }
    }
}

#[test]
fn a_journal_of_a_stream_is_recovered_read_and_dumped() {
    let mut random = Prng::announced(21);
    for count in [0, 1, 2, 50] {
        let (disk, stream) = (MemoryDisk::default(), Stream::random(&mut random, count));
        stream.write(&disk);
        let recovery = read(&disk, 1).unwrap();
        let last = stream.entries.last().unwrap();
        assert_eq!(recovery.state.awaited, last.next);
        assert_eq!(recovery.position.stream, Some(last.link));
        // From the beginning, and after each entry.
        assert_eq!(read_entries(&disk, None, usize::MAX).unwrap(), stream.part(0));
        for (index, entry) in stream.entries.iter().enumerate() {
            let part = read_entries(&disk, Some(entry.next), usize::MAX).unwrap();
            assert_eq!(part, stream.part(index + 1), "after {}", entry.next);
        }
        // Not after a sequence within an entry, nor beyond the end.
        let places: Vec<u64> = stream.entries.iter().map(|entry| entry.next).collect();
        for sequence in (0..last.next + 3).filter(|sequence| !places.contains(sequence)) {
            let part = read_entries(&disk, Some(sequence), usize::MAX).unwrap();
            assert_eq!(part, StreamPart::default(), "after {sequence}");
        }
        // A bound on bytes is exceeded by one entry at most.
        if count == 50 {
            let part = read_entries(&disk, Some(stream.entries[3].next), 1).unwrap();
            assert_eq!(part.entries, stream.part(4).entries[..1]);
        }
        let mut dumped = Vec::new();
        dump(&disk, &mut dumped).unwrap();
        let dumped = String::from_utf8(dumped).unwrap();
        let without_voids: Vec<&str> =
            dumped.lines().filter(|line| !line.ends_with("|void")).collect();
        assert_eq!(without_voids, stream.lines.lines().collect::<Vec<_>>());
        let inspection = inspect(&disk, |_| {}).unwrap();
        assert!(inspection.is_intact());
        assert_eq!(inspection.totals.lines, stream.lines.lines().count() as u64);
    }
}

#[test]
fn only_records_of_streams_are_of_the_new_version() {
    let versions = |disk: &MemoryDisk| -> Vec<u16> {
        let names = disk.list().unwrap();
        let mut versions: Vec<u16> = names
            .iter()
            .flat_map(|name| {
                let content = disk.content(name);
                let starts = content.windows(4).enumerate().filter(|(_, it)| *it == b"EVJR");
                let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
                starts.into_iter().map(move |at| u16::from(content[at + 4]))
            })
            .collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    };
    let disk = MemoryDisk::default();
    let mut writer = writer_at(&disk, start(1), CommitPoint::Synced);
    let batch = Batch { first: 1, next: 2, count: 1, lines: b"1|B\n".to_vec() };
    writer.append(LogEntry::Batch(batch));
    writer.finish().unwrap();
    read(&disk, 1).unwrap().complete(&mut disk.clone()).unwrap();
    assert_eq!(versions(&disk), [1], "older programs read it");
    let disk = MemoryDisk::default();
    Stream::random(&mut Prng::announced(1), 3).write(&disk);
    assert_eq!(versions(&disk), [1, 2]);
}

#[test]
fn records_of_a_journal_without_a_stream_do_not_continue_one_with_it() {
    let disk = MemoryDisk::default();
    let stream = Stream::random(&mut Prng::announced(2), 3);
    stream.write(&disk);
    let recovery = read(&disk, 1).unwrap();
    recovery.complete(&mut disk.clone()).unwrap();
    let mut writer = writer_at(&disk, recovery.position, CommitPoint::Synced);
    let first = stream.awaited();
    let batch = Batch { first, next: first + 1, ..Batch::default() };
    writer.append(LogEntry::Batch(batch));
    writer.finish().unwrap();
    assert!(read(&disk, 1).unwrap_err().is_corruption());
}

/// Returns the state after a stream, with its place there.
fn state_after(stream: &Stream) -> State {
    let disk = MemoryDisk::default();
    stream.write(&disk);
    read(&disk, 1).unwrap().take_state()
}

#[test]
fn a_journal_that_begins_again_at_a_snapshot_is_interrupted_anywhere() {
    let mut random = Prng::announced(22);
    let old = Stream::random(&mut random, 20);
    let new = Stream::random(&mut random, 40);
    let state = state_after(&new);
    let hash = state.hash();
    let mut is_complete = false;
    for operation in 0.. {
        for is_power_cut in [false, true] {
            let disk = MemoryDisk::default();
            old.write(&disk);
            disk.clone().sync().unwrap();
            disk.die(operation);
            let begun = begin_at(&mut disk.clone(), &state);
            match is_power_cut {
                true => disk.cut_power(&mut random),
                false => disk.end_process(),
            }
            let mut recovery = read(&disk, 1).unwrap();
            recovery.complete(&mut disk.clone()).unwrap();
            is_complete = begun.is_ok();
            // The old journal, an empty one, or the new one.
            match recovery.position.stream {
                _ if begun.is_ok() => assert_eq!(recovery.state.hash(), hash),
                Some(link) if Some(link) == state.stream => {
                    assert_eq!(recovery.state.hash(), hash);
                }
                Some(link) => assert_eq!(link, old.entries.last().unwrap().link),
                None => assert_eq!(recovery.position.previous, None),
            }
            // What is there can be continued.
            if recovery.position.stream == state.stream {
                let more = Stream::random(&mut random, 1).entries.pop().unwrap();
                let link = StreamLink { chain: 3, fingerprint: 4, ..more.link };
                let awaited = state.awaited;
                let bytes = Entry::encode(
                    Origin { server: 1, nonce: 1, base: Link::default() },
                    &Batch { first: awaited, next: awaited + 1, ..Batch::default() },
                );
                let mut writer = writer_at(&disk, recovery.position, CommitPoint::Synced);
                writer.append_stream(StreamEntry {
                    first: awaited,
                    next: awaited + 1,
                    count: 0,
                    link,
                    bytes: bytes.bytes,
                });
                writer.finish().unwrap();
                recovery = read(&disk, 1).unwrap();
                assert_eq!(
                    (recovery.state.awaited, recovery.state.stream),
                    (awaited + 1, Some(link))
                );
            }
        }
        if is_complete {
            return;
        }
    }
}

#[test]
fn snapshots_keep_the_place_in_the_stream() {
    let mut random = Prng::announced(23);
    let disk = MemoryDisk::default();
    let stream = Stream::random(&mut random, 60);
    stream.write(&disk);
    // Restarts add the state hashes, without which there are no snapshots.
    let mut recovery = read(&disk, 1).unwrap();
    recovery.complete(&mut disk.clone()).unwrap();
    let written = snapshot_recovered(&mut disk.clone(), &mut recovery, 0).unwrap();
    assert!(written.is_some());
    let last = stream.entries.last().unwrap();
    let recovery: Recovery = read(&disk, 1).unwrap();
    assert_eq!((recovery.state.stream, recovery.lines), (Some(last.link), 0));
    maintain(&mut disk.clone(), 0, || {}).unwrap();
    assert_eq!(read(&disk, 1).unwrap().state.stream, Some(last.link));
    let position = Position(last.next);
    let part = read_entries(&disk, Some(position.0), usize::MAX).unwrap();
    assert_eq!(part, StreamPart { after: Some(last.link.fingerprint), entries: Vec::new() });
}

#[test]
fn a_repair_that_goes_back_to_a_snapshot_keeps_the_place_in_the_stream() {
    let disk = MemoryDisk::default();
    let stream = Stream::random(&mut Prng::announced(25), 60);
    stream.write(&disk);
    let mut recovery = read(&disk, 1).unwrap();
    recovery.complete(&mut disk.clone()).unwrap();
    snapshot_recovered(&mut disk.clone(), &mut recovery, 0).unwrap().unwrap();
    // All segments after the snapshot are gone, and that to which it belongs.
    let names = disk.list().unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".segment"));
    segments.for_each(|name| disk.clone().remove(name).unwrap());
    assert!(read(&disk, 1).unwrap_err().is_corruption());
    let repair = plan_repair(&mut disk.clone()).unwrap().unwrap();
    repair.apply(&mut disk.clone()).unwrap();
    let last = stream.entries.last().unwrap();
    let recovery = read(&disk, 1).unwrap();
    assert_eq!((recovery.state.awaited, recovery.state.stream), (last.next, Some(last.link)));
}

#[test]
fn a_segment_that_names_another_place_in_the_stream_is_corrupt() {
    let disk = MemoryDisk::default();
    let stream = Stream::random(&mut Prng::announced(26), 5);
    stream.write(&disk);
    let recovery = read(&disk, 1).unwrap();
    recovery.complete(&mut disk.clone()).unwrap();
    let link = StreamLink { chain: 1, ..stream.entries.last().unwrap().link };
    let position = eventserver::journal::Position { stream: Some(link), ..recovery.position };
    let mut writer = writer_at(&disk, position, CommitPoint::Synced);
    writer.append_stream(StreamEntry {
        first: stream.awaited(),
        next: stream.awaited(),
        ..stream.entries[0].clone()
    });
    writer.finish().unwrap();
    let error = read(&disk, 1).unwrap_err();
    assert!(error.to_string().contains("another place in the stream"), "{error}");
}

#[test]
fn a_disk_that_refuses_reads_is_no_journal_without_entries() {
    let disk = MemoryDisk::default();
    Stream::random(&mut Prng::announced(24), 5).write(&disk);
    disk.fail(0, Fault::Error);
    assert!(read_entries(&disk, None, usize::MAX).is_err());
    disk.end_faults();
    assert!(read_entries(&disk, None, usize::MAX).is_ok());
}
