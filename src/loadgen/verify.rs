//! `verify` and `limit`: a generated load against a server, every byte checked.

use std::io;

use serde_json::{Value, json};

use super::figures::Figures;
use super::process::{self, machine};
use super::run::{Manner, Outcome, run};
use super::server::{Program, Server};
use super::settings::Settings;
use super::workload::Workload;

/// Runs the load of `settings` against `server` and stops the server.
///
/// # Errors
///
/// A connection fails, or the server does not stop as it should.
pub(crate) fn verify(settings: &Settings, mut server: Server, sample: bool) -> io::Result<Outcome> {
    process::raise_descriptor_limit();
    let manner = manner(settings, false, sample);
    let mut workload = Workload::new(settings.plan.clone());
    let users = workload.clients().to_vec();
    let outcome = run(&mut workload, &users, &mut server, &manner)?;
    server.stop()?;
    Ok(outcome)
}

/// Runs the load of `settings` against a server that parses nothing.
///
/// # Errors
///
/// A connection fails.
pub(crate) fn limit(
    settings: &Settings,
    own_core: Option<usize>,
    server_core: Option<usize>,
) -> io::Result<Outcome> {
    process::raise_descriptor_limit();
    let plan = serde_json::to_string(&settings.plan)?;
    let program = Program::built_in(LIMIT_SERVER, plan, server_core)?;
    let mut server = Server::start(&program, own_core)?;
    let mut workload = Workload::new(settings.plan.clone());
    let users = workload.clients().to_vec();
    run(&mut workload, &users, &mut server, &manner(settings, true, false))
}

/// The subcommand, not for people, that serves the limit.
pub(crate) const LIMIT_SERVER: &str = "serve-limit";

fn manner(settings: &Settings, server_prepares: bool, sample: bool) -> Manner {
    Manner {
        total_events: settings.plan.total_events,
        timeout: settings.timeout,
        log_interval: settings.log_interval,
        server_prepares,
        sample,
    }
}

/// Says what will be done.
pub(crate) fn introduction(command: &str, settings: &Settings) -> String {
    let plan = &settings.plan;
    format!(
        "{command}: {} events of the mix `{}`, seed {}, in batches of up to {}, {} of {} users connected",
        plan.total_events, plan.mix, plan.seed, plan.largest_batch, plan.clients, plan.users
    )
}

/// The result for people.
pub(crate) fn summary(outcome: &Outcome) -> String {
    match outcome.faults.split_first() {
        None => format!("ALL NOTIFICATIONS RECEIVED\n{}", outcome.figures),
        Some((first, others)) => {
            let mut text = format!("NOT AS EXPECTED\n  {first}\n");
            for other in others.iter().take(FAULTS_SHOWN) {
                text.push_str(&format!("  {other}\n"));
            }
            if !others.is_empty() {
                text.push_str(&format!("  {} other users differ\n", others.len()));
            }
            text
        }
    }
}

/// Faults shown beside the first.
const FAULTS_SHOWN: usize = 4;

/// The result for programs.
pub(crate) fn result_json(command: &str, settings: &Settings, outcome: &Outcome) -> Value {
    let right = outcome.faults.is_empty();
    let figures: Option<&Figures> = right.then_some(&outcome.figures);
    let faults: Vec<String> = outcome.faults.iter().map(ToString::to_string).collect();
    json!({
        "command": command,
        "settings": settings.to_json(),
        "machine": machine(),
        "ok": right,
        "figures": figures,
        "faults": faults,
    })
}
