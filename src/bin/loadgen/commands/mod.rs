//! Subcommands: dispatch, common initialization, and exit status.

mod compare;
mod fairness;
mod idle;
mod latency;
mod limit;
mod pinned;
mod pubsub;
mod replay;
mod restarts;
mod several;
mod soak;
mod top;
mod verify;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use log::{LevelFilter, info};

use serde_json::{Value, json};

use crate::args::Command;
use crate::cli::address::{Address, ServerAddress};
use crate::cli::wrap::wrap_lines;
use crate::cli::{self, Invocation};
use crate::options::{CommonFlags, CommonOptions, Endpoint, Endpoints, TargetFlags};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::{OutputFiles, print};
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs::Process;
use crate::sys::{affinity, descriptors};
use crate::target;
use crate::target::admin::AdminPort;
use crate::target::baseline::BASELINE_SERVER;
use crate::target::launcher::{self, LAUNCHER};
use crate::target::monitor::Monitor;
use crate::target::relay::{self, RELAY_SERVER};
use crate::target::server::{Addresses, LogMode, Member, Server, ServerCommand, resolve};

/// Success.
const EXIT_SUCCESS: u8 = 0;
/// A check failed, or the run failed.
const EXIT_FAILURE: u8 = 1;
/// Invalid flags or variables.
const EXIT_USAGE: u8 = 2;
/// The figures do not answer the question.
const EXIT_INCONCLUSIVE: u8 = 3;

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

type CommandResult = Result<Verdict, Error>;

/// Runs the program with the arguments and environment of this process.
pub(crate) fn main() -> ExitCode {
    ExitCode::from(match run_program() {
        // The results up to the signal have been printed.
        Ok(_) if interrupt::has_come() => interrupt::status(),
        Ok(Verdict::Passed) => EXIT_SUCCESS,
        Ok(Verdict::Failed | Verdict::Interrupted) => EXIT_FAILURE,
        Ok(Verdict::Inconclusive) => EXIT_INCONCLUSIVE,
        Err(Error::Run(error)) if Interrupted::of(&error).is_some() => {
            report_error(error, interrupt::status())
        }
        Err(Error::Run(error)) => report_error(error, EXIT_FAILURE),
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
            Ok(Verdict::Passed)
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
    descriptors::raise_fd_limit();
    interrupt::watch_signals()?;
    match command {
        Command::Verify(flags) => verify::run(flags, is_default),
        Command::Latency(flags) => latency::run(flags),
        Command::Replay(flags) => replay::run(flags),
        Command::Idle(flags) => idle::run(flags),
        Command::Limit(flags) => limit::run(flags),
        Command::Pinned(flags) => pinned::run(flags),
        Command::Pubsub(flags) => pubsub::run(flags),
        Command::Fairness(flags) => fairness::run(flags),
        Command::Soak(flags) => soak::run(flags),
        Command::Compare(flags) => compare::run(flags),
        Command::Top(flags) => top::run(flags),
    }
}

fn serve_baseline(spec: &str) -> CommandResult {
    descriptors::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    served(target::baseline::serve(spec))
}

fn serve_relay(spec: &str) -> CommandResult {
    descriptors::raise_fd_limit();
    let spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    served(relay::serve(spec))
}

/// Treats a load generator that left early as the end of a run: it reports the reason itself.
fn served(result: io::Result<()>) -> CommandResult {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match result {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
            Ok(Verdict::Passed)
        }
        result => Ok(result.map(|()| Verdict::Passed)?),
    }
}

/// Reads a variable; one that is not UTF-8 is kept as an invalid value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Applies the common flags: logging and affinity. Servers are pinned when they are started.
fn init(
    flags: CommonFlags,
    cpu: Option<usize>,
    server_cpu: Option<usize>,
) -> Result<CommonOptions, Error> {
    let common = CommonOptions::resolve(flags, &variable)?;
    start_logging(common.log_level);
    let pinned = [("--cpu", cpu), ("--server-cpu", server_cpu)];
    for (flag, cpu) in pinned.into_iter().filter_map(|(flag, cpu)| Some((flag, cpu?))) {
        affinity::check_cpu(cpu).map_err(|why| format!("{flag} {cpu}: {why}"))?;
    }
    if let Some(cpu) = cpu {
        affinity::set_affinity(cpu)?;
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

/// Writes the result of a run to its files, and returns the verdict. A run without findings is a
/// result too.
fn conclude(plan: &Plan, files: OutputFiles, findings: Result<Findings, Error>) -> CommandResult {
    match findings {
        Ok(findings) => {
            files.write(plan, &findings)?;
            Ok(findings.verdict)
        }
        Err(Error::Run(error)) if Interrupted::of(&error).is_some() => {
            print("INTERRUPTED before any result\n");
            let reason = "A signal came before any result.";
            files.write(plan, &Findings::new(Verdict::Interrupted, reason))?;
            Ok(Verdict::Interrupted)
        }
        Err(Error::Run(error)) => {
            files.write(plan, &Findings::failed(vec![error.to_string()]))?;
            Err(Error::Run(error))
        }
        Err(Error::Usage(message)) => Err(Error::Usage(message)),
    }
}

/// Treats an interruption as success, because the results so far are kept.
fn unless_interrupted(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match Interrupted::of(&error) {
        Some(_) => Ok(()),
        None => Err(error),
    })
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
    if !flags.servers.is_empty() {
        let addresses = |it: &ServerAddress| {
            json!({
                "events": format!("{}:{}", it.host, it.events), "clients": format!("{}:{}", it.host, it.clients),
                "admin": it.admin.map(|admin| format!("{}:{admin}", it.host)),
            })
        };
        return flags.servers.iter().map(addresses).collect();
    }
    // Invalid addresses are reported when the server is selected.
    let addresses = Endpoints::resolve(flags, &variable).ok();
    let addresses = addresses.map(|Endpoints { events, clients }| {
        json!({ "events": events.to_string(), "clients": clients.to_string() })
    });
    addresses.unwrap_or_default()
}

/// Describes a server with these arguments, beside its addresses and log level.
fn started_server(arguments: &[String]) -> Value {
    let command: Vec<&str> =
        ["eventserver"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    json!({ "command": command })
}

/// The server under test, not started yet.
enum Target {
    Started(Box<ServerCommand>),
    Running(Addresses, Option<Monitor>),
    /// Several running servers that share a stream.
    Shared(Vec<Member>),
}

impl Target {
    /// Selects the server that the flags describe. One that will be started also gets the arguments
    /// `own`, unless the flags set them; its log is captured if `log` says so.
    ///
    /// # Errors
    ///
    /// There is no such program or host, or a variable is invalid.
    fn select(
        flags: TargetFlags<'_>,
        own: &[(&str, u64)],
        cpu: Option<usize>,
        log: LogMode,
    ) -> Result<Target, Error> {
        if flags.spawn {
            let command = ServerCommand::event_server(log, &server_arguments(flags, own), cpu)?;
            return Ok(Target::Started(Box::new(command)));
        }
        let members = members(flags.servers)?;
        if !members.is_empty() {
            return Ok(Target::Shared(members));
        }
        let addresses = Addresses::resolve(&Endpoints::resolve(flags, &variable)?)?;
        Ok(Target::Running(addresses, monitor(flags)?))
    }

    /// Starts the server if it is not running.
    ///
    /// # Errors
    ///
    /// It does not start.
    fn start(&self) -> io::Result<Server> {
        match self {
            Target::Started(command) => Server::start(command),
            Target::Running(addresses, monitor) => Ok(Server::external(*addresses, *monitor)),
            Target::Shared(members) => Ok(Server::shared(members.clone())),
        }
    }
}

/// Returns the servers that `--target` names.
///
/// # Errors
///
/// One is named twice, only some have an admin port, or there is no such host; or an admin port does not
/// answer.
fn members(servers: &[ServerAddress]) -> Result<Vec<Member>, Error> {
    let Some(first) = servers.first() else { return Ok(Vec::new()) };
    let mut members: Vec<Member> = Vec::with_capacity(servers.len());
    for ServerAddress { host, events, clients, admin } in servers {
        let resolve = |port: u16| resolve(&Endpoint { host: host.clone(), port });
        let named = format!("--target {host}:{events}:{clients}");
        if admin.is_some() != first.admin.is_some() {
            return Err(Error::Usage(format!(
                "{named}: either each --target has an ADMIN port, or none has: figures and state hashes are \
                 those of all servers"
            )));
        }
        let addresses = Addresses { events: resolve(*events)?, clients: resolve(*clients)? };
        if members.iter().any(|other| other.addresses.events == addresses.events) {
            return Err(Error::Usage(format!("{named} is given twice: each names another server")));
        }
        let admin = admin.map(resolve).transpose()?.map(AdminPort);
        if let Some(port) = admin {
            port.status()?;
        }
        members.push(Member { addresses, admin });
    }
    Ok(members)
}

/// Returns where the figures of a running server come from, if the flags say so.
///
/// # Errors
///
/// There is no such host, or its admin port does not answer.
fn monitor(flags: TargetFlags<'_>) -> Result<Option<Monitor>, Error> {
    let Some(address) = flags.admin else {
        return Ok(flags.server_process.map(monitor_process).transpose()?);
    };
    let port = admin_port(flags.host, address.clone())?;
    port.status()?;
    Ok(Some(Monitor::Admin(port)))
}

/// Returns where the figures of a process come from.
///
/// # Errors
///
/// There is no such process.
fn monitor_process(id: u32) -> Result<Monitor, String> {
    let process = Process { id };
    match process.cpu_time() {
        Some(_) => Ok(Monitor::Process(process)),
        None => Err(format!("--server-pid {id}: there is no such process")),
    }
}

/// Returns an admin port, on `host` unless the address names one.
///
/// # Errors
///
/// There is no such host.
fn admin_port(host: Option<&str>, address: Address) -> Result<AdminPort, Error> {
    Ok(AdminPort(resolve(&Endpoint::of_admin(host, address)?)?))
}

/// Returns the selected server: started now, or already running.
fn server(flags: TargetFlags<'_>, cpu: Option<usize>) -> Result<Server, Error> {
    server_with(flags, &[], cpu)
}

/// Returns the selected server; a started one also gets the arguments `own`, unless the flags set
/// them.
fn server_with(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    cpu: Option<usize>,
) -> Result<Server, Error> {
    Ok(Target::select(flags, own, cpu, LogMode::Forwarded)?.start()?)
}

/// Returns the selected server like [`server_with`]; a started one has a captured log with totals.
fn server_with_log(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    cpu: Option<usize>,
) -> Result<Server, Error> {
    Ok(Target::select(flags, own, cpu, LogMode::Captured)?.start()?)
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
