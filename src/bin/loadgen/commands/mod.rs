//! From the command line to a command and an exit status.

mod baseline;
mod fairness;
mod idle;
mod latency;
mod pubsub;
mod replay;
mod run;
mod soak;
mod throughput;
mod verify;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use argh::{EarlyExit, FromArgs};
use log::LevelFilter;

use crate::args::{Arguments, Command};
use crate::options::{CommonFlags, CommonOptions, Ports, TargetFlags};
use crate::output::print;
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs;
use crate::target;
use crate::target::baseline::BASELINE_SERVER;
use crate::target::launcher::{self, LAUNCHER};
use crate::target::relay::{self, RELAY_SERVER};
use crate::target::server::{Server, ServerCommand};

/// Everything was as it should be.
const EXIT_SUCCESS: u8 = 0;
/// A client received what it should not have, or the run failed.
const EXIT_FAILURE: u8 = 1;
/// Flags or variables cannot be used.
const EXIT_USAGE: u8 = 2;

/// How a command ended, when not with a result.
enum Error {
    Usage(String),
    Run(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Run(error)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Error {
        Error::Usage(message)
    }
}

/// Whether the server did right.
type CommandResult = Result<bool, Error>;

/// Runs the program with the arguments and the environment of this process.
pub(crate) fn main() -> ExitCode {
    ExitCode::from(match run_program() {
        Ok(true) => EXIT_SUCCESS,
        Ok(false) => EXIT_FAILURE,
        Err(Error::Run(error)) => {
            let status = Interrupted::of(&error).map_or(EXIT_FAILURE, Interrupted::status);
            report_error(error, status)
        }
        Err(Error::Usage(message)) => report_error(message, EXIT_USAGE),
    })
}

fn run_program() -> CommandResult {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [subcommand, parent, program, arguments @ ..] = &arguments[..]
        && subcommand == LAUNCHER
    {
        return Err(launcher::launch(parent, program, arguments).into());
    }
    let arguments: Vec<String> = arguments
        .into_iter()
        .map(OsString::into_string)
        .collect::<Result<_, _>>()
        .map_err(|argument| format!("the argument {argument:?} is not UTF-8"))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => run_command(&["verify"]),
        [BASELINE_SERVER, spec] => serve_baseline(spec),
        [RELAY_SERVER, spec] => serve_relay(spec),
        ref arguments => run_command(arguments),
    }
}

fn report_error(what: impl Display, status: u8) -> u8 {
    // The logger may not be there yet, or be told to be quiet; this is said in any case, and where
    // nobody takes it the exit status still tells.
    let _ = writeln!(io::stderr(), "loadgen: {}", what.to_string().trim_end());
    status
}

fn run_command(arguments: &[&str]) -> CommandResult {
    let arguments = match Arguments::from_args(&["loadgen"], arguments) {
        Ok(arguments) => arguments,
        Err(EarlyExit { output, status: Ok(()) }) => {
            print(&format!("{output}\n"));
            return Ok(true);
        }
        Err(EarlyExit { output, status: Err(()) }) => return Err(Error::Usage(output)),
    };
    procfs::raise_fd_limit();
    interrupt::watch_signals()?;
    let verdict = match arguments.command {
        Command::Verify(flags) => verify::run(&flags),
        Command::Latency(flags) => latency::run(&flags),
        Command::Replay(flags) => replay::run(&flags),
        Command::Idle(flags) => idle::run(&flags),
        Command::Baseline(flags) => baseline::run(&flags),
        Command::Throughput(flags) => throughput::run(&flags),
        Command::Pubsub(flags) => pubsub::run(&flags),
        Command::Fairness(flags) => fairness::run(&flags),
        Command::Soak(flags) => soak::run(&flags),
    };
    // What there was until a signal came has been told.
    verdict.and_then(|passed| Ok(interrupt::check().map(|()| passed)?))
}

fn serve_baseline(spec: &str) -> CommandResult {
    procfs::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    target::baseline::serve(spec)?;
    Ok(true)
}

fn serve_relay(spec: &str) -> CommandResult {
    procfs::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    relay::serve(spec)?;
    Ok(true)
}

/// A variable that is not UTF-8 is one with a wrong value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Makes logs and this process's core what the flags say.
fn init(flags: CommonFlags, core: Option<usize>) -> Result<CommonOptions, Error> {
    let common = CommonOptions::resolve(flags, &variable)?;
    start_logging(common.log_level);
    if let Some(core) = core {
        procfs::set_affinity(core)?;
    }
    Ok(common)
}

/// The server that the flags mean: started now, or running already.
fn server(flags: TargetFlags<'_>, core: Option<usize>) -> Result<Server, Error> {
    server_with(flags, &[], core)
}

/// The same; it is started with the arguments `own` too, but for those that the flags give.
fn server_with(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Error> {
    if !flags.spawn {
        return external_server(flags);
    }
    let program = ServerCommand::event_server(&server_arguments(flags, own), core)?;
    Ok(Server::start(&program)?)
}

/// The same, its log and totals to be read where it is started now.
fn server_with_log(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Error> {
    if !flags.spawn {
        return external_server(flags);
    }
    let program = ServerCommand::event_server_with_log(&server_arguments(flags, own), core)?;
    Ok(Server::start(&program)?)
}

fn external_server(flags: TargetFlags<'_>) -> Result<Server, Error> {
    let ports = Ports::resolve(flags, &variable)?;
    Ok(Server::running(flags.host, ports.events, ports.clients, flags.server_process)?)
}

/// Starts the relay on `core`.
fn relay_server(spec: relay::RelaySpec, core: Option<usize>) -> io::Result<Server> {
    let spec = serde_json::to_string(&spec)?;
    Server::start(&ServerCommand::built_in(RELAY_SERVER, spec, core)?)
}

fn server_arguments(flags: TargetFlags<'_>, own: &[(&str, u64)]) -> Vec<String> {
    let mut arguments = flags.server_arguments.to_vec();
    for (flag, value) in own {
        if !flags.server_arguments.iter().any(|argument| argument == flag) {
            arguments.extend([(*flag).to_owned(), value.to_string()]);
        }
    }
    arguments
}

/// Log lines go to standard error, so that the result is alone on standard output.
fn start_logging(level: LevelFilter) {
    let config = simplelog::ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Off)
        .build();
    // It fails when a logger is there already, and that is well.
    let _ = simplelog::WriteLogger::init(level, config, io::stderr());
}
