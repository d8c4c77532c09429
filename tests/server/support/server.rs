use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use eventserver::hub::CloseReason;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::Http;
use super::log::Log;
use super::process::Process;
use super::{DEADLINE, INTERVAL};

const BINARY: &str = env!("CARGO_BIN_EXE_eventserver");
const FREE_PORTS: [&str; 4] = ["--event-listen", "0", "--client-listen", "0"];

/// Returns the program with these flags and piped outputs.
pub(crate) fn command(flags: &[&str]) -> Command {
    piped(Command::new(BINARY), flags)
}

fn piped(mut command: Command, flags: &[&str]) -> Command {
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns a command that runs a server on free ports, if it gets that far.
pub(crate) fn command_on_free_ports(flags: &[&str]) -> Command {
    command(&[&FREE_PORTS, flags].concat())
}

/// Runs a program until it exits; returns its exit status and what it wrote to standard error.
#[track_caller]
pub(crate) fn run_to_exit(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let log = child.stderr.take().map(Log::of);
    let status = wait_for_exit(&mut child);
    (status.code(), log.map(|log| log.whole()).unwrap_or_default())
}

#[track_caller]
fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > DEADLINE {
            let _ = child.kill();
            panic!("process {} does not exit", child.id());
        }
        thread::sleep(INTERVAL);
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) event_address: SocketAddr,
    pub(crate) client_address: SocketAddr,
    admin_address: Option<SocketAddr>,
    log: Log,
    has_ended: bool,
}

impl Server {
    /// Starts a server on free ports with these flags.
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Server {
        Self::spawn(command(&[&FREE_PORTS, flags].concat()))
    }

    /// Starts a server under a descriptor limit.
    #[track_caller]
    pub(crate) fn start_with_descriptors(descriptors: u32, flags: &[&str]) -> Server {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        Self::start_under(shell, flags)
    }

    /// Starts a server under a command that executes the program named by its last arguments.
    #[track_caller]
    pub(crate) fn start_under(mut wrapper: Command, flags: &[&str]) -> Server {
        wrapper.arg(BINARY);
        Self::spawn(piped(wrapper, &[&FREE_PORTS, flags].concat()))
    }

    /// Starts a server with another standard error for its log.
    #[track_caller]
    pub(crate) fn start_logging_to(log: impl Into<Stdio>, flags: &[&str]) -> Server {
        Self::start_with(flags, |command| {
            command.stderr(log);
        })
    }

    /// Starts a server whose environment or outputs `change` sets.
    #[track_caller]
    pub(crate) fn start_with(flags: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let mut command = command(&[&FREE_PORTS, flags].concat());
        change(&mut command);
        Self::spawn(command)
    }

    #[track_caller]
    fn spawn(mut command: Command) -> Server {
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take().map(Log::of).unwrap_or_default();
        let ready = first_line(child.stdout.take().unwrap());
        let Some((event_address, client_address, admin_address)) = addresses(&ready) else {
            let _ = child.kill();
            panic!("the server printed {ready:?} and logged {:?}", log.lines());
        };
        Server { child, event_address, client_address, admin_address, log, has_ended: false }
    }

    /// Wraps a server process that listens on these addresses.
    pub(crate) fn from_child(
        child: Child,
        event_address: SocketAddr,
        client_address: SocketAddr,
    ) -> Server {
        let (admin_address, log) = (None, Log::default());
        Server { child, event_address, client_address, admin_address, log, has_ended: false }
    }

    /// Returns the address for operators of a server with `--admin-listen`.
    #[track_caller]
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address.unwrap()
    }

    /// Returns a value of `/status` by its path, such as `/events/applied`.
    #[track_caller]
    pub(crate) fn status(&self, pointer: &str) -> Value {
        let status = Http::connect(self).gets("/status").json();
        status.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {status}")).clone()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.pid())
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Runs `action` while the server is suspended, and resumes it.
    #[track_caller]
    pub(crate) fn while_suspended<T>(&self, action: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        self.wait_until("the server is suspended", || self.process().is_stopped().then_some(()));
        let result = action();
        self.signal(Signal::CONT);
        result
    }

    /// Requests a shutdown and waits for the exit.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.exit_status()
    }

    /// Stops the server while its peers end their connections, for which it would wait two seconds otherwise.
    #[track_caller]
    pub(crate) fn stop_with<P>(&mut self, peers: P) -> Option<i32> {
        self.signal(Signal::TERM);
        drop(peers);
        self.exit_status()
    }

    /// Sends a signal repeatedly until the server has exited.
    #[track_caller]
    pub(crate) fn signal_until_exit(&mut self, signal: Signal) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.has_ended = true;
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "the server does not exit");
            self.signal(signal);
            thread::sleep(INTERVAL);
        }
    }

    /// Waits for the exit.
    #[track_caller]
    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        self.has_ended = true;
        wait_for_exit(&mut self.child).code()
    }

    /// Waits for a log line that contains all of these, and returns it.
    #[track_caller]
    pub(crate) fn logs(&self, parts: &[&str]) -> String {
        self.log.wait_for(&format!("{parts:?}"), |lines| {
            lines.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
        })
    }

    /// Waits until this many log lines contain `part`.
    #[track_caller]
    pub(crate) fn wait_for_log_lines(&self, part: &str, times: usize) {
        self.log.wait_for(&format!("{part:?} {times} times"), |lines| {
            (lines.iter().filter(|line| line.contains(part)).count() >= times).then_some(())
        });
    }

    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Returns the totals as SIGUSR1 logs them.
    #[track_caller]
    pub(crate) fn totals(&self) -> String {
        let is_totals = |line: &&String| line.contains("totals: ");
        let before = self.log.lines().iter().filter(is_totals).count();
        self.signal(Signal::USR1);
        self.log.wait_for("the totals", |lines| lines.iter().filter(is_totals).nth(before).cloned())
    }

    /// Returns one count of the totals.
    #[track_caller]
    pub(crate) fn stat(&self, name: &str) -> u64 {
        value_of(name, &self.totals())
    }

    /// Returns the totals of a server that has exited, the last in its log.
    #[track_caller]
    pub(crate) fn final_totals(&self) -> String {
        let whole = self.log.whole();
        match whole.lines().rfind(|line| line.contains("totals: ")) {
            Some(totals) => totals.to_owned(),
            None => panic!("the log does not show the last totals:\n{whole}"),
        }
    }

    /// Waits until a count of the totals has grown to `count`, and asserts that it is no larger.
    #[track_caller]
    pub(crate) fn assert_stat_reaches(&self, name: &str, count: u64) {
        let reached = self.wait_until(&format!("{name} {count}"), || {
            let now = self.stat(name);
            (now >= count).then_some(now)
        });
        assert_eq!(reached, count, "{name}");
    }

    /// Waits until a count of the totals is `count`.
    #[track_caller]
    pub(crate) fn wait_for_stat(&self, name: &str, count: u64) {
        self.wait_until(&format!("{name} {count}"), || (self.stat(name) == count).then_some(()));
    }

    /// Waits until `condition` returns something.
    #[track_caller]
    pub(crate) fn wait_until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(result) = condition() {
                return result;
            }
            let lines = self.log.lines();
            assert!(
                start.elapsed() < DEADLINE,
                "timed out waiting until {what}:
{}",
                lines.join("\n")
            );
            thread::sleep(INTERVAL);
        }
    }
}

/// Kills the server, and asserts that it was alive until then.
impl Drop for Server {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let died = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.log.lines();
            let last = &lines[lines.len().saturating_sub(50)..];
            eprintln!("the server's last log lines:\n{}", last.join("\n"));
        } else {
            assert!(
                matches!(died, Ok(None)),
                "the server exited by itself: {:?}",
                self.log.lines()
            );
        }
    }
}

/// Returns the first line of `from`.
fn first_line(from: impl Read + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        let _ = from.read_line(&mut line);
        let _ = sender.send(line);
    });
    receiver.recv_timeout(DEADLINE).unwrap_or_default()
}

/// Parses the addresses of a ready line.
fn addresses(ready: &str) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    let addresses = ready.strip_prefix("eventserver ready: events on ")?.strip_suffix('\n')?;
    let (events, others) = addresses.split_once(", clients on ")?;
    let (clients, admin) = match others.split_once(", admin on ") {
        Some((clients, admin)) => (clients, Some(admin.parse().ok()?)),
        None => (others, None),
    };
    Some((events.parse().ok()?, clients.parse().ok()?, admin))
}

/// Returns the value of `name`. A close reason that the totals leave out has not occurred yet.
#[track_caller]
fn value_of(name: &str, totals: &str) -> u64 {
    let mut pairs = totals.split_whitespace().filter_map(|word| word.split_once('='));
    match pairs.find(|&(other, _)| other == name) {
        Some((_, value)) => value.parse().unwrap(),
        None => {
            let reason = name.strip_prefix("clients_closed.");
            let reason = reason.or_else(|| name.strip_prefix("sources_closed."));
            let is_reason =
                reason.is_some_and(|it| CloseReason::ALL.iter().any(|reason| reason.name() == it));
            assert!(is_reason, "no {name:?} in {totals}");
            0
        }
    }
}
