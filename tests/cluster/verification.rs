use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::are_in_one_state;
use crate::node::Node;
use crate::support::Log;

/// A running `loadgen verify` against several servers.
#[derive(Debug)]
pub(crate) struct Verification {
    child: Child,
    log: Log,
}

impl Verification {
    /// Starts it with this number of events.
    pub(crate) fn start(nodes: &[&Node], events: u64) -> Verification {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command
            .args(["verify", "--mix", "even", "--concurrency-level", "30", "--move-every", "100ms"])
            .args(["--total-events", &events.to_string(), "--timeout", "20s"])
            .args(["--log-level", "debug"]);
        for node in nodes {
            command.args(["--target", &node.target()]);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Verification { child, log }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and asserts that it has passed. It fails by itself when nothing moves.
    #[track_caller]
    pub(crate) fn passes(mut self) {
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        let is_right =
            said.contains("ALL NOTIFICATIONS RECEIVED") && said.contains(" at all servers");
        assert!(status.success() && is_right, "{said}{}", self.log.whole());
        println!("{said}");
    }
}

/// Runs a verification of the servers while `kill_and_restart` does so with each in turn, and gets the number of kills
/// before.
pub(crate) fn passes_while_each_is_killed(
    nodes: &mut [Node],
    events: u64,
    kill_and_restart: impl Fn(&mut Node, usize),
) {
    let mut verification = Verification::start(&nodes.iter().collect::<Vec<_>>(), events);
    let mut kills = 0;
    while verification.is_running() {
        thread::sleep(Duration::from_millis(300));
        kill_and_restart(&mut nodes[kills % nodes.len()], kills);
        kills += 1;
    }
    verification.passes();
    assert!(kills >= 3, "only {kills} kills");
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}
