//! Sources that speak `SYNC`, and servers that are killed and go on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::faulty_server::{self, InjectedBug, Ports};
use super::running_server::RunningServer;
use super::{CLIENTS, EVENTS, outcome, run};

/// With this seed no start is killed, so that the starts can be counted.
const RESTARTS: &str = "verify --spawn --mix even --concurrency-level 20 --number-of-users 60 \
                        --restart-every 50ms --timeout 10000 --random-seed 4";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_server_that_is_killed_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let (journal, json) = (folder.path().join("journal"), folder.path().join("result.json"));
    let (right, said) = run(&format!(
        "{RESTARTS} --restarts 4 --data-dir {} --json {}",
        text(&journal),
        text(&json)
    ));
    assert!(right && said.contains("ALL NOTIFICATIONS RECEIVED"));
    assert!(said.contains("of 60 users as expected, by 60 status updates"));
    let result: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    // One more than asked for, before the last round.
    assert_eq!(result["figures"]["restarts"], 5);
    assert_eq!(result["kind"], "verify-restarts");
    assert!(result["figures"]["deliveredBytes"].as_u64() > Some(0));
    // It cannot be used twice.
    let (right, said) = run(&format!("{RESTARTS} --restarts 1 --data-dir {}", text(&journal)));
    assert!(!right && said.contains("--data-dir has to name an empty directory"));
}

#[test]
fn a_stream_that_ends_after_all_events() {
    let folder = TempDir::new().unwrap();
    let (right, said) =
        run(&format!("{RESTARTS} --total-events 150000 --data-dir {}", text(folder.path())));
    assert!(right && said.contains("ALL NOTIFICATIONS RECEIVED"));
    // And the last round.
    assert!(said.contains("  events      150061 "));
}

/// Returns a copy of the load generator that starts a server through a shell script, in which `$SERVER` and
/// `$LOADGEN` are the real programs, `$JOURNAL` is the journal and `$NUMBER` counts the starts
/// (a call that only asks for the version is none).
fn loadgen_with_server(folder: &Path, script: &str) -> PathBuf {
    let loadgen = folder.join("loadgen");
    let script = format!(
        "#!/bin/sh\nset -e\nPATH=/usr/bin:/bin\ncd {}\nSERVER={} LOADGEN={} JOURNAL=journal\n\
         case \"$*\" in *--data-dir*) echo >> starts;; *) exec $SERVER \"$@\";; esac\n\
         NUMBER=$(wc -l < starts)\n{script}\nexec $SERVER \"$@\"\n",
        text(folder),
        env!("CARGO_BIN_EXE_eventserver"),
        env!("CARGO_BIN_EXE_loadgen"),
    );
    let server = folder.join("eventserver");
    // By another process: a program that this one has open for writing cannot be executed, and a child that
    // another test starts in that moment keeps it open.
    let write = r#"cp "$1" "$2" && printf %s "$3" > "$4" && chmod +x "$4""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", write, "sh", env!("CARGO_BIN_EXE_loadgen")]);
    shell.arg(&loadgen).arg(script).arg(&server);
    assert!(shell.status().unwrap().success());
    loadgen
}

/// Runs a verification with restarts against a server that a script damages.
fn run_with(script: &str) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let loadgen = loadgen_with_server(folder.path(), script);
    let journal = folder.path().join("journal");
    let arguments = format!("{RESTARTS} --restarts 3 --data-dir {}", text(&journal));
    let output = Command::new(loadgen).args(arguments.split(' ')).env_clear().output().unwrap();
    outcome(&output)
}

#[test]
fn a_server_behind_a_script_passes() {
    let (right, _) = run_with("");
    assert!(right);
}

#[test]
fn a_server_that_forgets_its_last_events() {
    let script = "if [ $NUMBER -ge 3 ]; then\n\
                  rm -f $(ls $JOURNAL/*.segment | tail -n 1) $JOURNAL/*.snapshot\nfi";
    let (right, said) = run_with(script);
    assert!(!right && said.contains("it has forgotten"), "{said}");
}

#[test]
fn a_server_that_forgets_everything() {
    let (right, said) = run_with("[ $NUMBER = 1 ] || rm -rf $JOURNAL");
    assert!(!right && said.contains("it has forgotten"), "{said}");
}

#[test]
fn a_server_that_forgets_the_follows_of_one_user() {
    // Before the last round they become private messages to nobody.
    let script = "if [ $NUMBER = 5 ]; then\n\
                  $SERVER journal dump $JOURNAL | sed 's/|F|1|.*/|P|1|99999/' > lines\n\
                  rm -r $JOURNAL\n\
                  $LOADGEN replay lines --spawn --no-verify --server-arg --data-dir \
                  --server-arg $JOURNAL > replayed 2>&1\nfi";
    let (right, said) = run_with(script);
    assert!(!right && said.contains("NOT AS EXPECTED") && said.contains("user 1 "), "{said}");
}

#[test]
fn a_server_that_ends_by_itself() {
    let (right, said) = run_with("[ $NUMBER != 3 ] || { echo no disk >&2; exit 1; }");
    assert!(!right && said.contains("did not start") && said.contains("no disk"), "{said}");
}

/// Passes on the bytes of a source, and of the server's answers, to a server. Cuts the first `cuts`
/// connections after as many bytes each, with some of them still on the way.
fn cutting_proxy(server: String, cuts: usize, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, source) in listener.incoming().flatten().enumerate() {
            let Ok(server) = TcpStream::connect(&server) else { return };
            let answers = (server.try_clone().unwrap(), source.try_clone().unwrap());
            thread::spawn(move || pass_on(answers.0, answers.1, None));
            let limit = (number < cuts).then_some(bytes);
            thread::spawn(move || pass_on(source, server, limit));
        }
    });
    port
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, limit: Option<usize>) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
        && to.write_all(&buffer[..count]).is_ok()
    {
        passed += count;
        if limit.is_some_and(|limit| passed >= limit) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn a_source_that_loses_its_connection_and_goes_on() {
    let server = RunningServer::start("--log-level off");
    let (events, clients) = server.addresses();
    let proxy = cutting_proxy(events.to_owned(), 5, 100_000);
    let (right, said) = run(&format!(
        "verify --sync --event-port {proxy} --client-port {clients} --total-events 300000 --mix even \
         --concurrency-level 20 --timeout 10000"
    ));
    assert!(right && said.contains("ALL NOTIFICATIONS RECEIVED"));
    assert!(said.contains("everything committed, 5 reconnects"), "{said}");
    // It awaits another sequence now.
    let (right, said) = run(&format!("verify --sync {} --total-events 100", server.ports));
    assert!(!right && said.contains("the server awaits sequence 300001"), "{said}");
}

#[test]
fn a_server_that_knows_no_sync() {
    let Ports { events, clients } =
        faulty_server::start(CLIENTS, Some(EVENTS), InjectedBug::Nothing);
    let (right, said) = run(&format!(
        "verify --sync --event-port {events} --client-port {clients} --total-events {EVENTS} \
         --concurrency-level {CLIENTS} --timeout 300"
    ));
    assert!(!right && said.contains("the server does not answer SYNC"), "{said}");
}
