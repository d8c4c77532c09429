//! Subcommands: dispatch, common initialization, and exit status.

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

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use log::{LevelFilter, info};

use crate::args::Command;
use crate::cli::wrap::wrap_lines;
use crate::cli::{self, Invocation};
use crate::options::{CommonFlags, CommonOptions, Endpoints, TargetFlags};
use crate::output::print;
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

/// All exit statuses, for `--help`.
pub(crate) const EXIT_STATUSES: [(&str, &str); 5] = [
    ("0", "everything matched"),
    ("1", "something did not match, a bound was exceeded, or the run failed"),
    ("2", "wrong flags or variables"),
    ("3", "inconclusive: the machine was too busy to judge, or a search found nothing"),
    ("128 + N", "ended by signal N, with the results so far: 130 after Ctrl-C"),
];

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

/// `true` if all checks passed.
type CommandResult = Result<bool, Error>;

/// Runs the program with the arguments and environment of this process.
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
        [BASELINE_SERVER, spec] => serve_baseline(spec),
        [RELAY_SERVER, spec] => serve_relay(spec),
        ref arguments => run_command(arguments),
    }
}

fn report_error(what: impl Display, status: u8) -> u8 {
    // Written even without a logger or with logging off. If standard error is closed, only the exit
    // status reports it.
    let message = format!("loadgen: {}\n", what.to_string().trim_end());
    let _ = io::stderr().write_all(fit_stderr(&message).as_bytes());
    status
}

fn run_command(arguments: &[&str]) -> CommandResult {
    let with_pointer = |message| format!("{message}\n{}", cli::pointer_to_help(arguments));
    match cli::parse(arguments).map_err(with_pointer)? {
        Invocation::Print(text) => {
            print(&format!("{}\n", text.trim_end()));
            Ok(true)
        }
        Invocation::Run(command) => {
            run(&command, arguments.is_empty()).map_err(|error| match error {
                Error::Usage(message) => Error::Usage(with_pointer(message)),
                Error::Run(error) => Error::Run(error),
            })
        }
    }
}

/// Runs a command; `is_default` if it was not named.
fn run(command: &Command, is_default: bool) -> CommandResult {
    procfs::raise_fd_limit();
    interrupt::watch_signals()?;
    let verdict = match command {
        Command::Verify(flags) => verify::run(flags, is_default),
        Command::Latency(flags) => latency::run(flags),
        Command::Replay(flags) => replay::run(flags),
        Command::Idle(flags) => idle::run(flags),
        Command::Baseline(flags) => baseline::run(flags),
        Command::Throughput(flags) => throughput::run(flags),
        Command::Pubsub(flags) => pubsub::run(flags),
        Command::Fairness(flags) => fairness::run(flags),
        Command::Soak(flags) => soak::run(flags),
    };
    // The results up to the signal have been printed.
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

/// Reads a variable; one that is not UTF-8 is kept as an invalid value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// CPUs to which this program and the servers that it starts are pinned.
#[derive(Clone, Copy, Default)]
struct Pinning {
    own: Option<usize>,
    server: Option<usize>,
}

/// Applies the common flags: logging and affinity.
fn init(flags: CommonFlags, pinning: Pinning) -> Result<CommonOptions, Error> {
    let common = CommonOptions::resolve(flags, &variable)?;
    start_logging(common.log_level);
    let pinned = [("--cpu", pinning.own), ("--server-cpu", pinning.server)];
    for (flag, cpu) in pinned.into_iter().filter_map(|(flag, cpu)| Some((flag, cpu?))) {
        procfs::check_cpu(cpu).map_err(|why| format!("{flag} {cpu}: {why}"))?;
    }
    if let Some(cpu) = pinning.own {
        procfs::set_affinity(cpu)?;
    }
    Ok(common)
}

/// Logs what is about to be done.
fn announce(description: &str) {
    info!("{}", fit_stderr(description));
}

/// Wraps a message if standard error is a terminal.
fn fit_stderr(message: &str) -> Cow<'_, str> {
    match io::stderr().is_terminal() {
        true => Cow::Owned(wrap_lines(message)),
        false => Cow::Borrowed(message),
    }
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
    let endpoints = Endpoints::resolve(flags, &variable)?;
    Ok(Server::external(&endpoints, flags.server_process)?)
}

/// Starts the relay on `core`.
fn relay_server(spec: relay::RelaySpec, core: Option<usize>) -> io::Result<Server> {
    let spec = serde_json::to_string(&spec)?;
    Server::start(&ServerCommand::built_in(RELAY_SERVER, spec, core)?)
}

fn server_arguments(flags: TargetFlags<'_>, own: &[(&str, u64)]) -> Vec<String> {
    let mut arguments = flags.server_arguments.to_vec();
    for (flag, value) in own {
        if !flags.has_server_flag(flag) {
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
