//! Settings that are read again: each that can change while the server runs does, and nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Client, Server, Source, broadcasts, messages};

/// A server with a configuration file.
struct Configured {
    server: Server,
    folder: TempDir,
    /// The log lines of reloads so far.
    reloads: usize,
}

impl Configured {
    /// Starts a server with this file.
    #[track_caller]
    fn start(settings: &str) -> Configured {
        Self::start_with(settings, &[])
    }

    #[track_caller]
    fn start_with(settings: &str, flags: &[&str]) -> Configured {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        fs::write(&file, settings).unwrap();
        let config = ["--config", file.to_str().unwrap()];
        let server = Server::start(&[&config, flags].concat());
        Configured { server, folder, reloads: 0 }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("settings.json")
    }

    /// Changes the file and waits for the log line that says what has changed.
    #[track_caller]
    fn reload(&mut self, settings: &str, changed: &str) {
        fs::write(self.file(), settings).unwrap();
        self.server.signal(Signal::HUP);
        self.reloads += 1;
        self.server.wait_for_log_lines("settings reloaded: ", self.reloads);
        self.server.logs(&[&format!("settings reloaded: {changed}")]);
    }
}

#[test]
fn operators_see_the_settings_in_force() {
    let mut configured = Configured::start_with("{}", &["--admin-listen", "0"]);
    assert_eq!(configured.server.status("/settings/maxSources"), 64);
    configured.reload(r#"{"maxSources": 3}"#, "--max-sources changed");
    assert_eq!(configured.server.status("/settings/maxSources"), 3);
    assert_eq!(configured.server.status("/sources/max"), 3);
}

#[test]
fn a_gap_timeout_ends_a_gap_that_exists() {
    let mut configured = Configured::start("{}");
    let mut client = Client::connect(&configured.server, 1);
    let mut source = Source::connect(&configured.server);
    source.sends("2|B\n");
    configured.server.assert_stat_reaches("buffered_events", 1);
    configured.reload(r#"{"gapTimeoutMs": 10}"#, "--gap-timeout-ms changed");
    client.receives(&["2|B"]);
}

#[test]
fn an_identify_timeout_closes_a_client_that_is_connected() {
    let mut configured = Configured::start(r#"{"identifyTimeoutMs": "1h"}"#);
    let mut client = Client::connect_unidentified(&configured.server);
    configured.server.assert_stat_reaches("clients_connected", 1);
    configured.reload(r#"{"identifyTimeoutMs": 10}"#, "--identify-timeout-ms changed");
    client.is_closed();
    configured.server.logs(&["identify_timeout"]);
}

#[test]
fn a_limit_on_sources_counts_those_that_are_connected() {
    let mut configured = Configured::start(r#"{"maxSources": 1}"#);
    let server = &configured.server;
    let mut client = Client::connect(server, 1);
    let mut first = Source::connect(server);
    first.sends("1|B\n");
    client.receives(&["1|B"]);
    let _rejected = Source::connect(server);
    server.logs(&["rejected source", "too_many_sources"]);
    configured.reload(r#"{"maxSources": 2}"#, "--max-sources changed");
    let mut second = Source::connect(&configured.server);
    second.sends("2|B\n");
    client.receives(&["2|B"]);
    configured.reload(r#"{"maxSources": 1}"#, "--max-sources changed");
    second.sends("3|B\n");
    first.sends("4|B\n");
    client.receives(&["3|B", "4|B"]);
    let _rejected = Source::connect(&configured.server);
    configured.server.wait_for_stat("sources_closed.too_many_sources", 2);
}

#[test]
fn a_limit_on_clients_counts_those_that_are_connected() {
    let mut configured = Configured::start(r#"{"maxClients": 1}"#);
    let mut first = Client::connect(&configured.server, 1);
    Client::connect(&configured.server, 2).is_closed();
    configured.reload(r#"{"maxClients": 2}"#, "--max-clients changed");
    let mut second = Client::connect(&configured.server, 2);
    Source::connect(&configured.server).sends("1|B\n");
    first.receives(&["1|B"]);
    second.receives(&["1|B"]);
    configured.reload(r#"{"maxClients": 1}"#, "--max-clients changed");
    Client::connect(&configured.server, 3).is_closed();
    Source::connect(&configured.server).sends("2|B\n");
    first.receives(&["2|B"]);
    second.receives(&["2|B"]);
    // Without the setting the descriptors decide again.
    configured.reload("{}", "--max-clients changed");
    let mut third = Client::connect(&configured.server, 3);
    Source::connect(&configured.server).sends("3|B\n");
    third.receives(&["3|B"]);
}

#[test]
fn a_limit_per_address_counts_clients_that_are_connected() {
    let mut configured = Configured::start("{}");
    let first = Client::connect(&configured.server, 1);
    let mut second = Client::connect(&configured.server, 2);
    configured.server.assert_stat_reaches("clients_connected", 2);
    configured.reload(r#"{"maxClientsPerAddress": 2}"#, "--max-clients-per-address changed");
    Client::connect(&configured.server, 3).is_cut_off();
    configured.server.wait_for_stat("clients_closed.too_many_from_address", 1);
    first.leaves(&configured.server);
    let mut third = Client::connect(&configured.server, 3);
    Source::connect(&configured.server).sends("1|B\n");
    second.receives(&["1|B"]);
    third.receives(&["1|B"]);
}

#[test]
fn a_limit_on_lines_counts_for_sources_that_are_connected() {
    let mut configured = Configured::start(r#"{"maxLineBytes": 64}"#);
    let mut client = Client::connect(&configured.server, 1);
    let mut source = Source::connect(&configured.server);
    let zeros = "0".repeat(16);
    let long = |number: u64| {
        format!("{number:020}|P|{:020}|{:020}", 2, 1).replacen("|P|", &format!("|P|{zeros}"), 1)
    };
    // No number has more than 20 digits, so a longer line is malformed in any case.
    source.sends(format!("{}\n1|B\n", long(1)));
    configured.server.logs(&["malformed line", "longer than --max-line-bytes"]);
    configured.reload(r#"{"maxLineBytes": 128}"#, "--max-line-bytes changed");
    source.sends(format!("{}\n3|B\n", long(2)));
    client.receives(&["3|B"]);
    configured.server.wait_for_log_lines("malformed line", 2);
    let lines = configured.server.log_lines();
    let malformed: Vec<&String> = lines.iter().filter(|it| it.contains("malformed line")).collect();
    assert_eq!(malformed.len(), 2, "{malformed:?}");
    assert!(!malformed[1].contains("longer than"), "{malformed:?}");
}

/// A server whose client 7 does not read, and whose sources are paused for it. Client 8 receives only the
/// broadcast at the end.
struct Paused {
    configured: Configured,
    slow: Vec<Client>,
    other: Client,
    last: String,
    sending: std::thread::JoinHandle<Source>,
}

/// Messages that exceed a queue of 64 KiB and the kernel's buffers.
const MESSAGES: u64 = 100_000;

impl Paused {
    fn start(settings: &str) -> Paused {
        Self::start_for(&[7], settings)
    }

    /// Starts a server with several clients that do not read, and get messages in turn.
    fn start_for(users: &[u64], settings: &str) -> Paused {
        let configured = Configured::start(settings);
        let connect = |&user| Client::connect_slow(&configured.server, user);
        let slow = users.iter().map(connect).collect();
        let other = Client::connect(&configured.server, 8);
        let to = |sequence: u64| users[sequence as usize % users.len()];
        let mut stream: Vec<u8> =
            (1..MESSAGES).flat_map(|it| messages(it..it + 1, to(it))).collect();
        stream.extend(broadcasts(MESSAGES..MESSAGES + 1));
        let sending = Source::connect(&configured.server).sends_in_background(stream);
        configured.server.logs(&["paused: "]);
        Paused { configured, slow, other, last: format!("{MESSAGES:020}|B"), sending }
    }

    /// Asserts that everything is delivered to the client that reads. Returns the server, and the clients
    /// that do not read.
    fn goes_on(mut self) -> (Server, Vec<Client>) {
        self.other.receives(&[&self.last]);
        self.sending.join().unwrap();
        (self.configured.server, self.slow)
    }
}

#[test]
fn a_stall_timeout_closes_a_client_that_is_stalled() {
    let mut paused = Paused::start(r#"{"clientQueueBytes": "64k", "stallTimeoutMs": "1h"}"#);
    paused.configured.reload(
        r#"{"clientQueueBytes": "64k", "stallTimeoutMs": 10}"#,
        "--stall-timeout-ms changed",
    );
    let (server, _slow) = paused.goes_on();
    server.logs(&["user 7", "stalled"]);
}

#[test]
fn a_larger_queue_ends_a_pause() {
    let mut paused = Paused::start(r#"{"clientQueueBytes": "64k", "stallTimeoutMs": "1h"}"#);
    paused.configured.reload(r#"{"stallTimeoutMs": "1h"}"#, "--client-queue-bytes changed");
    let (server, _slow) = paused.goes_on();
    assert!(server.stat("queued_bytes") > 64 << 10);
}

#[test]
fn a_larger_total_ends_a_pause() {
    let file = |total: &str| {
        format!(
            r#"{{"clientQueueBytes": "64M", "totalQueueBytes": "{total}", "stallTimeoutMs": "1h"}}"#
        )
    };
    let mut paused = Paused::start_for(&[7, 9], &file("64M").replace("64M", "64k"));
    paused.configured.server.logs(&["paused: 0 clients have full queues"]);
    let changed = "--client-queue-bytes, --total-queue-bytes changed";
    paused.configured.reload(&file("64M"), changed);
    let (server, _slow) = paused.goes_on();
    assert!(server.stat("queued_bytes") > 64 << 10);
}

#[test]
fn a_slow_client_that_is_stalled_is_disconnected() {
    let mut paused = Paused::start(r#"{"clientQueueBytes": "64k", "stallTimeoutMs": "1h"}"#);
    paused.configured.reload(
        r#"{"clientQueueBytes": "64k", "slowClient": "disconnect", "stallTimeoutMs": "1h"}"#,
        "--slow-client changed",
    );
    let (server, _slow) = paused.goes_on();
    server.logs(&["user 7", "queue_full"]);
}

#[test]
fn a_smaller_queue_pauses_until_it_has_fallen() {
    let mut configured = Configured::start(r#"{"stallTimeoutMs": "1h"}"#);
    let mut slow = Client::connect_slow(&configured.server, 7);
    let mut source = Source::connect(&configured.server);
    // More than the kernel takes, less than the limit.
    let count = 50_000;
    let stream = messages(1..count + 1, 7);
    source.sends(&stream);
    configured.server.assert_stat_reaches("events", count);
    configured.reload(
        r#"{"clientQueueBytes": "4k", "stallTimeoutMs": "1h"}"#,
        "--client-queue-bytes changed",
    );
    let last = format!("{}|B", count + 1);
    source.sends_lines(&[&last]);
    configured.server.logs(&["paused: 1 clients"]);
    slow.receives_up_to(last.as_bytes());
}

#[test]
fn a_drain_timeout_counts_for_the_next_stop() {
    let mut paused = Paused::start(
        r#"{"clientQueueBytes": "64k", "stallTimeoutMs": "1h", "drainTimeoutMs": "1h"}"#,
    );
    paused.configured.reload(
        r#"{"clientQueueBytes": "64k", "stallTimeoutMs": "1h", "drainTimeoutMs": 1}"#,
        "--drain-timeout-ms changed",
    );
    assert_eq!(paused.configured.server.stop(), Some(0));
    paused.configured.server.logs(&["user 7", "drain_timeout"]);
}

#[test]
fn level_and_form_of_the_log_change() {
    let mut configured = Configured::start("{}");
    let mut client = Client::connect(&configured.server, 1);
    Source::connect(&configured.server).sends("1|B\n");
    client.receives(&["1|B"]);
    configured.reload(
        r#"{"logLevel": "debug", "logFormat": "json"}"#,
        "--log-level, --log-format changed",
    );
    let _client = Client::connect(&configured.server, 2);
    let line = configured.server.logs(&["user 2 connected"]);
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&object["level"], &object["user"]), (&Value::from("debug"), &Value::from(2)));
    assert!(!configured.server.log_lines().iter().any(|line| line.contains("user 1 connected")));
}

#[test]
fn a_peer_timeout_is_taken() {
    let mut configured = Configured::start("{}");
    configured.reload(r#"{"peerTimeoutMs": "5s"}"#, "--peer-timeout-ms changed");
}

#[test]
fn what_needs_a_restart_is_named_and_keeps_its_value() {
    let mut configured = Configured::start(r#"{"firstSequence": 1}"#);
    configured.reload(
        r#"{"firstSequence": 5, "busyPoll": true, "maxSources": 3}"#,
        "--max-sources changed",
    );
    configured.server.logs(&[
        "[WARN]",
        "settings that need a restart to change keep their values: --first-sequence, --busy-poll",
    ]);
    let mut client = Client::connect(&configured.server, 1);
    Source::connect(&configured.server).sends("1|B\n");
    client.receives(&["1|B"]);
    configured.reload(r#"{"maxSources": 3}"#, "nothing changed");
}

#[test]
fn a_wrong_file_changes_nothing() {
    let mut configured = Configured::start(r#"{"maxSources": 2}"#);
    let file = configured.file();
    let broken = [
        (r#"{"gapTimeoutMs": 10, "maxSources": 0}"#, "\"maxSources\": 0: must be a whole number"),
        (r#"{"gapTimeoutMs": 10"#, "not JSON: EOF"),
        ("", "is empty"),
        (r#"{"gapTimeout": 10}"#, "did you mean gapTimeoutMs?"),
    ];
    for (text, message) in broken {
        fs::write(&file, text).unwrap();
        configured.server.signal(Signal::HUP);
        let name = file.display().to_string();
        configured.server.logs(&["[ERROR]", "settings not reloaded: ", &name, message]);
    }
    fs::remove_file(&file).unwrap();
    configured.server.signal(Signal::HUP);
    configured.server.logs(&["[ERROR] settings not reloaded: cannot read ", "No such file"]);
    configured.reload(r#"{"maxSources": 2}"#, "nothing changed");
}

#[test]
fn flags_win_over_the_file_again() {
    let mut configured = Configured::start_with("{}", &["--max-sources", "5"]);
    configured.reload(r#"{"maxSources": 6, "gapTimeoutMs": 7}"#, "--gap-timeout-ms changed");
}

/// Opens the pipe of a configuration, once the server is reading it.
fn open_for_writing(configured: &Configured) -> File {
    // Without a reader this fails.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    configured.server.wait_until("the pipe is read", || {
        File::options().write(true).custom_flags(nonblocking).open(configured.file()).ok()
    })
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_holds_nothing_up() {
    let mut configured = Configured::start("{}");
    let file = configured.file();
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    configured.server.signal(Signal::HUP);
    let first = open_for_writing(&configured);
    let mut client = Client::connect(&configured.server, 1);
    let mut source = Source::connect(&configured.server);
    for sequence in 1..=100 {
        let line = format!("{sequence}|B");
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
    }
    configured.server.signal(Signal::HUP);
    configured.server.logs(&["still reading the settings"]);
    let finish = |mut pipe: File, timeout: u32, reloads| {
        write!(pipe, "{{\"gapTimeoutMs\": {timeout}}}").unwrap();
        drop(pipe);
        let line = "settings reloaded: --gap-timeout-ms changed";
        configured.server.wait_for_log_lines(line, reloads);
    };
    finish(first, 10, 1);
    // The pipe is read twice, because the second request came during the first reading.
    finish(open_for_writing(&configured), 11, 2);
    configured.server.signal(Signal::HUP);
    assert_eq!(configured.server.stop_with((source, client)), Some(0));
}

#[test]
fn a_server_that_stops_reloads_nothing() {
    let mut paused = Paused::start(r#"{"clientQueueBytes": "64k", "drainTimeoutMs": "1h"}"#);
    let server = &mut paused.configured.server;
    server.signal(Signal::TERM);
    server.logs(&["stopping: "]);
    server.signal(Signal::HUP);
    server.logs(&["settings not reloaded: the server is stopping"]);
    drop(paused.slow);
    drop(paused.other);
    assert_eq!(server.exit_status(), Some(0));
}
