//! The server under test: one that runs already, or one started for the run.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::sys::interrupt;
use crate::sys::procfs::{self, Process};
use crate::target::launcher;

/// A server may take this long to stop before it is killed: above its drain timeout of 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// The same where nobody waits for its end any more: a run has failed, or a signal has ended it.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// A line that is due comes in this time: below it lies the preparation of a slice.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) events: SocketAddr,
    pub(crate) clients: SocketAddr,
}

/// Where a server listens, and what is known of its process.
pub(crate) struct Server {
    pub(crate) addresses: Addresses,
    pub(crate) process: Option<Process>,
    child: Option<ChildServer>,
}

/// A child process; it ends with this value.
struct ChildServer {
    child: Child,
    output: BufReader<ChildStdout>,
    stopping: StopMode,
}

/// How a server comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopMode {
    /// When it gets SIGTERM.
    OnSignal,
    /// When its source has closed.
    ByItself,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerCommand {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// How it ends.
    stopping: StopMode,
    /// The only core that it may use.
    pub(crate) core: Option<usize>,
    log: LogMode,
}

/// Where a server's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogMode {
    /// To this program's standard error, warnings and errors only.
    Forwarded,
    /// To whoever calls [`Server::take_log`], and must read it lest the server wait.
    Captured,
}

impl ServerCommand {
    /// The `eventserver` beside this executable, on free ports of the loopback interface.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn event_server(
        extra_arguments: &[String],
        core: Option<usize>,
    ) -> io::Result<ServerCommand> {
        ServerCommand::event_server_command(LogMode::Forwarded, extra_arguments, core)
    }

    /// The same with a log that is kept, totals and all, for [`Server::take_log`].
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn event_server_with_log(
        extra_arguments: &[String],
        core: Option<usize>,
    ) -> io::Result<ServerCommand> {
        ServerCommand::event_server_command(LogMode::Captured, extra_arguments, core)
    }

    fn event_server_command(
        log: LogMode,
        extra_arguments: &[String],
        core: Option<usize>,
    ) -> io::Result<ServerCommand> {
        let path = std::env::current_exe()?.with_file_name("eventserver");
        if !path.is_file() {
            return Err(io::Error::other(format!(
                "there is no {}: build it with `cargo build --release`",
                path.display()
            )));
        }
        let own = [
            "--event-listen",
            "127.0.0.1:0",
            "--client-listen",
            "127.0.0.1:0",
            "--log-level",
            if log == LogMode::Captured { "info" } else { "warn" },
        ];
        let arguments = own.into_iter().chain(extra_arguments.iter().map(String::as_str));
        Ok(ServerCommand {
            path,
            arguments: arguments.map(OsString::from).collect(),
            stopping: StopMode::OnSignal,
            core,
            log,
        })
    }

    /// One of the servers in this executable.
    ///
    /// # Errors
    ///
    /// This executable cannot be found.
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
            stopping: StopMode::ByItself,
            core,
            log: LogMode::Forwarded,
        })
    }
}

impl Server {
    /// A server that somebody else has started.
    ///
    /// # Errors
    ///
    /// The host has no address.
    pub(crate) fn running(
        host: &str,
        event_port: u16,
        client_port: u16,
        process: Option<u32>,
    ) -> io::Result<Server> {
        let resolve = |port: u16| {
            let found = (host, port).to_socket_addrs()?.next();
            found.ok_or_else(|| io::Error::other(format!("`{host}` has no address")))
        };
        Ok(Server {
            addresses: Addresses { events: resolve(event_port)?, clients: resolve(client_port)? },
            process: process.map(|id| Process { id }),
            child: None,
        })
    }

    /// Starts a server and waits for its line that says where it listens.
    ///
    /// # Errors
    ///
    /// It does not start, or its first line is another one.
    pub(crate) fn start(program: &ServerCommand) -> io::Result<Server> {
        let spawn = || {
            let mut command = launcher::command(&program.path, &program.arguments)?;
            // In a group of its own: what a terminal sends is for this program to pass on.
            command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
            if program.log == LogMode::Captured {
                command.stderr(Stdio::piped());
            }
            command.spawn().map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", program.path.display()))
            })
        };
        // A child inherits the core, so it never runs elsewhere, not even while it starts.
        let mut child = match program.core {
            Some(core) => procfs::with_affinity(core, spawn)?,
            None => spawn()?,
        };
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let process = Some(Process { id: child.id() });
        let mut running =
            ChildServer { child, output: BufReader::new(output), stopping: program.stopping };
        let line = running.next_line()?;
        let addresses = read_ready_line(&line).ok_or_else(|| {
            io::Error::other(format!("{} said `{line}` at its start", program.path.display()))
        })?;
        Ok(Server { addresses, process, child: Some(running) })
    }

    /// Waits for the next line on the standard output of a server started here.
    ///
    /// # Errors
    ///
    /// It has ended, or it was not started here.
    pub(crate) fn next_line(&mut self) -> io::Result<String> {
        match &mut self.child {
            Some(running) => running.next_line(),
            None => Err(io::Error::other("this server's output is not ours to read")),
        }
    }

    /// The log of a server that was started with a kept one; to be taken once.
    pub(crate) fn take_log(&mut self) -> Option<ChildStderr> {
        self.child.as_mut()?.child.stderr.take()
    }

    /// Stops a server that was started here, once its connections are closed, and leaves any other
    /// alone.
    ///
    /// # Errors
    ///
    /// It has to be killed, or it ends with another status than 0.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let Some(mut running) = self.child.take() else { return Ok(()) };
        if running.stopping == StopMode::OnSignal {
            running.terminate()?;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            interrupt::check()?;
            status = running.wait_until(deadline.min(Instant::now() + interrupt::MAX_WAIT))?;
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
    fn next_line(&mut self) -> io::Result<String> {
        if self.output.buffer().is_empty() {
            self.wait_for_output()?;
        }
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the server has ended; its log says why"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn wait_for_output(&self) -> io::Result<()> {
        let deadline = Instant::now() + LINE_TIMEOUT;
        let longest = Timespec::try_from(interrupt::MAX_WAIT).map_err(io::Error::other)?;
        loop {
            interrupt::check()?;
            let mut readable = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            match rustix::event::poll(&mut readable, Some(&longest)) {
                Ok(0) | Err(Errno::INTR) => {}
                result => return Ok(result.map(|_| ())?),
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server says nothing"));
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
        // All fail when it has ended, and that is what is wanted.
        if self.stopping == StopMode::OnSignal && self.terminate().is_ok() {
            let _ = self.wait_until(Instant::now() + DROP_TIMEOUT);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server prints once it listens.
pub(crate) fn ready_line(addresses: Addresses) -> String {
    let Addresses { events, clients } = addresses;
    format!("eventserver ready: events on {events}, clients on {clients}")
}

fn read_ready_line(line: &str) -> Option<Addresses> {
    let rest = line.strip_prefix("eventserver ready: events on ")?;
    let (events, clients) = rest.split_once(", clients on ")?;
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
        assert!(read_ready_line("eventserver failed").is_none());
    }
}
