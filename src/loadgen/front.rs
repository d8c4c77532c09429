//! From the command line to a command and an exit status.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use argh::{EarlyExit, FromArgs};
use log::{LevelFilter, error, info};
use serde_json::{Value, json};

use super::cli::{Arguments, Command, Limit, Pinned, Verify};
use super::limit;
use super::mix::Mix;
use super::pinned::{self, Cores};
use super::process::{machine, pin_to};
use super::server::{Program, Server};
use super::settings::{
    MEASURED_TOTAL_EVENTS, ORIGINAL_TOTAL_EVENTS, Ports, Settings, TRY_OUT_TOTAL_EVENTS,
};
use super::verify::{self, LIMIT_SERVER, introduction, result_json, summary};

/// Everything was as it should be.
const RIGHT: u8 = 0;
/// A client received what it should not have, or the run failed.
const WRONG: u8 = 1;
/// Flags or variables cannot be used.
const MISUSED: u8 = 2;

/// How a command ended, when not with a result.
enum Failure {
    Misused(String),
    Failed(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Failed(error)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Misused(message)
    }
}

/// Whether the server did right.
type Verdict = Result<bool, Failure>;

/// Runs the program with the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let verdict = match arguments[..] {
        [] => obey(&["verify"]),
        [LIMIT_SERVER, plan] => serve_limit(plan),
        ref arguments => obey(arguments),
    };
    ExitCode::from(match verdict {
        Ok(true) => RIGHT,
        Ok(false) => WRONG,
        Err(Failure::Failed(error)) => complain(error, WRONG),
        Err(Failure::Misused(message)) => complain(message, MISUSED),
    })
}

fn complain(what: impl Display, status: u8) -> u8 {
    // The logger may not be there yet, or be told to be quiet; this is said in any case.
    eprintln!("loadgen: {what}");
    status
}

fn obey(arguments: &[&str]) -> Verdict {
    let arguments = match Arguments::from_args(&["loadgen"], arguments) {
        Ok(arguments) => arguments,
        Err(EarlyExit { output, status: Ok(()) }) => {
            println!("{output}");
            return Ok(true);
        }
        Err(EarlyExit { output, status: Err(()) }) => return Err(Failure::Misused(output)),
    };
    match arguments.command {
        Command::Verify(flags) => run_verify(&flags),
        Command::Limit(flags) => run_limit(&flags),
        Command::Pinned(flags) => run_pinned(&flags),
    }
}

fn serve_limit(plan: &str) -> Verdict {
    let plan = serde_json::from_str(plan).map_err(|error| error.to_string())?;
    limit::serve(plan)?;
    Ok(true)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn run_verify(flags: &Verify) -> Verdict {
    let default_total = if flags.spawn { TRY_OUT_TOTAL_EVENTS } else { ORIGINAL_TOTAL_EVENTS };
    let settings = Settings::resolve(flags.load(flags.mix.clone()), &variable, default_total)?;
    start_logging(settings.log_level);
    info!("{}", introduction("verify", &settings));
    pin(flags.cpu)?;
    let server = if flags.spawn {
        let program = Program::event_server(&flags.server_arg, flags.server_cpu)?;
        Server::start(&program, flags.cpu)?
    } else {
        let ports = Ports::resolve(
            flags.event_port.or(flags.event_listener_port),
            flags.client_port.or(flags.client_listener_port),
            &variable,
        )?;
        Server::running(&flags.host, ports.events, ports.clients, flags.server_pid)?
    };
    let outcome = verify::verify(&settings, server, flags.report.is_some())?;
    print!("{}", summary(&outcome));
    write_json(flags.json.as_deref(), &result_json("verify", &settings, &outcome))?;
    Ok(outcome.faults.is_empty())
}

fn run_limit(flags: &Limit) -> Verdict {
    let load = flags.load(flags.mix.clone());
    let settings = Settings::resolve(load, &variable, MEASURED_TOTAL_EVENTS)?;
    start_logging(settings.log_level);
    info!("{}", introduction("limit", &settings));
    pin(flags.cpu)?;
    let outcome = verify::limit(&settings, flags.cpu, flags.server_cpu)?;
    print!("{}", summary(&outcome));
    write_json(flags.json.as_deref(), &result_json("limit", &settings, &outcome))?;
    Ok(outcome.faults.is_empty())
}

fn run_pinned(flags: &Pinned) -> Verdict {
    let mixes = if flags.mix.is_empty() { all_mixes()? } else { flags.mix.clone() };
    let cores = Cores { own: flags.cpu, server: flags.server_cpu };
    let program = Program::event_server(&flags.server_arg, cores.server)?;
    let mut rows = Vec::new();
    for mix in mixes {
        let load = flags.load(Some(mix));
        let settings = Settings::resolve(load, &variable, MEASURED_TOTAL_EVENTS)?;
        start_logging(settings.log_level);
        info!("{}", introduction("pinned", &settings));
        pin(cores.own)?;
        rows.push(pinned::measure(&settings, &program, cores, flags.runs)?);
    }
    print!("{}", pinned::table(&rows));
    let result = json!({ "command": "pinned", "machine": machine(), "rows": rows });
    write_json(flags.json.as_deref(), &result)?;
    Ok(true)
}

fn all_mixes() -> Result<Vec<Mix>, String> {
    Mix::names().map(str::parse).collect()
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

fn pin(core: Option<usize>) -> io::Result<()> {
    core.map_or(Ok(()), pin_to)
}

fn write_json(file: Option<&Path>, result: &Value) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(result)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| {
        error!("the result cannot be kept");
        io::Error::new(error.kind(), format!("{}: {error}", file.display()))
    })
}
