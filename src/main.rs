//! The `eventserver` program: flags and configuration in, the server run, an exit status out.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use eventserver::config::{Config, ConfigSource, Environment, Invocation};
use eventserver::logging;
use eventserver::server::{
    ActivationError, InheritedListeners, Server, Shutdown, ToolError, run_journal_tool,
};

/// Running failed, or a second signal cut the stop short.
const FAILED: u8 = 1;
/// Wrong flags or configuration.
const MISUSED: u8 = 2;
/// The journal is corrupt.
const CORRUPT: u8 = 3;

/// How long an error message waits for a reader of standard error.
const ERROR_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Before anything else, because it changes the environment.
    let inherited = InheritedListeners::take();
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => return fail(MISUSED, &reason),
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["journal", ref arguments @ ..] => use_journal(arguments),
        ref arguments => start(arguments, inherited),
    }
}

fn start(arguments: &[&str], inherited: Result<InheritedListeners, ActivationError>) -> ExitCode {
    let environment = Environment::new(std::env::vars_os());
    match Invocation::parse(arguments, &environment) {
        Ok(Invocation::Print(text)) => {
            for warning in environment.warnings() {
                print(&mut io::stderr(), &format!("eventserver: {warning}"));
            }
            print(&mut io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Ok(Invocation::Run { config, source }) => {
            // Nothing else sets a logger, and without one the server runs all the same.
            let _ = logging::start(config.log_level, config.log_format);
            for warning in environment.warnings() {
                log::warn!("{warning}");
            }
            let status = match inherited {
                Ok(inherited) => serve(*config, *source, inherited),
                Err(reason) => fail(FAILED, &reason),
            };
            log::logger().flush();
            status
        }
        Err(reason) => fail(MISUSED, &reason),
    }
}

fn arguments() -> Result<Vec<String>, String> {
    let arguments = std::env::args_os().skip(1).map(std::ffi::OsString::into_string);
    arguments
        .collect::<Result<_, _>>()
        .map_err(|argument| format!("the argument {argument:?} is not UTF-8"))
}

fn use_journal(arguments: &[&str]) -> ExitCode {
    match run_journal_tool(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = match error {
                ToolError::Usage(_) => MISUSED,
                ToolError::Failed(_) => FAILED,
                ToolError::Corrupt(_) => CORRUPT,
            };
            fail(status, &error)
        }
    }
}

fn serve(config: Config, source: ConfigSource, inherited: InheritedListeners) -> ExitCode {
    let is_activated = !inherited.is_empty();
    let server = match Server::bind(config, source, inherited) {
        Ok(Some(server)) => server,
        // A signal asked to stop before the journal was replayed.
        Ok(None) => return ExitCode::SUCCESS,
        Err(reason) if reason.is_corruption() => return fail(CORRUPT, &reason),
        Err(reason) => return fail(FAILED, &reason),
    };
    let mut ready = format!(
        "eventserver ready: events on {}, clients on {}",
        server.event_address(),
        server.client_address()
    );
    if let Some(address) = server.admin_address() {
        ready.push_str(&format!(", admin on {address}"));
    }
    // The server does not wait for a reader of standard output.
    let _ = print_in_background(io::stdout(), ready);
    match server.run() {
        Ok(Shutdown::Graceful) => ExitCode::SUCCESS,
        Ok(Shutdown::Forced) => ExitCode::from(FAILED),
        // Only the manager can pass its listeners again.
        Ok(Shutdown::Outrun) if is_activated => fail(
            FAILED,
            &"only a new start can go on, for which the service manager is left to pass its sockets",
        ),
        Ok(Shutdown::Outrun) => start_again(),
        Err(reason) => fail(FAILED, &reason),
    }
}

/// Replaces the process by a new one with the same arguments. Returns only if that fails.
fn start_again() -> ExitCode {
    log::logger().flush();
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    fail(FAILED, &format!("cannot start again: {error}"))
}

/// Prints why the program ends, after what is logged.
fn fail(status: u8, reason: &dyn Display) -> ExitCode {
    log::logger().flush();
    let printed = print_in_background(io::stderr(), format!("eventserver: {reason}"));
    // Nothing is ever sent: the sender is dropped once the message is written.
    let _ = printed.recv_timeout(ERROR_TIMEOUT);
    ExitCode::from(status)
}

/// Prints a message on a thread of its own, because a pipe that nobody reads may be full. The receiver
/// is disconnected when the message is written.
fn print_in_background(mut out: impl Write + Send + 'static, message: String) -> Receiver<()> {
    let (printing, printed) = channel();
    // Without a thread the message is lost, like that to a closed output.
    let _ = thread::Builder::new().name("print".to_owned()).spawn(move || {
        print(&mut out, &message);
        drop(printing);
    });
    printed
}

/// Prints a message, in one write. A closed output is ignored.
fn print(out: &mut impl Write, message: &str) {
    let line = format!("{}\n", message.trim_end());
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
