//! Subcommands: dispatch, common initialization, and exit status.

mod baseline;
mod compare;
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

use serde_json::{Value, json};

use crate::args::{Arguments, Command};
use crate::options::{CommonFlags, CommonOptions, Ports, TargetFlags};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::{OutputFiles, print};
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs;
use crate::target;
use crate::target::baseline::BASELINE_SERVER;
use crate::target::launcher::{self, LAUNCHER};
use crate::target::relay::{self, RELAY_SERVER};
use crate::target::server::{Server, ServerCommand};

/// Success.
const EXIT_SUCCESS: u8 = 0;
/// A check failed, or the run failed.
const EXIT_FAILURE: u8 = 1;
/// Invalid flags or variables.
const EXIT_USAGE: u8 = 2;
/// The figures do not answer the question.
const EXIT_INCONCLUSIVE: u8 = 3;

/// The reason why a command has no result.
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

type CommandResult = Result<Verdict, Error>;

/// Runs the program with the arguments and environment of this process.
pub(crate) fn main() -> ExitCode {
    ExitCode::from(match run_program() {
        Ok(Verdict::Passed) => EXIT_SUCCESS,
        Ok(Verdict::Failed | Verdict::Interrupted) => EXIT_FAILURE,
        Ok(Verdict::Inconclusive) => EXIT_INCONCLUSIVE,
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
    // Written even without a logger or with logging off. If standard error is closed, only the exit
    // status reports it.
    let _ = writeln!(io::stderr(), "loadgen: {}", what.to_string().trim_end());
    status
}

fn run_command(arguments: &[&str]) -> CommandResult {
    let arguments = match Arguments::from_args(&["loadgen"], arguments) {
        Ok(arguments) => arguments,
        Err(EarlyExit { output, status: Ok(()) }) => {
            print(&format!("{output}\n"));
            return Ok(Verdict::Passed);
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
        Command::Compare(flags) => compare::run(&flags),
    };
    // The results up to the signal have been printed.
    verdict.and_then(|verdict| Ok(interrupt::check().map(|()| verdict)?))
}

fn serve_baseline(spec: &str) -> CommandResult {
    procfs::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    target::baseline::serve(spec)?;
    Ok(Verdict::Passed)
}

fn serve_relay(spec: &str) -> CommandResult {
    procfs::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    relay::serve(spec)?;
    Ok(Verdict::Passed)
}

/// Reads a variable; one that is not UTF-8 is kept as an invalid value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Applies the common flags: logging and core affinity.
fn init(flags: CommonFlags, core: Option<usize>) -> Result<CommonOptions, Error> {
    let common = CommonOptions::resolve(flags, &variable)?;
    start_logging(common.log_level);
    if let Some(core) = core {
        procfs::set_affinity(core)?;
    }
    Ok(common)
}

/// Writes the result of a run to its files, and returns the verdict. A run without findings is a
/// result too.
fn conclude(plan: &Plan, files: OutputFiles, findings: Result<Findings, Error>) -> CommandResult {
    match findings {
        Ok(findings) => {
            files.write(plan, &findings)?;
            Ok(findings.verdict)
        }
        Err(Error::Run(error)) => {
            let findings = match Interrupted::of(&error) {
                Some(_) => Findings::new(Verdict::Interrupted, "A signal came before any result."),
                None => Findings::failed(vec![error.to_string()]),
            };
            files.write(plan, &findings)?;
            Err(Error::Run(error))
        }
        Err(Error::Usage(message)) => Err(Error::Usage(message)),
    }
}

/// Adds the keys of `more` to `settings`.
fn merged(mut settings: Value, more: Value) -> Value {
    if let (Value::Object(settings), Value::Object(more)) = (&mut settings, more) {
        settings.extend(more);
    }
    settings
}

/// Describes the selected server for the settings of a result.
fn server_settings(flags: TargetFlags<'_>, own: &[(&str, u64)]) -> Value {
    if flags.spawn {
        return started_server(&server_arguments(flags, own));
    }
    // Invalid ports are reported when the server is selected.
    let address = Ports::resolve(flags, &variable).map_or_else(
        |_| flags.host.to_owned(),
        |ports| format!("{}, ports {} and {}", flags.host, ports.events, ports.clients),
    );
    json!({ "address": address })
}

/// Describes a server with these arguments, beside its addresses and log level.
fn started_server(arguments: &[String]) -> Value {
    let command: Vec<&str> =
        ["eventserver"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    json!({ "command": command })
}

/// Returns the selected server: started now, or already running.
fn server(flags: TargetFlags<'_>, core: Option<usize>) -> Result<Server, Error> {
    server_with(flags, &[], core)
}

/// The same; a started server also gets the arguments `own`, unless the flags set them.
fn server_with(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Error> {
    server_from(flags, || ServerCommand::event_server(&server_arguments(flags, own), core))
}

/// The same; a started server has a captured log with totals.
fn server_with_log(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Error> {
    server_from(flags, || ServerCommand::event_server_with_log(&server_arguments(flags, own), core))
}

/// Starts the server that `command` describes, or selects the one that is already running.
fn server_from(
    flags: TargetFlags<'_>,
    command: impl FnOnce() -> io::Result<ServerCommand>,
) -> Result<Server, Error> {
    if flags.spawn { Ok(Server::start(&command()?)?) } else { external_server(flags) }
}

fn external_server(flags: TargetFlags<'_>) -> Result<Server, Error> {
    let ports = Ports::resolve(flags, &variable)?;
    Ok(Server::external(flags.host, ports.events, ports.clients, flags.server_process)?)
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

/// Initializes logging to standard error, so that standard output has only the result.
fn start_logging(level: LevelFilter) {
    let config = simplelog::ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_max_level(LevelFilter::Off)
        .build();
    // It fails if a logger is already installed, which is fine.
    let _ = simplelog::WriteLogger::init(level, config, io::stderr());
}
