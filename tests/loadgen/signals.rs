//! A server started by `loadgen` never outlives it, and a run that is ended by a signal prints its
//! results so far.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::loadgen;

/// Deadline of every wait, far longer than any of them should take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Long runs.
const RUNS: [&str; 8] = [
    "verify --spawn --total-events 1000000000000",
    "latency --spawn --rate 1e7 --duration 86400 --broadcast",
    "latency --spawn --find-knee --p99-us 0.001 --duration 86400",
    "limit --total-events 1000000000000 --mix private",
    "limit --relay --rate 0.01 --duration 86400",
    "pinned --total-events 1000000000000",
    "fairness --spawn --duration 86400 --bound-ms 1000000",
    "soak --spawn --minutes 1440",
];

struct RunningCommand {
    process: Child,
    server: u32,
}

impl RunningCommand {
    /// Starts `command` and waits until clients are connected to its server.
    fn start(command: Command) -> RunningCommand {
        RunningCommand::start_with_sockets(command, 5)
    }

    /// Starts `command` and waits until its server has so many sockets.
    fn start_with_sockets(mut command: Command, sockets: usize) -> RunningCommand {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let id = process.id();
        let mut server = None;
        wait_for("a server with connections", || {
            assert!(process.try_wait().unwrap().is_none(), "loadgen has ended");
            server = child_of(id);
            server.is_some_and(|server| connections(server) >= sockets)
        });
        RunningCommand { process, server: server.unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for both processes to end; returns the status and the output.
    fn end(mut self) -> (ExitStatus, String) {
        let mut told = String::new();
        let mut status = None;
        // The output fits into the pipe buffer.
        wait_for("the end of loadgen", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        wait_for("the end of its server", || !is_alive(self.server));
        self.process.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        (status.unwrap(), told)
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} does not come");
        sleep(Duration::from_millis(5));
    }
}

/// Returns the state and the parent of a process.
fn stat(process: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn child_of(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        (stat(process)?.1 == parent).then_some(process)
    })
}

fn connections(process: u32) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.as_path() > Path::new("socket:")).count()
}

/// Returns whether a process runs; a zombie does not.
fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != 'Z')
}

#[test]
fn a_signal_ends_the_run_and_its_server_and_what_there_is_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    for run in RUNS {
        println!("{run}");
        let running = RunningCommand::start(loadgen(&format!("{run} --json {}", json.display())));
        running.signal(Signal::TERM);
        let (status, told) = running.end();
        assert_eq!(status.code(), Some(143), "{run}: {told}");
        assert_eq!(told.matches("INTERRUPTED").count(), 1, "{run}: {told}");
        assert!(!told.contains("ALL"), "{run}: {told}");
        let result = fs::read_to_string(&json).unwrap();
        let result: serde_json::Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result["verdict"], "interrupted", "{run}");
        assert_eq!(result["ok"], false, "{run}");
    }
}

#[test]
fn the_status_names_the_signal() {
    // More than are there before the first visit: with it the run has results.
    const VISITED: usize = 20;
    for (signal, status) in [(Signal::INT, 130), (Signal::HUP, 129), (Signal::TERM, 143)] {
        let soak = loadgen("soak --spawn --minutes 1440 --clients 5");
        let running = RunningCommand::start_with_sockets(soak, VISITED);
        running.signal(signal);
        let (ended, told) = running.end();
        assert_eq!(ended.code(), Some(status));
        assert!(told.contains("INTERRUPTED") && told.contains("visits"), "{told}");
    }
}

#[test]
fn a_terminal_signals_the_whole_group_and_often_twice() {
    for run in ["soak --spawn --minutes 1440", "fairness --spawn --duration 86400"] {
        let mut command = loadgen(run);
        command.process_group(0);
        let running = RunningCommand::start(command);
        let group = Pid::from_child(&running.process);
        kill_process_group(group, Signal::INT).unwrap();
        running.signal(Signal::INT);
        let (status, told) = running.end();
        assert_eq!(status.code(), Some(130), "{told}");
        assert!(told.contains("INTERRUPTED"), "{told}");
    }
}

#[test]
fn a_killed_run_takes_its_server_with_it() {
    for run in ["soak --spawn --minutes 1440", "limit --relay --rate 0.01 --duration 86400"] {
        let running = RunningCommand::start(loadgen(run));
        running.signal(Signal::KILL);
        let (status, _) = running.end();
        assert_eq!(status.code(), None);
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_loadgen");
    let script = format!("trap '' HUP; exec {program} soak --spawn --minutes 1440");
    command.args(["-c", &script]);
    let running = RunningCommand::start(command);
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    assert_eq!(running.end().0.code(), Some(143));
}

#[test]
fn a_launcher_without_its_parent_starts_nothing() {
    let output = loadgen("launch-server 1 /bin/echo started").output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
}

#[test]
fn a_latency_run_tells_what_it_has_measured() {
    let running = RunningCommand::start(loadgen("latency --spawn --rate 1e7 --duration 86400"));
    // After a warm-up of half a second, the load consumes the server's CPU time.
    let server = running.server;
    wait_for("load", || {
        let text = fs::read_to_string(format!("/proc/{server}/schedstat")).unwrap_or_default();
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        nanos.is_some_and(|nanos: u64| nanos > 1_500_000_000)
    });
    running.signal(Signal::INT);
    let (status, told) = running.end();
    assert_eq!(status.code(), Some(130));
    assert!(told.contains("INTERRUPTED") && told.contains("from due time"), "{told}");
}
