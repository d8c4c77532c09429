//! The server under test: already running, or started for the run.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::options::{Endpoint, Endpoints};
use crate::sys::affinity;
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs::Process;
use crate::target::admin::AdminPort;
use crate::target::monitor::{Monitor, Monitors};
use crate::target::{executable, launcher};

/// Maximum time for a graceful stop; longer than the server's drain timeout of 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// The same after a failed or interrupted run, when its exit status no longer matters.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of an expected line; the preparation of a segment must fit in.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// The listening addresses of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) events: SocketAddr,
    pub(crate) clients: SocketAddr,
}

impl Addresses {
    /// Resolves the hosts of a running server.
    ///
    /// # Errors
    ///
    /// A host cannot be resolved; the error names it.
    pub(crate) fn resolve(endpoints: &Endpoints) -> io::Result<Addresses> {
        Ok(Addresses { events: resolve(&endpoints.events)?, clients: resolve(&endpoints.clients)? })
    }
}

/// One of the servers that share a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) addresses: Addresses,
    pub(crate) admin: Option<AdminPort>,
}

/// A server under test: its addresses and, if there is one, a source of its figures.
pub(crate) struct Server {
    /// Of several servers, those of the first one.
    pub(crate) addresses: Addresses,
    pub(crate) monitor: Option<Monitor>,
    /// The servers that share the stream, this one included. Empty if it is named alone.
    members: Vec<Member>,
    child: Option<ChildServer>,
}

/// A child process, terminated on drop.
struct ChildServer {
    child: Child,
    output: BufReader<ChildStdout>,
    stop_mode: StopMode,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopMode {
    /// By SIGTERM.
    OnSignal,
    /// By closing its source.
    ByItself,
}

/// The command line of a server, and how it is run.
#[derive(Clone, Debug)]
pub(crate) struct ServerCommand {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// How the server is stopped.
    stop_mode: StopMode,
    /// The only core that it may use.
    pub(crate) core: Option<usize>,
    log: LogMode,
}

/// Destination of a server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogMode {
    /// Standard error of this program, warnings and errors only.
    Forwarded,
    /// A pipe returned by [`Server::take_log`]. It must be read, or the server's log blocks.
    Captured,
}

impl ServerCommand {
    /// The `eventserver` beside this executable, on free ports of the loopback interface. A captured
    /// log is of level info.
    ///
    /// # Errors
    ///
    /// The executable does not exist.
    pub(crate) fn event_server(
        log: LogMode,
        extra_arguments: &[String],
        core: Option<usize>,
    ) -> io::Result<ServerCommand> {
        let path = executable::find()?;
        let level = if log == LogMode::Captured { "info" } else { "warn" };
        let own = [
            ("--event-listen", "127.0.0.1:0"),
            ("--client-listen", "127.0.0.1:0"),
            ("--log-level", level),
        ];
        // The user's arguments win; the server would refuse a second value.
        let is_free = |flag: &str| {
            !extra_arguments.iter().any(|argument| {
                argument
                    .strip_prefix(flag)
                    .is_some_and(|rest| matches!(rest.get(..1), None | Some("=")))
            })
        };
        let own = own.into_iter().filter(|(flag, _)| is_free(flag));
        let own = own.flat_map(|(flag, value)| [flag, value]);
        let arguments = own.chain(extra_arguments.iter().map(String::as_str));
        Ok(ServerCommand {
            path,
            arguments: arguments.map(OsString::from).collect(),
            stop_mode: StopMode::OnSignal,
            core,
            log,
        })
    }

    /// The same server at these addresses, unless its arguments name others.
    pub(crate) fn listening_on(mut self, addresses: Addresses) -> ServerCommand {
        let Addresses { events, clients } = addresses;
        for (flag, address) in [("--event-listen", events), ("--client-listen", clients)] {
            let index = self.arguments.iter().position(|argument| argument == flag);
            if let Some(value) = index.and_then(|index| self.arguments.get_mut(index + 1)) {
                *value = address.to_string().into();
            }
        }
        self
    }

    fn spawn(&self) -> io::Result<Child> {
        let spawn = || {
            let mut command = launcher::command(&self.path, &self.arguments)?;
            // In its own process group, because a terminal's signals are for this program to
            // forward.
            command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
            if self.log == LogMode::Captured {
                command.stderr(Stdio::piped());
            }
            command.spawn().map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
            })
        };
        // A child inherits the affinity, so it never runs on another core, not even during startup.
        match self.core {
            Some(core) => affinity::with_affinity(core, spawn),
            None => spawn(),
        }
    }

    /// One of the servers built into this executable.
    ///
    /// # Errors
    ///
    /// The path of this executable is unknown.
    pub(crate) fn built_in(
        name: &str,
        argument: String,
        core: Option<usize>,
    ) -> io::Result<ServerCommand> {
        let path = std::env::current_exe()?;
        let arguments = vec![name.into(), argument.into()];
        Ok(ServerCommand {
            path,
            arguments,
            stop_mode: StopMode::ByItself,
            core,
            log: LogMode::Forwarded,
        })
    }
}

impl Server {
    /// A server that was started elsewhere.
    pub(crate) fn external(addresses: Addresses, monitor: Option<Monitor>) -> Server {
        Server { addresses, monitor, members: Vec::new(), child: None }
    }

    /// Servers that were started elsewhere and share a stream. There is at least one.
    pub(crate) fn shared(members: Vec<Member>) -> Server {
        let first = members[0];
        Server { members, ..Server::external(first.addresses, first.admin.map(Monitor::Admin)) }
    }

    /// Returns the addresses of the server, or of all servers that share the stream.
    pub(crate) fn all_addresses(&self) -> Vec<Addresses> {
        match &self.members[..] {
            [] => vec![self.addresses],
            members => members.iter().map(|member| member.addresses).collect(),
        }
    }

    /// Returns where the figures of all servers come from.
    pub(crate) fn all_monitors(&self) -> Monitors {
        Monitors(match &self.members[..] {
            [] => self.monitor.into_iter().collect(),
            members => members.iter().filter_map(|it| it.admin).map(Monitor::Admin).collect(),
        })
    }

    /// Starts a server and waits for its ready line.
    ///
    /// # Errors
    ///
    /// It does not start, or its first line is not a ready line.
    pub(crate) fn start(command_line: &ServerCommand) -> io::Result<Server> {
        let mut child = command_line.spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let monitor = Some(Monitor::Process(Process { id: child.id() }));
        let mut child = ChildServer {
            child,
            output: BufReader::new(output),
            stop_mode: command_line.stop_mode,
        };
        let line = child.ready_line(&command_line.path)?;
        let addresses = read_ready_line(&line).ok_or_else(|| {
            io::Error::other(format!(
                "{} printed `{line}` instead of its ready line",
                command_line.path.display()
            ))
        })?;
        Ok(Server { addresses, monitor, members: Vec::new(), child: Some(child) })
    }

    /// Waits for the next line on the standard output of a child server.
    ///
    /// # Errors
    ///
    /// The server has ended, or was started elsewhere.
    pub(crate) fn next_line(&mut self) -> io::Result<String> {
        match &mut self.child {
            Some(child) => child.next_line(),
            None => {
                Err(io::Error::other("the output of a server started elsewhere cannot be read"))
            }
        }
    }

    /// Takes the captured log, once.
    pub(crate) fn take_log(&mut self) -> Option<ChildStderr> {
        self.child.as_mut()?.child.stderr.take()
    }

    /// Starts a server and kills it with SIGKILL after a time, whether or not it is ready by then.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn start_and_kill(command_line: &ServerCommand, after: Duration) -> io::Result<()> {
        let mut child = command_line.spawn()?;
        let slept = interrupt::sleep(after);
        child.kill()?;
        child.wait()?;
        slept
    }

    /// Kills a child server with SIGKILL, in the middle of whatever it does.
    ///
    /// # Errors
    ///
    /// It has ended by itself before, or was started elsewhere.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        let Some(child) = &mut self.child else {
            return Err(io::Error::other("a server started elsewhere cannot be killed"));
        };
        if let Some(status) = child.child.try_wait()? {
            return Err(io::Error::other(format!("the server has ended by itself with {status}")));
        }
        child.child.kill()?;
        child.child.wait().map(drop)
    }

    /// Stops a child server after its connections are closed. Does nothing to other servers.
    ///
    /// # Errors
    ///
    /// It must be killed, or its exit status is not 0.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if child.stop_mode == StopMode::OnSignal {
            child.terminate()?;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            interrupt::check()?;
            status = child.wait_until(deadline.min(Instant::now() + interrupt::MAX_WAIT))?;
        }
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(io::Error::other(format!("the server ended with {status}"))),
            None => Err(io::Error::other(format!(
                "the server did not stop within {} s and was killed",
                STOP_TIMEOUT.as_secs()
            ))),
        }
    }
}

impl ChildServer {
    /// Waits for the first line of output.
    ///
    /// # Errors
    ///
    /// The server ends before, or prints nothing; the error has the end of its log if that is
    /// captured.
    fn ready_line(&mut self, path: &Path) -> io::Result<String> {
        let error = match self.next_line() {
            Err(error) if Interrupted::of(&error).is_none() => error,
            result => return result,
        };
        let Some(status) = self.wait_until(Instant::now() + DROP_TIMEOUT)? else {
            return Err(error);
        };
        let mut log = String::new();
        if let Some(captured) = &mut self.child.stderr {
            captured.read_to_string(&mut log)?;
        }
        let said = match log.trim_end() {
            "" => "its message is above".to_owned(),
            log => format!("it said:\n{log}"),
        };
        Err(io::Error::other(format!("{} did not start ({status}); {said}", path.display())))
    }

    fn next_line(&mut self) -> io::Result<String> {
        if self.output.buffer().is_empty() {
            self.wait_for_output()?;
        }
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the server has ended; its messages are above"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn wait_for_output(&self) -> io::Result<()> {
        let deadline = Instant::now() + LINE_TIMEOUT;
        let max_wait = Timespec::try_from(interrupt::MAX_WAIT).map_err(io::Error::other)?;
        loop {
            interrupt::check()?;
            let mut readable = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            match rustix::event::poll(&mut readable, Some(&max_wait)) {
                Ok(0) | Err(Errno::INTR) => {}
                result => return Ok(result.map(|_| ())?),
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "the server has printed nothing for {} s",
                    LINE_TIMEOUT.as_secs()
                )));
            }
        }
    }

    fn terminate(&self) -> io::Result<()> {
        Process { id: self.child.id() }.signal(Signal::TERM)
    }

    fn wait_until(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // These fail if it has already ended, which is fine.
        if self.stop_mode == StopMode::OnSignal && self.terminate().is_ok() {
            let _ = self.wait_until(Instant::now() + DROP_TIMEOUT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns an address of a host; IPv4 if it has one, because a server listens there by default.
pub(crate) fn resolve(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let Endpoint { host, port } = endpoint;
    let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
        io::Error::new(error.kind(), format!("host `{host}` not found: {error}"))
    })?;
    let found: Vec<SocketAddr> = found.collect();
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first());
    best.copied().ok_or_else(|| io::Error::other(format!("host `{host}` has no address")))
}

/// Returns the line that a server prints when it is ready.
pub(crate) fn ready_line(addresses: Addresses) -> String {
    let Addresses { events, clients } = addresses;
    format!("eventserver ready: events on {events}, clients on {clients}")
}

fn read_ready_line(line: &str) -> Option<Addresses> {
    let rest = line.strip_prefix("eventserver ready: events on ")?;
    let (events, rest) = rest.split_once(", clients on ")?;
    let (clients, _) = rest.split_once(", admin on ").unwrap_or((rest, ""));
    Some(Addresses { events: events.parse().ok()?, clients: clients.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read_back() {
        let (events, clients) = ("127.0.0.1:9090", "[::1]:9099");
        let line = format!("eventserver ready: events on {events}, clients on {clients}");
        let addresses = read_ready_line(&line).unwrap();
        assert_eq!(ready_line(addresses), line);
        let with_admin = read_ready_line(&format!("{line}, admin on 127.0.0.1:9091")).unwrap();
        assert_eq!(ready_line(with_admin), line);
        assert!(read_ready_line("eventserver failed").is_none());
    }
}
