use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Server;

/// A running `loadgen verify`.
#[derive(Debug)]
pub(crate) struct Verification {
    child: Child,
}

impl Verification {
    pub(crate) fn start(server: &Server, events: usize) -> Verification {
        let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["verify", "--mix", "dense", "--concurrency-level", "50", "--timeout", "15000"])
            .args(["--total-events", &events.to_string()])
            .args(["--event-port", &server.event_address.port().to_string()])
            .args(["--client-port", &server.client_address.port().to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Verification { child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its exit and asserts success; it fails by itself when nothing moves.
    #[track_caller]
    pub(crate) fn passes(self) {
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{errors}");
        assert!(said.contains("ALL NOTIFICATIONS RECEIVED"), "{said}{errors}");
    }
}

/// Asserts that the server, which has no other peers left, passes a verification.
#[track_caller]
pub(crate) fn passes_verification(server: &Server) {
    Verification::start(server, 100_000).passes();
}
