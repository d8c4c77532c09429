//! `verify` and `limit`: a generated load against a server, every byte checked.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::run::{Manner, Outcome, run};
use crate::options::Habits;
use crate::sys::procfs::machine;
use crate::target::server::{Program, Server};
use crate::workload::generated::{Plan, Workload};

/// Runs `plan` against `server` and stops the server.
///
/// # Errors
///
/// A connection fails, or the server does not stop as it should.
pub(crate) fn verify(
    plan: &Plan,
    habits: Habits,
    mut server: Server,
    sample: bool,
) -> io::Result<Outcome> {
    let manner = Manner { sample, ..Manner::new(plan.total_events, habits) };
    let mut workload = Workload::new(plan.clone());
    let users = workload.clients().to_vec();
    let outcome = run(&mut workload, &users, &mut server, manner)?;
    if !outcome.is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}

/// Runs `plan` against a server that parses nothing.
///
/// # Errors
///
/// A connection fails.
pub(crate) fn limit(
    plan: &Plan,
    habits: Habits,
    server_core: Option<usize>,
) -> io::Result<Outcome> {
    let program = Program::built_in(LIMIT_SERVER, serde_json::to_string(plan)?, server_core)?;
    let mut server = Server::start(&program)?;
    let mut workload = Workload::new(plan.clone());
    let users = workload.clients().to_vec();
    let manner = Manner { server_prepares: true, ..Manner::new(plan.total_events, habits) };
    run(&mut workload, &users, &mut server, manner)
}

/// The subcommand, not for people, that serves the limit.
pub(crate) const LIMIT_SERVER: &str = "serve-limit";

/// Says what will be done.
pub(crate) fn introduction(command: &str, plan: &Plan) -> String {
    format!(
        "{command}: {} events of the mix `{}`, seed {}, in batches of up to {}, {} of {} users connected",
        plan.total_events, plan.mix, plan.seed, plan.largest_batch, plan.clients, plan.users
    )
}

/// The result for people.
pub(crate) fn summary(outcome: &Outcome) -> String {
    match outcome.faults.split_first() {
        None if outcome.is_interrupted => format!("INTERRUPTED\n{}", outcome.figures),
        None => format!("ALL NOTIFICATIONS RECEIVED\n{}", outcome.figures),
        Some((first, others)) => {
            let mut text = format!("NOT AS EXPECTED\n  {first}\n");
            for other in others.iter().take(FAULTS_SHOWN) {
                text.push_str(&format!("  {other}\n"));
            }
            text.push_str(&match others.len() {
                0 => String::new(),
                1 => "  1 other user differs\n".to_owned(),
                count => format!("  {count} other users differ\n"),
            });
            text
        }
    }
}

/// Faults shown beside the first.
const FAULTS_SHOWN: usize = 4;

/// The result for programs.
pub(crate) fn result_json(command: &str, settings: &impl Serialize, outcome: &Outcome) -> Value {
    let right = outcome.faults.is_empty();
    let faults: Vec<String> = outcome.faults.iter().map(ToString::to_string).collect();
    json!({
        "command": command,
        "settings": settings,
        "machine": machine(),
        "ok": right && !outcome.is_interrupted,
        // Where something was wrong, the figures are of no use.
        "figures": right.then_some(&outcome.figures),
        "faults": faults,
    })
}
