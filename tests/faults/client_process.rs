use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Client;

/// A user client that is a separate process: `cat` with the connection as its standard input.
#[derive(Debug)]
pub(crate) struct ClientProcess {
    child: Child,
}

impl ClientProcess {
    /// Passes a connection to a process that writes what it receives to `output`.
    pub(crate) fn start(client: Client, output: impl Into<Stdio>) -> ClientProcess {
        let child = Command::new("cat").stdin(client).stdout(output).spawn().unwrap();
        ClientProcess { child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// Kills the process with SIGKILL, whatever it is doing.
impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
