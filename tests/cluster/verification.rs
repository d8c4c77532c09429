use std::io::Read;
use std::process::{Child, Command, Stdio};

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

    /// Waits for its end. Returns whether it has passed, and what it has said.
    pub(crate) fn result(mut self) -> (bool, String) {
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (status.success() && said.contains("ALL NOTIFICATIONS RECEIVED"), said + &self.log.whole())
    }

    /// Waits for its end, and asserts that it has passed. It fails by itself when nothing moves.
    #[track_caller]
    pub(crate) fn passes(self) -> String {
        let (passed, said) = self.result();
        assert!(passed && said.contains(" at all servers"), "{said}");
        println!("{}", said.lines().take(7).collect::<Vec<_>>().join("\n"));
        said
    }
}
