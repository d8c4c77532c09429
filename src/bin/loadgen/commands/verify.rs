//! `verify`: a generated load against a server, every byte checked.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::restarts::{self, RestartPlan};
use super::{CommandResult, conclude, members, merged, server, server_settings, several, variable};
use crate::args;
use crate::options::{Endpoints, ORIGINAL_TOTAL_EVENTS, TargetFlags};
use crate::output::document::Plan;
use crate::output::format::format_seconds;
use crate::output::{OutputFiles, print};
use crate::run::{Outcome, RunOptions, run_load};
use crate::target::server::{LogMode, Server, ServerCommand};
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};

/// Mean time after which the source moves between several servers.
const DEFAULT_MOVE_INTERVAL: Duration = Duration::from_secs(1);
/// Flag of the server with the number of events for which clients may come back.
const RESUME_FLAG: &str = "--resume-events";
/// Its value for a started server.
const RESUME_EVENTS: u64 = 1_000_000;

/// Runs the command; `is_default` if it was not named.
pub(super) fn run(flags: &args::Verify, is_default: bool) -> CommandResult {
    let load = flags.shuffled_load(flags.mix.clone());
    let spec = WorkloadSpec::resolve(load, &variable, ORIGINAL_TOTAL_EVENTS)?;
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let reconnect_every = flags.reconnect_every.map(Duration::from_secs_f64);
    let restarts = flags.restart_every.map(|seconds| RestartPlan {
        every: Duration::from_secs_f64(seconds),
        restarts: flags.restarts,
        reconnect_every,
    });
    let data_dir = flags.data_dir.as_deref().map(|directory| directory.display().to_string());
    let mut server_arguments = flags.server_arg.clone();
    server_arguments.extend(data_dir.into_iter().flat_map(|it| ["--data-dir".to_owned(), it]));
    if reconnect_every.is_some() && !flags.target().has_server_flag(RESUME_FLAG) {
        server_arguments.extend([RESUME_FLAG.to_owned(), RESUME_EVENTS.to_string()]);
    }
    let target = TargetFlags { server_arguments: &server_arguments, ..flags.targets() };
    let move_every = move_interval(flags)?;
    let plan = Plan {
        kind: match (restarts, move_every) {
            (Some(_), _) => "verify-restarts",
            (None, Some(_)) => "verify-shared",
            (None, None) => "verify",
        },
        description: describe(&spec, restarts, reconnect_every),
        settings: merged(
            json!(spec),
            json!({
                "sync": flags.sync || restarts.is_some() || move_every.is_some(),
                "restartEverySeconds": flags.restart_every, "restarts": flags.restarts,
                "moveEverySeconds": move_every.map(|every| every.as_secs_f64()),
                "reconnectEverySeconds": flags.reconnect_every, "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": server_settings(target, &[]),
            }),
        ),
    };
    if is_default {
        let Endpoints { events, clients } = Endpoints::resolve(target, &variable)?;
        super::announce(&format!(
            "without a command: `verify` against the server at {events} (events) and {clients} (clients), \
             as variables and defaults say; `loadgen --help` lists more"
        ));
    }
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        if let Some(restarts) = restarts {
            let command = ServerCommand::event_server(
                LogMode::Forwarded,
                &server_arguments,
                flags.server_cpu,
            )?;
            let outcome = restarts::verify(&spec, common, &command, restarts)?;
            print(&outcome.text());
            return Ok(outcome.findings());
        }
        if let Some(every) = move_every {
            let outcome = several::verify(&spec, common, &members(target.servers)?, every)?;
            print(&outcome.text());
            return Ok(outcome.findings());
        }
        let server = server(target, flags.server_cpu)?;
        let options = RunOptions {
            sample: flags.report.is_some(),
            sync: flags.sync,
            reconnect_every,
            ..RunOptions::new(spec.total_events, common)
        };
        let outcome = verify(&spec, server, options)?;
        print(&outcome.text());
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

/// Returns how often the source moves between several servers; `None` if there is one.
///
/// # Errors
///
/// It is to move, and there is no other server; or clients are to drop connections to several.
fn move_interval(flags: &args::Verify) -> Result<Option<Duration>, String> {
    if flags.servers.len() > 1 && flags.reconnect_every.is_some() {
        return Err("--reconnect-every has no effect with several --target: clients come back to one server"
            .to_owned());
    }
    match (flags.servers.len(), flags.move_every) {
        (0 | 1, None) => Ok(None),
        (0 | 1, Some(_)) => Err(
            "--move-every has no effect with one --target: the source has no other server to move to"
                .to_owned(),
        ),
        (_, every) => Ok(Some(every.map_or(DEFAULT_MOVE_INTERVAL, Duration::from_secs_f64))),
    }
}

fn describe(
    spec: &WorkloadSpec,
    restarts: Option<RestartPlan>,
    reconnect_every: Option<Duration>,
) -> String {
    let mut text = spec.describe("verify");
    if let Some(every) = reconnect_every {
        let every = format_seconds(every.as_secs_f64());
        text = format!("{text}, a client leaves and comes back about every {every}");
    }
    let Some(RestartPlan { every, restarts, .. }) = restarts else { return text };
    let text =
        format!("{text}, the server killed about every {}", format_seconds(every.as_secs_f64()));
    match restarts {
        // The number of events follows from that of the restarts.
        Some(restarts) => {
            let events = format!("{} events", spec.total_events);
            format!("{}, {restarts} times", text.replacen(&events, "events", 1))
        }
        None => text,
    }
}

/// Runs `spec` against `server` and stops the server.
///
/// # Errors
///
/// A connection fails, or the server does not stop properly.
pub(crate) fn verify(
    spec: &WorkloadSpec,
    mut server: Server,
    options: RunOptions,
) -> io::Result<Outcome> {
    let mut workload = GeneratedWorkload::new(spec.clone());
    let users = workload.clients().to_vec();
    let outcome = run_load(&mut workload, &users, &mut server, options)?;
    if !outcome.is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}
