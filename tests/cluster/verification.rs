use std::process::{Child, Command, Stdio};

use crate::node::Node;

/// A running `loadgen verify` against several servers.
#[derive(Debug)]
pub(crate) struct Verification {
    child: Child,
}

impl Verification {
    /// Starts it with this number of events.
    pub(crate) fn start(nodes: &[&Node], events: u64) -> Verification {
        Verification::start_with(nodes, events, &["--timeout", "20s"])
    }

    pub(crate) fn start_with(nodes: &[&Node], events: u64, flags: &[&str]) -> Verification {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command
            .args(["verify", "--mix", "even", "--concurrency-level", "30", "--move-every", "100ms"])
            .args(["--total-events", &events.to_string(), "--log-level", "debug"])
            .args(flags);
        for node in nodes {
            command.args(["--target", &node.target()]);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Verification { child: command.spawn().unwrap() }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end. Returns whether it has passed, and what it has said.
    pub(crate) fn result(self) -> (bool, String) {
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        (output.status.success() && said.contains("ALL NOTIFICATIONS RECEIVED"), said)
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
