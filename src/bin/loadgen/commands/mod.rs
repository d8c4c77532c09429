//! From the command line to a command and an exit status.

mod fairness;
mod idle;
mod latency;
pub(crate) mod run;
pub(crate) mod soak;
mod throughput;
mod verify;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use argh::{EarlyExit, FromArgs};
use log::{LevelFilter, info};
use serde_json::{Value, json};

use crate::args::{
    Arguments, Command, Fairness, Idle, Latency, Limit, Pinned, Pubsub, Replay, Soak, Verify,
};
use crate::client::flood;
use crate::client::open_loop::{Kind, Schedule};
use crate::commands::latency::{Comparison, Experiment};
use crate::commands::run::{Manner, Outcome};
use crate::commands::verify::{LIMIT_SERVER, introduction, result_json, summary};
use crate::options::{
    CommonFlags, Habits, MEASURED_TOTAL_EVENTS, ORIGINAL_TOTAL_EVENTS, Ports, TRY_OUT_TOTAL_EVENTS,
    TargetFlags,
};
use crate::output::html;
use crate::output::html::Chart;
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs;
use crate::target::launcher::{self, LAUNCHER};
use crate::target::server::{Program, Server};
use crate::target::{baseline, relay};
use crate::workload::capture;
use crate::workload::capture::{Gaps, Pace, ServerRules};
use crate::workload::generated::Plan;
use crate::workload::mix::Mix;
use crate::workload::pubsub::PubsubLoad;

/// The subcommand, not for people, that serves the relay.
const RELAY_SERVER: &str = "serve-relay";
/// Chooses the users of a replay, where only some connect.
const SEED: u64 = 666;

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
pub(crate) fn main() -> ExitCode {
    ExitCode::from(match run_program() {
        Ok(true) => RIGHT,
        Ok(false) => WRONG,
        Err(Failure::Failed(error)) => {
            let status = Interrupted::of(&error).map_or(WRONG, Interrupted::status);
            complain(error, status)
        }
        Err(Failure::Misused(message)) => complain(message, MISUSED),
    })
}

fn run_program() -> Verdict {
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
        [] => obey(&["verify"]),
        [LIMIT_SERVER, plan] => serve_limit(plan),
        [RELAY_SERVER, plan] => serve_relay(plan),
        ref arguments => obey(arguments),
    }
}

fn complain(what: impl Display, status: u8) -> u8 {
    // The logger may not be there yet, or be told to be quiet; this is said in any case, and where
    // nobody takes it the exit status still tells.
    let _ = writeln!(io::stderr(), "loadgen: {}", what.to_string().trim_end());
    status
}

fn obey(arguments: &[&str]) -> Verdict {
    let arguments = match Arguments::from_args(&["loadgen"], arguments) {
        Ok(arguments) => arguments,
        Err(EarlyExit { output, status: Ok(()) }) => {
            show(&format!("{output}\n"));
            return Ok(true);
        }
        Err(EarlyExit { output, status: Err(()) }) => return Err(Failure::Misused(output)),
    };
    procfs::raise_descriptor_limit();
    interrupt::watch_signals()?;
    let verdict = match arguments.command {
        Command::Verify(flags) => run_verify(&flags),
        Command::Latency(flags) => run_latency(&flags),
        Command::Replay(flags) => run_replay(&flags),
        Command::Idle(flags) => run_idle(&flags),
        Command::Limit(flags) => run_limit(&flags),
        Command::Pinned(flags) => run_pinned(&flags),
        Command::Pubsub(flags) => run_pubsub(&flags),
        Command::Fairness(flags) => run_fairness(&flags),
        Command::Soak(flags) => run_soak(&flags),
    };
    // What there was until a signal came has been told.
    verdict.and_then(|is_right| Ok(interrupt::check().map(|()| is_right)?))
}

fn serve_limit(plan: &str) -> Verdict {
    procfs::raise_descriptor_limit();
    let plan = serde_json::from_str(plan).map_err(|error| error.to_string())?;
    baseline::serve(plan)?;
    Ok(true)
}

fn serve_relay(plan: &str) -> Verdict {
    procfs::raise_descriptor_limit();
    let plan = serde_json::from_str(plan).map_err(|error| error.to_string())?;
    relay::serve(plan)?;
    Ok(true)
}

/// A variable that is not UTF-8 is one with a wrong value.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Makes logs and this process's core what the flags say.
fn begin(flags: CommonFlags, core: Option<usize>) -> Result<Habits, Failure> {
    let habits = Habits::resolve(flags, &variable)?;
    start_logging(habits.log_level);
    if let Some(core) = core {
        procfs::pin_to(core)?;
    }
    Ok(habits)
}

/// The server that the flags mean: started now, or running already.
fn server(flags: TargetFlags<'_>, core: Option<usize>) -> Result<Server, Failure> {
    server_with(flags, &[], core)
}

/// The same; it is started with the arguments `own` too, but for those that the flags give.
fn server_with(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Failure> {
    if !flags.spawn {
        return running_server(flags);
    }
    let program = Program::event_server(&server_arguments(flags, own), core)?;
    Ok(Server::start(&program)?)
}

/// The same, its log and totals to be read where it is started now.
fn watched_server(
    flags: TargetFlags<'_>,
    own: &[(&str, u64)],
    core: Option<usize>,
) -> Result<Server, Failure> {
    if !flags.spawn {
        return running_server(flags);
    }
    let program = Program::watched_event_server(&server_arguments(flags, own), core)?;
    Ok(Server::start(&program)?)
}

fn running_server(flags: TargetFlags<'_>) -> Result<Server, Failure> {
    let ports = Ports::resolve(flags, &variable)?;
    Ok(Server::running(flags.host, ports.events, ports.clients, flags.server_process)?)
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

fn run_verify(flags: &Verify) -> Verdict {
    let total = if flags.spawn { TRY_OUT_TOTAL_EVENTS } else { ORIGINAL_TOTAL_EVENTS };
    let plan = Plan::resolve(flags.load(flags.mix.clone()), &variable, total)?;
    let habits = begin(flags.common(), flags.cpu)?;
    let introduction = introduction("verify", &plan);
    info!("{introduction}");
    let server = server(flags.target(), flags.server_cpu)?;
    let outcome = verify::verify(&plan, habits, server, flags.report.is_some())?;
    show(&summary(&outcome));
    let result = result_json("verify", &plan, &outcome);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &course(&outcome))?;
    Ok(outcome.faults.is_empty())
}

/// The charts of a run that was sampled.
fn course(outcome: &Outcome) -> Vec<Chart> {
    let mut charts = Chart::throughput(&outcome.samples);
    charts.extend(Chart::queues(&outcome.samples));
    charts
}

fn run_latency(flags: &Latency) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let experiment = Experiment {
        schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
        clients: flags.clients,
        timeout: habits.timeout,
    };
    let mut introduction = latency::introduction(&experiment);
    if flags.busy_relay {
        introduction.push_str("; the relay spins");
    }
    info!("{introduction}");
    if flags.find_knee {
        return search_knee(flags, experiment, &introduction);
    }
    let (target, core) = (flags.target(), flags.server_cpu);
    let start = || {
        server(target, core).map_err(|failure| match failure {
            Failure::Failed(error) => error,
            Failure::Misused(message) => io::Error::other(message),
        })
    };
    let plan = relay::Plan { clients: experiment.clients, spins: flags.busy_relay };
    let start_relay = || relay_server(plan, core);
    let start_relay: Option<&dyn Fn() -> io::Result<Server>> =
        if flags.relay || flags.busy_relay { Some(&start_relay) } else { None };
    let comparison = latency::compare(experiment, flags.runs, &start, start_relay)?;
    if comparison.is_empty() {
        return Ok(false);
    }
    show_latency(&introduction, &comparison, flags.json.as_deref(), flags.report.as_deref())?;
    if let Some(file) = &flags.hgrm {
        write_file(file, &latency::hgrm(comparison.server.corrected()))?;
    }
    Ok(true)
}

fn search_knee(flags: &Latency, experiment: Experiment, introduction: &str) -> Verdict {
    let server = server(flags.target(), flags.server_cpu)?;
    let steps = latency::find_knee(experiment, flags.p99_us, server)?;
    let knee = latency::knee(&steps);
    let found = match knee {
        Some(rate) => format!("KNEE at {rate:.0} events/s: p99 up to {} µs\n", flags.p99_us),
        None => format!("NO RATE keeps p99 up to {} µs\n", flags.p99_us),
    };
    show(&format!("{}{found}", interruption()));
    let result = json!({
        "command": "latency", "experiment": introduction, "machine": procfs::machine(),
        "knee": { "p99BoundUs": flags.p99_us, "rate": knee }, "steps": steps,
    });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), introduction, &result, &[])?;
    Ok(true)
}

fn show_latency(
    introduction: &str,
    comparison: &Comparison,
    json: Option<&Path>,
    report: Option<&Path>,
) -> io::Result<()> {
    show(&format!("{}{introduction}\n{}", interruption(), comparison.table()));
    let result = json!({
        "command": "latency", "experiment": introduction, "machine": procfs::machine(),
        "ok": !interrupt::has_come(), "figures": comparison.figures(),
    });
    write_json(json, &result)?;
    let server = &comparison.server;
    let mut curves = vec![("from due time", server.corrected()), ("from sending", server.raw())];
    if let Some(relay) = &comparison.relay {
        curves.push(("relay, from due time", relay.corrected()));
    }
    write_report(report, introduction, &result, &[Chart::percentiles(&curves)])
}

fn schedule(rate: f64, seconds: f64, broadcast: bool, busy: bool) -> Schedule {
    let kind = if broadcast { Kind::Broadcast } else { Kind::Private };
    Schedule { kind, rate, duration: Duration::from_secs_f64(seconds), busy }
}

fn relay_server(plan: relay::Plan, core: Option<usize>) -> io::Result<Server> {
    let plan = serde_json::to_string(&plan)?;
    Server::start(&Program::built_in(RELAY_SERVER, plan, core)?)
}

fn run_replay(flags: &Replay) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let pace = match (flags.rate, flags.speed) {
        (None, None) => Pace::FullSpeed,
        (Some(rate), None) => Pace::Rate(rate),
        (None, Some(speed)) => Pace::Recorded(speed),
        (Some(_), Some(_)) => return Err("--rate and --speed exclude each other".to_owned())?,
    };
    let rules = replay_rules(flags);
    let survey = capture::survey(&flags.file, rules).map_err(unusable_is_misuse)?;
    let users = capture::choose_users(&flags.users, &survey, SEED).map_err(unusable_is_misuse)?;
    let introduction = format!(
        "replay: {} lines of {}: {survey}; {} users connected",
        survey.lines,
        flags.file.display(),
        users.len()
    );
    info!("{introduction}");
    let own = [("--first-sequence", survey.first_sequence)];
    let mut server = server_with(flags.target(), &own, flags.server_cpu)?;
    let manner = Manner {
        sample: flags.report.is_some(),
        check: !flags.no_verify,
        ..Manner::new(survey.lines, habits)
    };
    let mut load = capture::Replay::open(&flags.file, &survey, rules, &users, pace)?;
    let outcome = run::run(&mut load, &users, &mut server, manner)?;
    if outcome.is_interrupted {
        drop(server);
    } else {
        server.stop()?;
    }
    // Where nobody received them, nothing is known of them.
    let nobody_received = rules.gaps == Gaps::Waits && !flags.no_verify;
    let unsent = survey.unsent().filter(|_| nobody_received || !outcome.faults.is_empty());
    let unsent = unsent.filter(|_| !outcome.is_interrupted);
    let is_right = outcome.faults.is_empty() && unsent.is_none() && !outcome.is_interrupted;
    let verdict = match &unsent {
        _ if flags.no_verify => format!("{}NOT CHECKED\n{}", interruption(), outcome.figures),
        Some(unsent) if outcome.faults.is_empty() => {
            format!("NOT AS EXPECTED\n  {unsent}\n{}", outcome.figures)
        }
        Some(unsent) => format!("{}  {unsent}\n", summary(&outcome)),
        None => summary(&outcome),
    };
    show(&format!("{verdict}  capture     {survey}\n"));
    let settings = json!({
        "file": flags.file, "users": users.len(), "rate": flags.rate, "speed": flags.speed,
        "checked": !flags.no_verify,
    });
    let mut result = result_json("replay", &settings, &outcome);
    result["ok"] = json!(is_right);
    result["capture"] = json!(survey);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &course(&outcome))?;
    Ok(is_right)
}

/// The settings of the server as far as the flags tell.
fn replay_rules(flags: &Replay) -> ServerRules {
    let target = flags.target();
    let waits = target.spawn && target.server_number("--gap-timeout-ms").unwrap_or(0) == 0;
    ServerRules {
        first_sequence: flags.first_sequence.or(target.server_number("--first-sequence")),
        gaps: if waits { Gaps::Waits } else { Gaps::GivesUp },
    }
}

/// A file that cannot be used was the wrong argument.
fn unusable_is_misuse(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidInput => Failure::Misused(error.to_string()),
        _ => Failure::Failed(error),
    }
}

fn run_idle(flags: &Idle) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let (clients, core) = (flags.clients, flags.server_cpu);
    let introduction = format!("idle: {clients} clients that receive nothing, then one broadcast");
    info!("{introduction}");
    let figures = idle::idle(server(flags.target(), core)?, clients, habits.timeout)?;
    show(&format!("{introduction}\n{}", figures.table()));
    let relay = if flags.relay {
        let plan = relay::Plan { clients, spins: false };
        let relay = idle::idle(relay_server(plan, core)?, clients, habits.timeout)?;
        let ratio = figures.last_us() / relay.last_us();
        show(&format!("relay\n{}  ratio       {ratio:.2} to the last client\n", relay.table()));
        Some(relay)
    } else {
        None
    };
    let result = json!({
        "command": "idle", "machine": procfs::machine(), "ok": true,
        "figures": figures, "relay": relay,
    });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &[])?;
    Ok(true)
}

fn run_limit(flags: &Limit) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let plan = Plan::resolve(flags.load(flags.mix.clone()), &variable, MEASURED_TOTAL_EVENTS)?;
    let core = flags.server_cpu;
    if flags.relay {
        let experiment = Experiment {
            schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
            clients: plan.clients,
            timeout: habits.timeout,
        };
        let introduction = format!("relay, {}", latency::introduction(&experiment));
        let plan = relay::Plan { clients: experiment.clients, spins: false };
        let start = || relay_server(plan, core);
        let comparison = latency::compare(experiment, 1, &start, None)?;
        if comparison.is_empty() {
            return Ok(false);
        }
        show_latency(&introduction, &comparison, flags.json.as_deref(), flags.report.as_deref())?;
        return Ok(true);
    }
    let introduction = introduction("limit", &plan);
    info!("{introduction}");
    let outcome = verify::limit(&plan, habits, core)?;
    show(&summary(&outcome));
    let result = result_json("limit", &plan, &outcome);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &[])?;
    Ok(outcome.faults.is_empty())
}

fn run_pinned(flags: &Pinned) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let mixes = if flags.mix.is_empty() { all_mixes()? } else { flags.mix.clone() };
    let program = Program::event_server(&flags.server_arg, flags.server_cpu)?;
    let mut rows = Vec::new();
    for mix in mixes {
        let plan = Plan::resolve(flags.load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)?;
        info!("{}", introduction("pinned", &plan));
        match throughput::measure(&plan, habits, &program, flags.runs) {
            Ok(row) => rows.push(row),
            Err(error) if Interrupted::of(&error).is_some() => break,
            Err(error) => return Err(error.into()),
        }
    }
    show(&format!("{}{}", interruption(), throughput::table(&rows)));
    let result = json!({ "command": "pinned", "machine": procfs::machine(), "rows": rows });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), "pinned: server and limit in turn", &result, &[])?;
    Ok(true)
}

fn all_mixes() -> Result<Vec<Mix>, String> {
    Mix::names().map(str::parse).collect()
}

fn run_pubsub(flags: &Pubsub) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let mix = flags.mix.clone().map_or_else(|| "private".parse(), Ok)?;
    let plan = Plan::resolve(flags.load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)?;
    let mut load = PubsubLoad::new(flags.dialect, plan.clone())?;
    let users = load.clients().to_vec();
    let introduction = introduction("pubsub", &plan);
    info!("{introduction}");
    let mut server = Server::running(&flags.host, flags.port, flags.port, flags.server_pid)?;
    let manner = Manner::new(plan.total_events, habits);
    let outcome = run::run(&mut load, &users, &mut server, manner)?;
    show(&summary(&outcome));
    let settings = json!({ "dialect": flags.dialect, "plan": plan });
    let result = result_json("pubsub", &settings, &outcome);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &[])?;
    Ok(outcome.faults.is_empty())
}

fn run_fairness(flags: &Fairness) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let identify_timeout = flags.identify_timeout_ms.or(flags.spawn.then_some(100));
    let experiment = fairness::Experiment {
        load: flood::Load {
            mix: flags.mix.clone().map_or_else(|| "even".parse(), Ok)?,
            users: 10 * flags.clients as u64,
            crowd: flags.clients,
        },
        duration: Duration::from_secs_f64(flags.duration),
        interval: Duration::from_secs_f64(flags.interval_ms / 1000.0),
        identify_timeout: identify_timeout.map(Duration::from_millis),
        bound: Duration::from_secs_f64(flags.bound_ms / 1000.0),
        timeout: habits.timeout,
    };
    if experiment.load.mix.weights.broadcast == 0 {
        Err("--mix: without broadcasts a new client may wait for ever".to_owned())?;
    }
    let introduction = experiment.introduction();
    info!("{introduction}");
    let own: Vec<_> =
        identify_timeout.map(|ms| ("--identify-timeout-ms", ms)).into_iter().collect();
    let server = watched_server(flags.target(), &own, flags.server_cpu)?;
    let outcome = fairness::measure(&experiment, server)?;
    show(&format!("{}{introduction}\n{}", interruption(), outcome.table()));
    let result = json!({
        "command": "fairness", "experiment": introduction, "machine": procfs::machine(),
        "figures": outcome.figures(),
    });
    write_json(flags.json.as_deref(), &result)?;
    let charts = [Chart::percentiles(&outcome.curves())];
    write_report(flags.report.as_deref(), &introduction, &result, &charts)?;
    Ok(outcome.is_kept())
}

/// Limits that a soak reaches every few seconds, where the usual ones would take it hours.
const SOAKED_SERVER: [(&str, u64); 3] = [
    ("--identify-timeout-ms", 1000),
    ("--client-queue-bytes", 65_536),
    ("--stall-timeout-ms", 2000),
];

fn run_soak(flags: &Soak) -> Verdict {
    let habits = begin(flags.common(), flags.cpu)?;
    let duration = match (flags.minutes, flags.seconds) {
        (Some(_), Some(_)) => Err("--minutes and --seconds exclude each other".to_owned())?,
        (Some(minutes), None) => Duration::from_secs_f64(minutes * 60.0),
        (None, seconds) => Duration::from_secs_f64(seconds.unwrap_or(60.0)),
    };
    let plan = soak::Plan {
        mix: flags.mix.clone().map_or_else(|| "even".parse(), Ok)?,
        pace: soak::Pace { rate: flags.rate, burst: flags.burst },
        sources: flags.sources,
        steady: flags.clients,
        visits: flags.visits,
        seed: flags.random_seed,
        duration,
        every: Duration::from_secs_f64(flags.every),
        timeout: habits.timeout,
    };
    let introduction = plan.introduction();
    info!("{introduction}");
    let server = watched_server(flags.target(), &SOAKED_SERVER, flags.server_cpu)?;
    let outcome = soak::soak(&plan, server, &mut |row| show(row))?;
    show(&format!("{introduction}\n{}", outcome.summary()));
    let result = json!({
        "command": "soak", "experiment": introduction, "machine": procfs::machine(),
        "ok": outcome.is_right(), "figures": outcome.figures(),
    });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &Chart::soak(&outcome.samples))?;
    Ok(outcome.is_right())
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

/// A line before what there is so far, where a signal has come.
fn interruption() -> &'static str {
    if interrupt::has_come() { "INTERRUPTED\n" } else { "" }
}

/// Prints a result. Where nobody reads it any more, the exit status still tells.
fn show(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn write_json(file: Option<&Path>, result: &Value) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(result)?;
    text.push('\n');
    write_file(file, &text)
}

fn write_report(
    file: Option<&Path>,
    title: &str,
    result: &Value,
    charts: &[Chart],
) -> io::Result<()> {
    file.map_or(Ok(()), |file| write_file(file, &html::page(title, result, charts)))
}

fn write_file(file: &Path, text: &str) -> io::Result<()> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    std::fs::write(file, text).map_err(name)
}
