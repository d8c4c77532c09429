//! `SYNC`, and restarts with a journal on a real disk.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Client, Http, Server, Source, command, command_on_free_ports, run_to_exit};

/// Number of times that the server is killed.
const KILLS: u64 = 10;

/// A source that speaks `SYNC` and reads the answers.
struct SyncSource {
    source: Source,
    answers: BufReader<std::net::TcpStream>,
}

impl SyncSource {
    #[track_caller]
    fn connect(server: &Server) -> (SyncSource, u64) {
        let mut source = Source::connect(server);
        source.sends("SYNC\n");
        let answers = BufReader::new(source.try_clone());
        let mut source = SyncSource { source, answers };
        let awaited = source.reads("awaited");
        (source, awaited)
    }

    /// Reads one answer.
    #[track_caller]
    fn reads(&mut self, word: &str) -> u64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let number = line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?} is not {word}"));
        number.trim().parse().unwrap()
    }

    /// Reads until `sequence` is committed.
    #[track_caller]
    fn waits_for_commit_of(&mut self, sequence: u64) {
        while self.reads("committed") < sequence {}
    }
}

#[test]
fn sources_are_answered_only_if_they_ask() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 7);
    let mut silent = Source::connect(&server);
    silent.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    let (mut source, awaited) = SyncSource::connect(&server);
    assert_eq!(awaited, 2);
    source.source.sends_lines(&["1|B", "3|B", "2|B"]);
    source.waits_for_commit_of(3);
    client.receives(&["2|B", "3|B"]);
    source.source.sends("SYNC\r\n");
    assert_eq!(source.reads("awaited"), 4);
    silent.sends_lines(&["4|B"]);
    assert_eq!(source.reads("committed"), 4);
    assert_eq!(server.stat("late"), 1);
    assert!(!server.log_lines().iter().any(|line| line.contains("late event")));
    silent.receives_nothing();
}

#[test]
fn a_killed_server_forgets_nothing_that_was_committed() {
    for sync in ["always", "20", "never"] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--data-dir", folder.path().to_str().unwrap(), "--sync", sync];
        let mut next = 1;
        for kill in 0..KILLS {
            let mut server = Server::start(&flags);
            let mut client = Client::connect(&server, 1000);
            let (mut source, awaited) = SyncSource::connect(&server);
            assert!(awaited >= next, "{next} was committed, but {awaited} is awaited");
            // User 1000 follows one more user in each life, and is told by all of them.
            let last = awaited + 2 * kill + 1;
            let mut lines = vec![format!("{awaited}|F|1000|{kill}")];
            let mut expected = Vec::new();
            for (sequence, user) in (awaited + 1..).zip(0..=kill) {
                lines.push(format!("{sequence}|S|{user}"));
                expected.push(format!("{sequence}|S|{user}"));
            }
            for sequence in awaited + kill + 2..=last {
                lines.push(format!("{sequence}|X"));
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            source.source.sends_lines(&lines);
            source.waits_for_commit_of(last);
            client.receives(&expected.iter().map(String::as_str).collect::<Vec<_>>());
            // And something that may or may not be committed.
            source.source.sends_lines(&[&format!("{}|P|1|2", last + 1)]);
            server.signal(Signal::KILL);
            assert_eq!(server.exit_status(), None);
            next = last + 1;
        }
    }
}

#[test]
fn a_stopped_server_leaves_a_small_journal_and_resets_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data_dir, "--on-source-disconnect", "reset"];
    let mut server = Server::start(&flags);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|F|1|2", "2|B"]);
    drop(source);
    server.logs(&["stream reset", "sequence 1 is awaited"]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|S|2", "2|B"]);
    client.receives(&["2|B"]);
    assert_eq!(server.stop(), Some(0));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let bytes = entry.unwrap().metadata().unwrap().len();
        assert!(bytes < 1000, "a segment of {bytes} bytes");
    }
    let server = Server::start(&flags);
    let (_, awaited) = SyncSource::connect(&server);
    assert_eq!(awaited, 3);
}

#[test]
fn a_directory_in_use_is_refused_and_the_process_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", folder.path().to_str().unwrap()];
    let server = Server::start(&flags);
    let (status, log) = run_to_exit(command_on_free_ports(&flags));
    let process = format!("in use by the process {}", server.process().0.as_raw_nonzero());
    assert!(status == Some(1) && log.contains(&process), "{status:?}: {log}");
}

#[test]
fn a_corrupt_journal_and_another_first_sequence_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", folder.path().to_str().unwrap(), "--first-sequence", "5"];
    for _ in 0..3 {
        let mut server = Server::start(&flags);
        let (mut source, awaited) = SyncSource::connect(&server);
        source.source.sends_lines(&[&format!("{awaited}|F|1|2")]);
        source.waits_for_commit_of(awaited);
        assert_eq!(server.stop(), Some(0));
    }
    let (status, log) = run_to_exit(command_on_free_ports(&flags[..2]));
    let names_both = log.contains("sequence 5") && log.contains("first_sequence is 1");
    assert!(status == Some(1) && names_both, "{status:?}: {log}");
    // Without a snapshot the first segment is needed.
    for snapshot in files(folder.path(), "snapshot") {
        fs::remove_file(snapshot).unwrap();
    }
    let segment = files(folder.path(), "segment").remove(0);
    let mut content = fs::read(&segment).unwrap();
    let last = content.len() - 100;
    content[last] ^= 1;
    fs::write(&segment, content).unwrap();
    let (status, log) = run_to_exit(command_on_free_ports(&flags));
    let name = segment.file_name().unwrap().to_str().unwrap();
    let says_where = log.contains(name) && log.contains("corrupt at offset");
    assert!(status == Some(3) && says_where, "{status:?}: {log}");
}

#[test]
fn the_state_hash_is_that_of_the_journal_and_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data_dir, "--admin-listen", "0"];
    let mut server = Server::start(&flags);
    let empty = server.status("/sequence/state_hash");
    let (mut source, _) = SyncSource::connect(&server);
    source.source.sends_lines(&["1|F|1|2", "2|F|3|2", "3|U|1|2", "4|B"]);
    source.waits_for_commit_of(4);
    let hash = server.status("/sequence/state_hash");
    assert_ne!(hash, empty);
    assert_eq!(server.stop(), Some(0));
    let output = command(&["journal", "verify", data_dir]).output().unwrap();
    let verified = String::from_utf8(output.stdout).unwrap();
    let starts_here = format!("state hash {}", hash.as_str().unwrap());
    assert!(verified.lines().last().unwrap().contains(&starts_here), "{hash} in {verified}");
    let server = Server::start(&flags);
    assert_eq!(server.status("/sequence/state_hash"), hash);
    let without_journal = Server::start(&["--admin-listen", "0"]);
    assert!(without_journal.status("/sequence/state_hash").is_null());
}

/// Returns the files with an extension in order of their names.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    files
}

/// Returns a command that runs a program with a disk of `bytes` in `folder` that only it sees, or `None` where
/// the system does not allow that.
fn with_a_small_disk(folder: &Path, bytes: u64) -> Option<Command> {
    let command = || {
        let mut unshare = Command::new("unshare");
        unshare.env("FOLDER", folder).args(["--map-root-user", "--mount", "sh", "-c"]);
        let mount = format!("mount -t tmpfs -o size={bytes} none \"$FOLDER\"");
        unshare.arg(mount + " && exec \"$0\" \"$@\"");
        unshare
    };
    let output = command().arg("true").output().ok()?;
    output.status.success().then(command)
}

#[test]
fn a_full_disk_pauses_the_sources_until_it_is_freed() {
    for sync in ["always", "never"] {
        pauses_while_its_disk_is_full(sync);
    }
}

fn pauses_while_its_disk_is_full(sync: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Some(wrapper) = with_a_small_disk(folder.path(), 300 << 10) else {
        println!("skipped: the system does not allow mounting a small disk");
        return;
    };
    let data_dir = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data_dir, "--sync", sync, "--admin-listen", "0"];
    let mut server = Server::start_under(wrapper, &flags);
    let root = format!("/proc/{}/root", server.process().0.as_raw_nonzero());
    let ballast = format!("{root}{}/ballast", folder.path().display());
    fs::write(&ballast, vec![1; 200 << 10]).unwrap();
    let mut client = Client::connect(&server, 1);
    let (mut source, _) = SyncSource::connect(&server);
    let lines: Vec<String> = (1..=10_000).map(|it| format!("{it}|P|2|1")).collect();
    source.source.sends(lines.join("\n") + "\n");
    server.logs(&["journal: cannot create", "sources are paused"]);
    let response = Http::connect(&server).gets("/readyz");
    assert!(response.status == 503 && response.body.contains("paused by the disk"), "{response:?}");
    fs::remove_file(&ballast).unwrap();
    source.waits_for_commit_of(10_000);
    server.logs(&["the disk accepts writes again"]);
    let response = Http::connect(&server).gets("/readyz");
    assert!(response.status == 200, "{response:?}");
    client.receives(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.stop(), Some(0));
}

/// The size of a segment, in bytes.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The length of the longest line without needless zeros and its LF.
const LONG_LINE_BYTES: u64 = 65;

/// Returns messages as long as possible, so that few of them fill a segment.
fn long_lines(sequences: Range<u64>) -> Vec<u8> {
    let (from, to) = (1, 2);
    let lines = sequences.map(|it| format!("{it:020}|P|{from:020}|{to:020}\n"));
    lines.collect::<String>().into_bytes()
}

/// Sends long lines from a sequence on, until they take `bytes`, and waits for the commit of each MiB. Returns the
/// next sequence.
fn send_long_lines(source: &mut SyncSource, first: u64, bytes: u64) -> u64 {
    let end = first + bytes / LONG_LINE_BYTES;
    let mut next = first;
    while next < end {
        let until = end.min(next + (1 << 20) / LONG_LINE_BYTES);
        source.source.sends(long_lines(next..until));
        source.waits_for_commit_of(until - 1);
        next = until;
    }
    end
}

#[test]
fn snapshots_are_written_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data_dir, "--sync", "never"];
    let mut server = Server::start(&flags);
    let (mut source, _) = SyncSource::connect(&server);
    let mut next = 1;
    for written in 1..=2 {
        next = send_long_lines(&mut source, next, SEGMENT_BYTES + (1 << 20));
        server.wait_until("a snapshot is written", || {
            (files(folder.path(), "snapshot").len() == written).then_some(())
        });
    }
    server.signal(Signal::KILL);
    assert_eq!(server.exit_status(), None);
    let server = Server::start(&flags);
    let (_, awaited) = SyncSource::connect(&server);
    assert_eq!(awaited, next);
    let line = server.logs(&["lines replayed in"]);
    let replayed = line.split(", ").find_map(|part| part.split_once(" lines replayed"));
    let replayed: u64 = replayed.unwrap().0.parse().unwrap();
    // What is in the segment after the newest snapshot.
    assert!(replayed < SEGMENT_BYTES / LONG_LINE_BYTES, "{line}");
}

#[test]
fn a_full_disk_is_freed_of_what_is_no_longer_needed() {
    // Four whole segments, and little more.
    const DISK_BYTES: u64 = 4 * SEGMENT_BYTES + (8 << 20);
    let folder = tempfile::tempdir().unwrap();
    let Some(wrapper) = with_a_small_disk(folder.path(), DISK_BYTES) else {
        println!("skipped: the system does not allow mounting a small disk");
        return;
    };
    let data_dir = folder.path().to_str().unwrap();
    let limits = ["--sync", "never", "--journal-retain-bytes", "1TiB", "--admin-listen", "0"];
    let flags = [&["--data-dir", data_dir][..], &limits].concat();
    let mut server = Server::start_under(wrapper, &flags);
    let root = format!("/proc/{}/root{data_dir}", server.process().0.as_raw_nonzero());
    let (mut source, _) = SyncSource::connect(&server);
    let mut next = 1;
    for generation in 1..=3 {
        next = send_long_lines(&mut source, next, SEGMENT_BYTES);
        let prefix = format!("{generation:010}-");
        server.wait_until("a snapshot is written", || {
            let snapshots = files(Path::new(&root), "snapshot");
            let newest = snapshots.last()?.file_name()?.to_str()?;
            newest.starts_with(&prefix).then_some(())
        });
    }
    assert_eq!(files(Path::new(&root), "segment").len(), 4);
    // Nobody frees the disk but the server, which has two snapshots.
    send_long_lines(&mut source, next, 2 * SEGMENT_BYTES);
    server.logs(&["sources are paused, retrying every second"]);
    server.logs(&["the disk accepts writes again"]);
    assert_eq!(Http::connect(&server).gets("/readyz").status, 200);
    assert_eq!(server.stop(), Some(0));
}
