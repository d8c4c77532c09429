//! A server that runs before the load generator.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server that is started before the load generator.
pub(crate) struct RunningServer {
    process: Child,
    /// The flags of `loadgen` that name it.
    pub(crate) ports: String,
    addresses: (String, String),
    /// The address for operators. Empty without `--admin-listen`.
    pub(crate) admin: String,
}

impl RunningServer {
    /// Starts the server on free ports.
    pub(crate) fn start(arguments: &str) -> RunningServer {
        let mut process = Command::new(env!("CARGO_BIN_EXE_eventserver"))
            .args(["--event-listen", "127.0.0.1:0", "--client-listen", "127.0.0.1:0"])
            .args(arguments.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = |after: &str| {
            let (_, rest) = line.split_once(after)?;
            rest.split([',', '\n']).next().map(str::to_owned)
        };
        let addresses = (address("events on ").unwrap(), address("clients on ").unwrap());
        let admin = address("admin on ").unwrap_or_default();
        let ports = format!("--event-port {} --client-port {}", addresses.0, addresses.1);
        RunningServer { process, ports, addresses, admin }
    }

    /// Returns the addresses for sources and for clients.
    pub(crate) fn addresses(&self) -> (&str, &str) {
        (&self.addresses.0, &self.addresses.1)
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
