//! Rules that the simulation breaks too rarely: what the two connections of a server ask for, answer by answer.

use std::time::Duration;

use super::*;
use crate::engine::Batch;
use crate::journal::{State, StreamPart};

const SECOND: Duration = Duration::from_secs(1);

/// A server, and the entries of a stream.
struct Server {
    replica: Replica,
    now: Duration,
    entries: Vec<Entry>,
}

impl Server {
    /// Creates a server that has read a stream of one-line entries in the epoch 1.
    fn that_has_read(entries: u64) -> Server {
        let genesis = Entry::genesis(1, 7);
        let link = Link::default().then(genesis.next, genesis.fingerprint);
        let history = History::starting_at(link, genesis.fingerprint);
        let kept = Retained::from_iter([genesis.clone()]);
        let mut server = Server {
            replica: Replica::new(1, history, kept, 1),
            now: Duration::ZERO,
            entries: vec![genesis],
        };
        server.tail_reads_from(1);
        for sequence in 1..=entries {
            let entry = server.entry_of_another(sequence, "B");
            server.reads(&entry);
        }
        server
    }

    /// Creates a server with a journal that has read the same, and keeps nothing that is in the journal.
    fn with_journal_that_has_read(entries: u64) -> Server {
        let mut server = Server::that_has_read(0);
        server.replica = server.replica.with_journal(7).with_max_retained_bytes(0);
        for sequence in 1..=entries {
            let entry = server.entry_of_another(sequence, "B");
            server.reads(&entry);
        }
        server
    }

    /// Returns what the journal contains after an entry.
    fn journaled_after(&self, index: usize) -> StreamPart {
        let entries = self.entries[index + 1..].iter();
        let entries = entries.map(|entry| (entry.first, entry.next.0, entry.bytes.to_vec()));
        StreamPart { after: Some(self.entries[index].fingerprint), entries: entries.collect() }
    }

    /// Returns the entry of another server that has read the same.
    fn entry_of_another(&self, sequence: u64, event: &str) -> Entry {
        self.entry_with_base(sequence, event, self.replica.newest().0)
    }

    fn entry_with_base(&self, sequence: u64, event: &str, base: Link) -> Entry {
        let lines = format!("{sequence}|{event}\n").into_bytes();
        let batch = Batch { first: sequence, next: sequence + 1, count: 1, lines };
        Entry::encode(Origin { server: 2, nonce: sequence, base }, &batch)
    }

    fn end(&self) -> Position {
        self.replica.position()
    }

    /// Returns what the appending connection asks for.
    #[track_caller]
    fn append_calls(&mut self) -> Request {
        match self.replica.next_append(self.now) {
            Next::Call(request) => request,
            next => panic!("{next:?}"),
        }
    }

    /// Returns what the reading connection asks for.
    #[track_caller]
    fn tail_calls(&mut self) -> Request {
        match self.replica.next_tail(self.now) {
            Next::Call(request) => request,
            next => panic!("{next:?}"),
        }
    }

    #[track_caller]
    fn append_gets(&mut self, response: Response) -> Request {
        let request = self.append_calls();
        self.replica.on_appended(&request, Ok(response), self.now, 0);
        request
    }

    #[track_caller]
    fn tail_gets(&mut self, response: Response) -> Request {
        let request = self.tail_calls();
        self.replica.on_tail(&request, Ok(response), self.now, 0);
        request
    }

    /// Lets the calls of both connections fail, and waits until they connect again.
    #[track_caller]
    fn loses_its_connections(&mut self) {
        let lost = || Err(EngineError::passing("lost"));
        if let Next::Call(request) = self.replica.next_append(self.now) {
            self.replica.on_appended(&request, lost(), self.now, 0);
        }
        let request = self.tail_calls();
        self.replica.on_tail(&request, lost(), self.now, 0);
        self.now += 2 * SECOND;
    }

    /// Lets the reading connection find the newest entry in an epoch of the engine.
    #[track_caller]
    fn tail_reads_from(&mut self, epoch: u64) {
        let (end, newest) = (self.end(), self.entries.last().unwrap().bytes.to_vec());
        assert_eq!(self.tail_gets(info(end, epoch, true)), Request::Info);
        let request = self.tail_gets(Response::EntryAt(Some(newest)));
        assert_eq!(request, Request::EntryAt(end));
    }

    #[track_caller]
    fn reads(&mut self, entry: &Entry) {
        let end = self.end();
        let request = self.tail_gets(entries(&[entry]));
        assert_eq!(request, Request::Read(Some(end)));
        self.entries.push(entry.clone());
    }

    /// Lets the reading connection find the newest entry in a new epoch of the engine, and the newest snapshot.
    #[track_caller]
    fn tail_finds_snapshot(&mut self, epoch: u64, snapshot: Option<Link>) {
        self.tail_reads_from(epoch);
        let pointer = snapshot.map(|Link { position, chain }| SnapshotPointer {
            position,
            id: 1,
            chunks: 1,
            chain,
            fingerprint: 0,
            stream: 7,
        });
        let request = self.tail_gets(Response::Snapshot(pointer));
        assert_eq!(request, Request::NewestSnapshot);
    }

    /// Returns the link after an entry that the stream contains now.
    fn link_after(stream: &[&Entry]) -> Link {
        let links = stream.iter();
        links.fold(Link::default(), |link, entry| link.then(entry.next, entry.fingerprint))
    }

    /// Submits the next batch of this server.
    fn submits(&mut self) {
        let first = self.end().0;
        let lines = format!("{first}|B\n").into_bytes();
        self.replica.submit(Batch { first, next: first + 1, count: 1, lines });
    }

    #[track_caller]
    fn has_diverged(&self) {
        assert_eq!(self.replica.trouble().map(Trouble::name), Some("diverged"));
    }

    #[track_caller]
    fn has_diverged_only_if(&self, is_expected: bool) {
        match is_expected {
            true => self.has_diverged(),
            false => assert_eq!(self.replica.tail_trouble(), None),
        }
    }
}

fn info(end: Position, epoch: u64, is_settled: bool) -> Response {
    Response::Info(Some(StreamInfo { end, oldest: Some(Position(1)), epoch, is_settled }))
}

fn entries(entries: &[&Entry]) -> Response {
    let entries = entries.iter().map(|entry| (entry.next, entry.bytes.to_vec()));
    Response::Found(Found { entries: entries.collect(), snapshot: None })
}

#[test]
fn the_time_for_others_counts_from_the_first_write_that_the_engine_accepts() {
    let mut server = Server::that_has_read(2);
    server.submits();
    let end = server.end();
    // After a failover the engine answers, and refuses writes for long.
    server.loses_its_connections();
    server.tail_gets(info(end, 2, false));
    let newest = server.entries[2].bytes.to_vec();
    server.tail_gets(Response::EntryAt(Some(newest)));
    let refused = server.now + 2 * GRACE;
    while server.now < refused {
        server.append_gets(info(end, 2, false));
        let request = server.append_calls();
        assert_eq!(request, Request::Settle(2, false));
        let error = Err(EngineError::passing("READONLY"));
        server.replica.on_appended(&request, error, server.now, 0);
        server.now += 2 * SECOND;
    }
    // Others may have been refused, too: they get their time from now on.
    server.append_gets(info(end, 2, false));
    assert_eq!(server.append_gets(Response::Settled), Request::Settle(2, false));
    let (accepted, now) = (server.now, server.now + GRACE - Duration::from_millis(1));
    assert_eq!(server.replica.next_append(now), Next::WaitUntil(accepted + GRACE));
    server.now = accepted + GRACE;
    assert_eq!(server.append_gets(info(end, 2, false)), Request::Info);
    assert_eq!(server.append_gets(Response::Settled), Request::Settle(2, true));
}

#[test]
fn an_own_batch_that_was_accepted_and_lost_is_appended_again() {
    let mut server = Server::that_has_read(2);
    server.submits();
    let end = server.end();
    server.append_gets(info(end, 1, true));
    let Request::Append(entry) = server.append_gets(Response::Appended(Appended::Accepted)) else {
        panic!("the batch is not appended");
    };
    assert_eq!(server.replica.next_append(server.now), Next::Wait, "it is sent once");
    // A failover loses it before it was read back.
    server.loses_its_connections();
    server.tail_gets(info(end, 2, true));
    server.tail_gets(Response::EntryAt(Some(server.entries[2].bytes.to_vec())));
    server.tail_gets(Response::Snapshot(None));
    let all = entries(&server.entries.iter().collect::<Vec<_>>());
    server.tail_gets(all);
    server.append_gets(info(end, 2, true));
    assert_eq!(server.append_calls(), Request::Append(entry), "the same bytes");
}

#[test]
fn an_own_batch_whose_answer_was_lost_is_appended_again() {
    let mut server = Server::that_has_read(2);
    for _ in 0..2 {
        server.submits();
        let first = server.end().0 + 1;
        let lines = format!("{first}|B\n").into_bytes();
        server.replica.submit(Batch { first, next: first + 1, count: 1, lines });
    }
    let end = server.end();
    server.append_gets(info(end, 1, true));
    let Request::Append(first) = server.append_gets(Response::Appended(Appended::Accepted)) else {
        panic!("the batch is not appended");
    };
    // Only the appending connection breaks, and the stream does not hold what it has accepted.
    let request = server.append_calls();
    let lost = Err(EngineError::passing("lost"));
    server.replica.on_appended(&request, lost, server.now, 0);
    server.now += 2 * SECOND;
    server.append_gets(info(end, 1, true));
    assert_eq!(server.append_calls(), Request::Append(first));
}

#[test]
fn an_engine_that_answers_counts_as_reachable_once_others_have_covered_what_it_refused() {
    let mut server = Server::that_has_read(2);
    server.submits();
    let end = server.end();
    server.append_gets(info(end, 1, true));
    let request = server.append_calls();
    server.replica.on_appended(&request, Err(EngineError::passing("READONLY")), server.now, 0);
    server.now += 2 * SECOND;
    server.append_gets(info(end, 1, true));
    assert_eq!(server.replica.append_trouble().map(Trouble::name), Some("unreachable"));
    // Before the next attempt.
    let entry = server.entry_of_another(end.0, "B");
    server.reads(&entry);
    assert_eq!(server.append_gets(info(server.end(), 1, true)), Request::Info);
    assert_eq!(server.replica.trouble(), None);
}

#[test]
fn a_stream_that_ends_with_another_entry_is_not_repaired() {
    let mut server = Server::that_has_read(3);
    let other = server.entry_of_another(1, "S|1");
    assert_ne!(other.bytes, server.entries[1].bytes);
    server.append_gets(info(Position(2), 2, false));
    let request = server.append_gets(Response::EntryAt(Some(other.bytes.to_vec())));
    assert_eq!(request, Request::EntryAt(Position(2)));
    server.has_diverged();
    assert!(matches!(server.replica.next_append(server.now), Next::WaitUntil(_)));
    // The same entry as the own one is.
    let mut server = Server::that_has_read(3);
    let own = server.entries[1].bytes.to_vec();
    server.append_gets(info(Position(2), 2, false));
    server.append_gets(Response::EntryAt(Some(own)));
    assert_eq!(server.append_calls(), Request::Append(server.entries[2].clone()));
}

#[test]
fn after_a_failover_everything_is_compared_from_the_start_or_the_newest_snapshot() {
    for (is_replaced, snapshot) in [(false, 0), (true, 0), (false, 1), (true, 1), (false, 3)] {
        let mut server = Server::that_has_read(3);
        // Nothing that was read is kept.
        server.replica = server.replica.with_max_retained_bytes(0);
        server.loses_its_connections();
        // The newest entry is there, but something else may be before it.
        let entries_now = server.entries.clone();
        let other = server.entry_of_another(2, "S|1");
        let mut stream: Vec<&Entry> = entries_now.iter().collect();
        if is_replaced {
            stream[2] = &other;
        }
        // A trim while it is read looks the same at first.
        for _ in 0..=usize::from(is_replaced) {
            let link = (snapshot > 0).then(|| Server::link_after(&stream[..=snapshot]));
            server.tail_finds_snapshot(2, link);
            if snapshot < 3 {
                let from = if snapshot == 0 { 0 } else { snapshot + 1 };
                let request = server.tail_gets(entries(&stream[from..]));
                assert_eq!(request, Request::Read(link.map(|link| link.position)));
            }
        }
        match is_replaced {
            true => {
                server.has_diverged();
                // It is not compared again before the next failover.
                server.now += SECOND;
                server.tail_reads_from(2);
                server.has_diverged();
                server.now += SECOND;
                server.tail_finds_snapshot(3, None);
            }
            false => {
                assert_eq!(server.replica.tail_trouble(), None);
                assert_eq!(server.tail_calls(), Request::Read(Some(server.end())));
            }
        }
    }
}

/// Returns a server that has loaded a snapshot after an entry of two sequences, and this entry, the stream before
/// it, and what others may have appended between.
fn loaded_from_a_snapshot() -> (Server, Entry, Entry) {
    let mut server = Server::that_has_read(3);
    let batch = Batch { first: 4, next: 6, count: 1, lines: b"4|B\n".to_vec() };
    let (base, _) = server.replica.newest();
    let newest = Entry::encode(Origin { server: 2, nonce: 9, base }, &batch);
    let link = base.then(newest.next, newest.fingerprint);
    let between = server.entry_of_another(4, "S|1");
    let history = History::starting_at(link, newest.fingerprint);
    server.replica = Replica::new(1, history, Retained::default(), 1);
    server.entries.push(newest.clone());
    (server, newest, between)
}

#[test]
fn a_batch_that_was_appended_again_after_others_is_not_what_was_read() {
    for has_others in [false, true] {
        let (mut server, newest, between) = loaded_from_a_snapshot();
        let before = server.entries[..4].to_vec();
        let before: Vec<&Entry> = before.iter().collect();
        let found = if has_others { vec![&between, &newest] } else { vec![&newest] };
        server.loses_its_connections();
        for _ in 0..=usize::from(has_others) {
            // The failover has lost the newer snapshot, from which the server has started.
            server.tail_finds_snapshot(2, Some(Server::link_after(&before)));
            assert_eq!(server.tail_gets(entries(&found)), Request::Read(Some(Position(4))));
        }
        server.has_diverged_only_if(has_others);
    }
}

#[test]
fn a_snapshot_that_is_ahead_of_what_was_read_tells_whether_that_is_in_the_stream() {
    for has_others in [false, true] {
        let (mut server, newest, between) = loaded_from_a_snapshot();
        let next = server.entry_of_another(6, "B");
        let before = server.entries[..4].to_vec();
        let mut stream: Vec<&Entry> = before.iter().collect();
        if has_others {
            stream.push(&between);
        }
        stream.extend([&newest, &next]);
        server.loses_its_connections();
        for _ in 0..=usize::from(has_others) {
            server.tail_finds_snapshot(2, Some(Server::link_after(&stream)));
            assert_eq!(server.tail_gets(entries(&[&next])), Request::Read(Some(Position(6))));
        }
        assert_eq!(server.end(), Position(6), "it is not applied before");
        server.has_diverged_only_if(has_others);
    }
}

#[test]
fn a_base_that_contradicts_what_was_read_makes_the_server_compare() {
    for is_replaced in [false, true] {
        let mut server = Server::that_has_read(3);
        let mut base = server.replica.newest().0;
        base.chain ^= 1;
        let entry = server.entry_with_base(4, "B", base);
        let end = server.end();
        assert_eq!(server.tail_gets(entries(&[&entry])), Request::Read(Some(end)));
        assert_eq!(server.end(), end, "it is not applied before");
        let other = server.entry_of_another(2, "S|1");
        let all = server.entries.clone();
        let mut stream: Vec<&Entry> = all.iter().collect();
        if is_replaced {
            stream[2] = &other;
        }
        let request = server.tail_gets(entries(&stream[1..]));
        assert_eq!(request, Request::Read(Some(Position(1))), "since its start");
        if is_replaced {
            // Then everything is compared, as after a failover.
            for _ in 0..2 {
                server.tail_finds_snapshot(1, None);
                assert_eq!(server.tail_gets(entries(&stream)), Request::Read(None));
            }
            server.has_diverged();
            continue;
        }
        // The other server is the one that has diverged, and its entry counts as it is.
        server.reads(&entry);
        assert_eq!((server.end(), server.replica.trouble()), (Position(5), None));
        // What was compared is not compared again.
        let entry = server.entry_with_base(5, "B", base);
        assert_eq!(server.tail_gets(entries(&[&entry])), Request::Read(Some(Position(5))));
        let newest = server.entries[4].clone();
        assert_eq!(server.tail_gets(entries(&[&newest])), Request::Read(Some(Position(4))));
        server.reads(&entry);
    }
}

/// Returns what a read has found in a stream whose newest snapshot is at a position.
fn entries_before_snapshot(found: &[&Entry], snapshot: u64) -> Response {
    match entries(found) {
        Response::Found(found) => {
            Response::Found(Found { snapshot: Some(Position(snapshot)), ..found })
        }
        response => response,
    }
}

#[test]
fn an_entry_that_covers_trimmed_ones_is_not_applied_in_their_place() {
    for is_trimmed in [false, true] {
        let mut server = Server::that_has_read(3);
        let trimmed = server.entry_of_another(4, "S|1");
        let batch = Batch { first: 4, next: 6, count: 1, lines: b"4|B\n".to_vec() };
        let (base, _) = server.replica.newest();
        let oldest = Entry::encode(Origin { server: 2, nonce: 9, base }, &batch);
        let found = if is_trimmed { vec![&oldest] } else { vec![&trimmed, &oldest] };
        // Nothing is wrong with the entry: it begins where this server has got to.
        let request = server.tail_gets(entries_before_snapshot(&found, 6));
        assert_eq!(request, Request::Read(Some(Position(4))));
        assert_eq!(server.end(), Position(4), "it may follow trimmed ones");
        // As long as the newest entry that was read is there, nothing after it was trimmed.
        let newest = server.entries[3].clone();
        let found = if is_trimmed { vec![&oldest] } else { vec![&newest, &trimmed, &oldest] };
        let request = server.tail_gets(entries_before_snapshot(&found, 6));
        assert_eq!(request, Request::Read(Some(Position(3))));
        if !is_trimmed {
            assert_eq!(server.end(), Position(6));
            assert_eq!(server.tail_calls(), Request::Read(Some(Position(6))));
            continue;
        }
        let (end, oldest) = (Position(6), Some(Position(6)));
        let info = StreamInfo { end, oldest, epoch: 1, is_settled: true };
        server.tail_gets(Response::Info(Some(info)));
        server.tail_gets(Response::EntryAt(None));
        assert_eq!(server.replica.trouble().map(Trouble::name), Some("trimmed"));
        assert_eq!(server.end(), Position(4));
    }
}

#[test]
fn entries_that_are_not_in_the_journal_stay_in_memory() {
    let mut server = Server::with_journal_that_has_read(3);
    let journaled: Vec<u64> =
        std::iter::from_fn(|| server.replica.take_unjournaled()).map(|entry| entry.next).collect();
    assert_eq!(journaled, [2, 3, 4]);
    let bytes = |range: std::ops::Range<usize>, server: &Server| -> u64 {
        server.entries[range].iter().map(|entry| entry.bytes.len() as u64).sum()
    };
    // The loop takes what the journal has committed.
    for committed in 0..=3 {
        assert_eq!(server.replica.status().retained_bytes, bytes(1 + committed..4, &server));
        assert_eq!(server.replica.take_commit().is_some(), committed < 3);
    }
}

#[test]
fn what_memory_lacks_is_read_from_the_journal_and_appended_again() {
    let mut server = Server::with_journal_that_has_read(4);
    while server.replica.take_commit().is_some() {}
    server.append_gets(info(Position(2), 2, false));
    server.append_gets(Response::EntryAt(Some(server.entries[1].bytes.to_vec())));
    assert_eq!(server.replica.next_append(server.now), Next::Recall(Some(Position(2))));
    let mut part = server.journaled_after(1);
    // A part may end anywhere.
    part.entries.truncate(2);
    server.replica.on_recalled(Ok(part), server.now);
    for index in [2, 3] {
        let request = server.append_gets(Response::Appended(Appended::Accepted));
        assert_eq!(request, Request::Append(server.entries[index].clone()), "the same bytes");
    }
    assert_eq!(server.replica.next_append(server.now), Next::Recall(Some(Position(4))));
    let part = server.journaled_after(3);
    server.replica.on_recalled(Ok(part), server.now);
    assert_eq!(server.append_calls(), Request::Append(server.entries[4].clone()));
}

#[test]
fn a_journal_that_does_not_continue_the_stream_repairs_nothing() {
    let mut server = Server::with_journal_that_has_read(4);
    while server.replica.take_commit().is_some() {}
    let (earlier, later) = (server.journaled_after(0), server.journaled_after(2));
    let earlier = StreamPart { entries: vec![earlier.entries[0].clone()], ..earlier };
    for (part, trouble) in [
        (Ok(StreamPart::default()), "lost"),
        (Ok(earlier), "lost"),
        (Ok(later), "lost"),
        (Err("EIO".to_owned()), "journal"),
    ] {
        server.append_gets(info(Position(2), 2, false));
        server.append_gets(Response::EntryAt(Some(server.entries[1].bytes.to_vec())));
        assert_eq!(server.replica.next_append(server.now), Next::Recall(Some(Position(2))));
        server.replica.on_recalled(part, server.now);
        assert_eq!(server.replica.append_trouble().map(Trouble::name), Some(trouble));
        assert!(matches!(server.replica.next_append(server.now), Next::WaitUntil(_)));
        server.now += SECOND;
    }
}

#[test]
fn a_vanished_stream_is_created_again_from_the_journal_if_that_begins_with_it() {
    for is_whole in [false, true] {
        let mut server = Server::with_journal_that_has_read(2);
        while server.replica.take_commit().is_some() {}
        server.append_gets(Response::Info(None));
        assert_eq!(server.replica.next_append(server.now), Next::Recall(None));
        let genesis = server.entries[0].clone();
        let mut part = StreamPart { after: None, ..server.journaled_after(0) };
        if is_whole {
            part.entries.insert(0, (1, 1, genesis.bytes.to_vec()));
        }
        server.replica.on_recalled(Ok(part), server.now);
        match is_whole {
            true => assert_eq!(server.append_calls(), Request::Create(genesis)),
            false => {
                assert_eq!(server.replica.append_trouble().map(Trouble::name), Some("missing"));
            }
        }
    }
}

#[test]
fn an_end_before_what_is_remembered_is_compared_with_the_journal() {
    for is_replaced in [false, true] {
        let mut server = Server::that_has_read(3);
        // A restart that has loaded a snapshot remembers the newest entry alone.
        let (link, fingerprint) = server.replica.newest();
        let history = History::starting_at(link, fingerprint);
        server.replica = Replica::new(1, history, Retained::default(), 1).with_journal(7);
        server.append_gets(info(Position(2), 2, false));
        let other = server.entry_of_another(1, "S|1");
        let found = if is_replaced { &other } else { &server.entries[1] };
        let found = Response::EntryAt(Some(found.bytes.to_vec()));
        assert_eq!(server.append_gets(found), Request::EntryAt(Position(2)));
        assert_eq!(server.replica.next_append(server.now), Next::Recall(Some(Position(2))));
        let part = server.journaled_after(1);
        server.replica.on_recalled(Ok(part), server.now);
        match is_replaced {
            true => server.has_diverged(),
            false => {
                assert_eq!(server.append_calls(), Request::Append(server.entries[2].clone()));
            }
        }
    }
}

/// An engine that holds some entries, and can only be read.
struct Engine<'a> {
    entries: &'a [Entry],
    /// The number of oldest entries that are trimmed after the next read.
    to_trim: usize,
}

impl Engine<'_> {
    fn holding(entries: &[Entry]) -> Engine<'_> {
        Engine { entries, to_trim: 0 }
    }
}

impl StreamEngine for Engine<'_> {
    fn info(&mut self) -> Result<Option<StreamInfo>, EngineError> {
        let oldest = self.entries.first().map(|entry| entry.next);
        Ok(self.entries.last().map(|newest| StreamInfo {
            end: newest.next,
            oldest,
            epoch: 3,
            is_settled: true,
        }))
    }

    fn entry_at(&mut self, position: Position) -> Result<Option<Vec<u8>>, EngineError> {
        let found = self.entries.iter().find(|entry| entry.next == position);
        Ok(found.map(|entry| entry.bytes.to_vec()))
    }

    fn read(&mut self, after: Option<Position>, _: Duration) -> Result<Found, EngineError> {
        let entries = self.entries.iter().filter(|entry| Some(entry.next) > after);
        let entries = entries.map(|entry| (entry.next, entry.bytes.to_vec())).take(2).collect();
        self.entries = &self.entries[std::mem::take(&mut self.to_trim)..];
        Ok(Found { entries, snapshot: None })
    }

    fn newest_snapshot(&mut self) -> Result<Option<SnapshotPointer>, EngineError> {
        Ok(None)
    }

    fn append(&mut self, _: Position, _: &[u8]) -> Result<Appended, EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn create(&mut self, _: Position, _: &[u8]) -> Result<Appended, EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn settle(&mut self, _: u64, _: bool) -> Result<(), EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn trim(&mut self, _: Position) -> Result<(), EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn lock_snapshots(&mut self, _: u64, _: Duration) -> Result<bool, EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn unlock_snapshots(&mut self, _: u64) -> Result<(), EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn put_chunk(&mut self, _: u64, _: u32, _: &[u8]) -> Result<(), EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }

    fn chunk(&mut self, _: u64, _: u32) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(None)
    }

    fn publish(&mut self, _: &SnapshotPointer) -> Result<(), EngineError> {
        Err(EngineError::lasting("it can only be read"))
    }
}

/// Returns what a start with a journal of all entries of `server` makes of a stream.
fn resumed(server: &Server, stream: &[Entry]) -> Result<Option<Restored>, RestoreError> {
    let (link, fingerprint) = server.replica.newest();
    let mut state = State::new(1);
    state.awaited = link.position.0;
    let history = History::starting_at(link, fingerprint);
    let journaled = Restored::new(state, history, None, 7);
    resume(&mut Engine::holding(stream), 1, None, 0, Some(&journaled), |_| {})
}

#[test]
fn a_start_with_a_journal_goes_on_in_the_stream_that_contains_it_or_lacks_its_tail() {
    let server = Server::that_has_read(3);
    let mut longer = server.entries.clone();
    longer.push(server.entry_of_another(4, "B"));
    for stream in [&longer[..], &longer[..4], &longer[..2], &longer[..1], &[]] {
        assert!(resumed(&server, stream).unwrap().is_none(), "{} entries", stream.len());
    }
    // Trimmed beyond its end, which takes a snapshot to start from.
    let error = resumed(&server, &longer[4..]).unwrap_err();
    assert!(matches!(error, RestoreError::NoSnapshot { .. }), "{error}");
}

#[test]
fn a_start_with_a_journal_refuses_a_stream_that_says_something_else() {
    let server = Server::that_has_read(3);
    let mut other = server.entries.clone();
    other[3] = server.entry_of_another(3, "S|1");
    other.push(server.entry_of_another(4, "B"));
    let error = resumed(&server, &other).unwrap_err();
    assert!(matches!(error, RestoreError::Diverged { .. }), "{error}");
    // An entry that goes beyond the journal's end in place of the one there.
    other[3] = server.entry_of_another(4, "B");
    let error = resumed(&server, &other[..4]).unwrap_err();
    assert!(matches!(error, RestoreError::Diverged { .. }), "{error}");
    // Another stream, shorter and longer.
    let genesis = Entry::genesis(1, 8);
    let entries = [genesis, server.entries[1].clone(), server.entries[2].clone(), other[4].clone()];
    for stream in [&entries[..1], &entries[..3], &entries[..]] {
        let error = resumed(&server, stream).unwrap_err();
        assert!(matches!(error, RestoreError::OtherStream), "{error}");
    }
}

#[test]
fn a_start_refuses_an_entry_that_covers_what_was_trimmed_while_it_read() {
    let server = Server::that_has_read(3);
    let mut stream = server.entries.clone();
    // It begins where the entry before the trimmed one has ended.
    let batch = Batch { first: 1, next: 5, count: 1, lines: b"1|B\n".to_vec() };
    let base = Server::link_after(&[&stream[0]]);
    stream.push(Entry::encode(Origin { server: 2, nonce: 9, base }, &batch));
    for to_trim in [0, 4] {
        let mut engine = Engine { entries: &stream, to_trim };
        match (to_trim, restore(&mut engine, 1, None, 0, |_| {})) {
            (0, Ok(restored)) => assert_eq!(restored.position(), Position(5)),
            (_, Err(RestoreError::NoSnapshot { oldest })) => assert_eq!(oldest, Position(5)),
            (_, result) => panic!("{result:?}"),
        }
    }
}
