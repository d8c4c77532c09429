//! Servers with a journal: killed, suspended, without space on their disk, started twice, stopped and started
//! again, with a damaged journal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::RESET;
use crate::full_disk::with_a_small_disk;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server, Source, command, run_to_exit};
use crate::verification::passes_verification;
use crate::workload::{CHECKED_CLIENTS, Workload};

/// Events per round of a stream.
const ROUND: u64 = 1000;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs the journal's tool. Returns its exit status and what it prints.
fn journal_tool(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_eventserver"))
        .arg("journal")
        .args(arguments)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

/// Returns the awaited sequence and the state hash of an intact journal.
#[track_caller]
fn verified(journal: &Path) -> (u64, String) {
    let (status, printed) = journal_tool(&["verify", text(journal)]);
    assert_eq!(status, Some(0), "{printed}");
    let line =
        printed.lines().find_map(|line| line.strip_prefix("a server starts here: sequence "));
    let line = line.unwrap_or_else(|| panic!("{printed}"));
    let awaited = line.split(' ').next().unwrap().parse().unwrap();
    let (_, hash) = line.rsplit_once("state hash ").unwrap();
    (awaited, hash.to_owned())
}

/// A source that speaks `SYNC`, and what it has kept.
struct SyncedSource {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl SyncedSource {
    /// Connects, and returns the awaited sequence.
    fn connect(server: &Server) -> (SyncedSource, u64) {
        let mut stream = TcpStream::connect(server.event_address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"SYNC\n").unwrap();
        let answers = BufReader::new(stream.try_clone().unwrap());
        let mut source = SyncedSource { stream, answers };
        let awaited = source.answer("awaited ");
        (source, awaited)
    }

    fn sends(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Waits for an answer of a kind.
    fn answer(&mut self, word: &str) -> u64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix(word).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap()
    }

    /// Waits until all before a sequence is committed.
    fn waits_until_committed(&mut self, before: u64) {
        while self.answer("committed ") + 1 < before {}
    }
}

#[test]
fn a_server_that_is_killed_over_and_over() {
    let restarts = scaled(10, 200);
    for sync in ["always", "never"] {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let result = folder.path().join("result.json");
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["verify", "--spawn", "--mix", "even", "--restart-every", "100ms"])
            .args(["--concurrency-level", "20", "--number-of-users", "200", "--timeout", "30s"])
            .args(["--restarts", &restarts.to_string(), "--data-dir", text(&journal)])
            .args(["--server-arg", "--sync", "--server-arg", sync, "--json", text(&result)])
            .args(["--log-level", "warn"])
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{errors}");
        let result = fs::read_to_string(result).unwrap();
        let result: serde_json::Value = serde_json::from_str(&result).unwrap();
        let figure = |name: &str| result["figures"][name].as_u64().unwrap();
        assert_eq!(figure("restarts"), restarts as u64 + 1);
        let (awaited, _) = verified(&journal);
        assert_eq!(awaited, figure("events") + 1);
        report(format_args!(
            "sync {sync}: {} kills, {} more during a start; {} events, every client right in every life",
            figure("restarts"),
            figure("killedStarts"),
            figure("events"),
        ));
    }
}

#[test]
fn a_disk_that_fills_under_a_journal_and_is_freed() {
    // Too small to reserve a whole segment, so that each write needs space.
    const DISK_BYTES: u64 = 60 << 20;
    let times = scaled(3, 20);
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = with_a_small_disk(folder.path(), DISK_BYTES) else {
        println!("skipped: the system allows no small disk");
        return;
    };
    let journal = folder.path().join("journal");
    let flags = [&RESET[..], &["--data-dir", text(&journal)]].concat();
    let mut server = Server::start_under(disk, &flags);
    let root = format!("/proc/{}/root", server.process().0.as_raw_nonzero());
    let ballast = root.clone() + text(&folder.path().join("ballast"));
    let mut stream = Stream::connect(&server).in_rounds_of(ROUND);
    stream.run_during(|| {
        for time in 1..=times {
            fill(Path::new(&ballast));
            server.wait_for_log_lines("sources are paused, retrying every second", time);
            // Two more attempts, which fail as well.
            thread::sleep(Duration::from_millis(1500));
            let awaited = server.stat("awaited");
            assert_eq!(server.stat("awaited"), awaited, "nothing is applied");
            assert_eq!(server.stat("clients_connected"), CHECKED_CLIENTS);
            fs::remove_file(&ballast).unwrap();
            server.wait_for_log_lines("the disk accepts writes again", time);
        }
    });
    for name in ["lost", "late", "duplicate", "clients_closed", "sources_closed"] {
        assert_eq!(server.stat(name), 0, "{name}");
    }
    let figures = stream.ends(&server);
    passes_verification(&server);
    // The tool sees the disk through the server's process, which holds the lock.
    let (status, printed) = journal_tool(&["verify", &(root + text(&journal))]);
    assert_eq!(status, Some(1), "{printed}");
    assert_eq!(server.stop(), Some(0));
    let refusals =
        server.log_lines().into_iter().filter(|line| line.contains("[ERROR]")).collect::<Vec<_>>();
    assert!(refusals.len() >= times, "{refusals:?}");
    report(format_args!("{times} times; {figures}"));
}

/// Fills a disk with a file.
fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    let piece = vec![0x55; 1 << 16];
    while file.write_all(&piece).is_ok() {}
}

#[test]
fn a_second_server_in_the_same_directory() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", text(folder.path())];
    let mut server = Server::start(&flags);
    let process = server.process().0.as_raw_nonzero();
    let free_ports = ["--event-listen", "0", "--client-listen", "0"];
    let (status, log) = run_to_exit(command(&[&flags[..], &free_ports].concat()));
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains(&format!("in use by the process {process}:")), "{log}");
    for tool in ["verify", "dump", "repair"] {
        let (status, printed) = journal_tool(&[tool, text(folder.path())]);
        assert_eq!(status, Some(1), "{printed}");
        assert!(printed.contains(&format!("in use by the process {process}:")), "{printed}");
    }
    assert_eq!(server.stop(), Some(0));
    assert_eq!(journal_tool(&["verify", text(folder.path())]).0, Some(0));
}

#[test]
fn a_server_with_a_journal_that_is_suspended() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [&RESET[..], &["--data-dir", text(folder.path())]].concat();
    let mut server = Server::start(&flags);
    let mut stream = Stream::connect(&server).in_rounds_of(ROUND);
    let times = scaled(10, 50);
    stream.run_during(|| {
        for _ in 0..times {
            server.while_suspended(|| thread::sleep(Duration::from_millis(50)));
        }
    });
    let figures = stream.ends(&server);
    passes_verification(&server);
    report(format_args!("{times} times; {figures}"));
    assert_eq!(server.stop(), Some(0));
    // The last verification ended with a reset.
    assert_eq!(verified(folder.path()).0, 1);
}

#[test]
fn a_stop_and_a_start_keep_sequence_and_follows() {
    let times = scaled(5, 20);
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", text(folder.path())];
    let mut workload = Workload::starting_with(1);
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    for time in 0..times {
        let start = Instant::now();
        let mut server = Server::start(&flags);
        longest = longest.max(start.elapsed());
        let (mut source, awaited) = SyncedSource::connect(&server);
        assert_eq!(awaited, rounds * ROUND + 1);
        // The clients that follow somebody since an earlier life do so still.
        let connect = |user| Client::connect(&server, user);
        let mut clients: Vec<Client> = Workload::checked_users().map(connect).collect();
        for _ in 0..20 {
            source.sends(&workload.write(ROUND));
            rounds += 1;
            for (client, expected) in clients.iter_mut().zip(workload.take_expected()) {
                client.receives_bytes(&expected);
            }
        }
        source.waits_until_committed(rounds * ROUND + 1);
        if time % 2 == 0 {
            // Events that wait behind a gap are not kept.
            source.sends(format!("{}|B\n", rounds * ROUND + 3).as_bytes());
            server.wait_for_stat("buffered_events", 1);
        }
        drop((source, clients));
        assert_eq!(server.stop(), Some(0));
        assert_eq!(verified(folder.path()).0, rounds * ROUND + 1);
    }
    report(format_args!("{times} times, {} events, slowest start {longest:?}", rounds * ROUND));
}

#[test]
fn a_reset_is_part_of_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [&RESET[..], &["--data-dir", text(folder.path())]].concat();
    let mut server = Server::start(&flags);
    let send = |server: &Server, lines: &[&str]| {
        let (mut source, awaited) = SyncedSource::connect(server);
        source.sends((lines.join("\n") + "\n").as_bytes());
        source.waits_until_committed(awaited + lines.len() as u64);
        source
    };
    let source = send(&server, &["1|F|1|2", "2|F|3|2", "3|B"]);
    let follows = verified_state_of(&mut server, folder.path());
    drop(source);
    let mut server = Server::start(&flags);
    let source = send(&server, &["4|U|1|2"]);
    drop(source);
    server.wait_for_stat("sources_connected", 0);
    assert_eq!(server.stop(), Some(0));
    let after_reset = verified(folder.path());
    assert_eq!((follows.0, after_reset.0), (4, 1));
    let mut server = Server::start(&flags);
    let mut client = Client::connect(&server, 3);
    let source = send(&server, &["1|F|3|9", "2|S|2", "3|S|9"]);
    // The follow of 2 is forgotten, the one of 9 is not.
    client.receives(&["3|S|9"]);
    drop((source, client));
    server.wait_for_stat("sources_connected", 0);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(verified(folder.path()), after_reset);
    let (status, printed) = journal_tool(&["dump", text(folder.path())]);
    assert_eq!((status, printed.as_str()), (Some(0), "eventserver: no events\n"));
}

/// Kills a server, and returns what its journal leads to.
fn verified_state_of(server: &mut Server, journal: &Path) -> (u64, String) {
    server.signal_until_exit(rustix::process::Signal::KILL);
    verified(journal)
}

/// Returns a journal of some events in several segments.
fn journal_of_two_lives(folder: &Path) -> Vec<String> {
    let mut workload = Workload::starting_with(1);
    for _ in 0..2 {
        let mut server = Server::start(&["--data-dir", text(folder)]);
        let (mut source, awaited) = SyncedSource::connect(&server);
        source.sends(&workload.write(ROUND));
        source.waits_until_committed(awaited + ROUND);
        drop(source);
        assert_eq!(server.stop(), Some(0));
    }
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> = files.filter(|name| name.ends_with(".segment")).collect();
    segments.sort();
    assert_eq!(segments.len(), 2);
    segments
}

#[test]
fn a_corrupt_journal_is_refused_with_words_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let segments = journal_of_two_lives(folder.path());
    let damaged = folder.path().join(&segments[0]);
    let mut content = fs::read(&damaged).unwrap();
    let place = content.len() / 2;
    content[place] ^= 0x10;
    fs::write(&damaged, &content).unwrap();

    let flags = ["--data-dir", text(folder.path()), "--event-listen", "0", "--client-listen", "0"];
    let (status, log) = run_to_exit(command(&flags));
    assert_eq!(status, Some(3), "{log}");
    for word in [&segments[0], "is corrupt at offset", "sequences 1 to 1000 are concerned"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    let (status, printed) = journal_tool(&["verify", text(folder.path())]);
    assert_eq!(status, Some(3), "{printed}");
    assert!(printed.contains(&format!("DAMAGED: {}", segments[0])), "{printed}");
    assert!(printed.contains("eventserver journal repair"), "{printed}");
    let (status, planned) = journal_tool(&["repair", "--dry-run", text(folder.path())]);
    assert_eq!(status, Some(0), "{planned}");
    assert!(planned.contains("nothing was changed"), "{planned}");
    assert_eq!(fs::read(&damaged).unwrap(), content);
    let (status, printed) = journal_tool(&["repair", text(folder.path())]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("lost: sequences 1 to 2000, at most 2000 lines"), "{printed}");
    assert!(printed.contains("repaired: sequence 1 is awaited"), "{printed}");
    assert!(folder.path().join(format!("{}.set-aside", segments[1])).exists());

    // The source sends again what it has kept.
    let server = Server::start(&["--data-dir", text(folder.path())]);
    let (mut source, awaited) = SyncedSource::connect(&server);
    assert_eq!(awaited, 1);
    source.sends(&Workload::starting_with(1).write(2 * ROUND));
    source.waits_until_committed(2 * ROUND + 1);
}

#[test]
fn a_journal_without_anything_intact_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let segments = journal_of_two_lives(folder.path());
    fs::remove_file(folder.path().join(&segments[0])).unwrap();
    let (status, printed) = journal_tool(&["repair", text(folder.path())]);
    assert_eq!(status, Some(3), "{printed}");
    assert!(printed.contains("cannot be repaired"), "{printed}");
    assert!(folder.path().join(&segments[1]).exists());
}

#[test]
fn sources_without_sync_receive_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", text(folder.path())]);
    let mut source = Source::connect(&server);
    let mut client = Client::connect(&server, 5);
    source.sends_lines(&["1|B", "2|B"]);
    client.receives(&["1|B", "2|B"]);
    source.ends();
    source.is_closed();
}

#[test]
fn a_dump_whose_reader_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    journal_of_two_lives(folder.path());
    let (status, printed) = journal_tool(&["dump", text(folder.path())]);
    assert_eq!(status, Some(0));
    assert_eq!(printed.lines().filter(|line| line.contains('|')).count() as u64, 2 * ROUND);
    for tool in ["dump", "verify"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_eventserver"))
            .args(["journal", tool, text(folder.path())])
            .stdout(writer)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{tool}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_eventserver"))
        .args(["journal", "dump", text(folder.path())])
        .stdout(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}
