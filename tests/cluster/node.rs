use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::process::Process;
use crate::support::{DEADLINE, Http, INTERVAL, Log};
use crate::wait_until;

/// A server of the stream. It keeps its addresses over restarts.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    flags: Vec<String>,
    pub(crate) event_address: SocketAddr,
    pub(crate) client_address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    /// Of all its processes.
    logs: Vec<Log>,
}

impl Node {
    /// Starts a server with these flags, on free ports of the loopback interface.
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Node {
        Node::start_at("127.0.0.1", || Command::new(env!("CARGO_BIN_EXE_eventserver")), flags)
    }

    /// Starts a server on free ports of an address by a command, which takes its flags.
    #[track_caller]
    pub(crate) fn start_at(host: &str, command: impl FnOnce() -> Command, flags: &[&str]) -> Node {
        let any = format!("{host}:0").parse().unwrap();
        let mut node =
            Node::spawn(command(), [any; 3], flags.iter().map(|&it| it.to_owned()).collect());
        node.wait_for_ready_line();
        node
    }

    /// Starts a server on free ports of the loopback interface that cannot listen to sources and clients yet.
    /// Waits until it serves operators.
    #[track_caller]
    pub(crate) fn start_without_waiting(flags: &[&str]) -> Node {
        let any = "127.0.0.1:0".parse().unwrap();
        let command = Command::new(env!("CARGO_BIN_EXE_eventserver"));
        let mut node =
            Node::spawn(command, [any; 3], flags.iter().map(|&it| it.to_owned()).collect());
        node.admin_address = wait_until("the server serves operators", || {
            let log = node.log();
            let (_, rest) = log.split_once("operators are served on ")?;
            rest.split(' ').next()?.parse().ok()
        });
        node
    }

    fn spawn(mut command: Command, addresses: [SocketAddr; 3], flags: Vec<String>) -> Node {
        let [event_address, client_address, admin_address] = addresses;
        command
            .args(["--event-listen", &event_address.to_string()])
            .args(["--client-listen", &client_address.to_string()])
            .args(["--admin-listen", &admin_address.to_string()])
            .args(&flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let logs = vec![Log::of(child.stderr.take().unwrap())];
        Node { child, flags, event_address, client_address, admin_address, logs }
    }

    /// Takes the addresses from the ready line.
    #[track_caller]
    pub(crate) fn wait_for_ready_line(&mut self) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let output = self.child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(DEADLINE).unwrap_or_default();
        let address = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split([',', '\n']).next()?.parse().ok()
        };
        match (address("events on "), address("clients on "), address("admin on ")) {
            (Some(events), Some(clients), Some(admin)) => {
                (self.event_address, self.client_address, self.admin_address) =
                    (events, clients, admin);
            }
            _ => panic!("the server printed {line:?} and logged {}", self.log()),
        }
    }

    /// Kills it, in the middle of whatever it does.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it has ended by itself: {}", self.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after a kill, at the same addresses.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let addresses = [self.event_address, self.client_address, self.admin_address];
        let command = Command::new(env!("CARGO_BIN_EXE_eventserver"));
        let mut next = Node::spawn(command, addresses, self.flags.clone());
        next.wait_for_ready_line();
        let mut logs = std::mem::take(&mut self.logs);
        logs.append(&mut next.logs);
        next.logs = logs;
        *self = next;
    }

    /// Asks it to stop, and returns its exit status.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.exit_status()
    }

    /// Waits for its end, and returns its exit status.
    #[track_caller]
    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        wait_until("the server exits", || self.child.try_wait().unwrap()).code()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Suspends it, and waits until it is.
    #[track_caller]
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
        let process = Process(Pid::from_child(&self.child));
        wait_until("the server is suspended", || process.is_stopped().then_some(()));
    }

    /// Returns its log, of all its processes.
    pub(crate) fn log(&self) -> String {
        self.logs.iter().flat_map(Log::lines).collect::<Vec<_>>().join("\n")
    }

    /// Waits for a line of the log that contains all of these.
    #[track_caller]
    pub(crate) fn logs(&self, parts: &[&str]) {
        wait_until(&format!("the log shows {parts:?}"), || {
            let log = self.log();
            log.lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
        });
    }

    /// Returns the status and the body of a response.
    #[track_caller]
    fn get(&self, path: &str) -> (u16, String) {
        let response = Http::connect_to(self.admin_address).gets(path);
        (response.status, response.body)
    }

    /// Returns a value of `/status` by its path, such as `/sequence/awaited`.
    #[track_caller]
    pub(crate) fn status(&self, pointer: &str) -> Value {
        let status: Value = serde_json::from_str(&self.get("/status").1).unwrap();
        status.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {status}")).clone()
    }

    #[track_caller]
    pub(crate) fn awaited(&self) -> u64 {
        self.status("/sequence/awaited").as_u64().unwrap()
    }

    #[track_caller]
    pub(crate) fn state_hash(&self) -> String {
        self.status("/sequence/state_hash").as_str().unwrap().to_owned()
    }

    /// Waits until it awaits a sequence.
    #[track_caller]
    pub(crate) fn awaits(&self, sequence: u64) {
        wait_until(&format!("{sequence} is awaited:\n{}", self.log()), || {
            (self.awaited() == sequence).then_some(())
        });
    }

    /// Waits until it is ready.
    #[track_caller]
    pub(crate) fn is_ready(&self) {
        wait_until("it is ready", || (self.get("/readyz").0 == 200).then_some(()));
    }

    /// Waits until it is not ready, and says this as the reason.
    #[track_caller]
    pub(crate) fn is_unready_because_of(&self, reason: &str) {
        let mut last = String::new();
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            let (status, body) = self.get("/readyz");
            if status == 503 && body.contains(reason) {
                return;
            }
            last = body;
            thread::sleep(INTERVAL);
        }
        panic!("the reason is {last:?}, not {reason:?}:\n{}", self.log());
    }

    /// Returns the flag of `loadgen` that names it.
    pub(crate) fn target(&self) -> String {
        format!(
            "{}:{}:{}:{}",
            self.event_address.ip(),
            self.event_address.port(),
            self.client_address.port(),
            self.admin_address.port()
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "the last log lines of the server at {}:\n{}",
                self.event_address,
                last.join("\n")
            );
        }
    }
}
