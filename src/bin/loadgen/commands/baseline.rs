//! `limit`: the baseline, which is a server that parses nothing, or the relay.

use std::io;

use log::info;

use super::latency::{self, Experiment, schedule, show_latency};
use super::run::{Manner, Outcome, run_load};
use super::{CommandResult, relay_server, variable};
use crate::args;
use crate::options::{Habits, MEASURED_TOTAL_EVENTS};
use crate::output::{show, write_json, write_report};
use crate::target::baseline::LIMIT_SERVER;
use crate::target::relay;
use crate::target::server::{Program, Server};
use crate::workload::generated::{Plan, Workload};

pub(super) fn run(flags: &args::Limit) -> CommandResult {
    let habits = super::begin(flags.common(), flags.cpu)?;
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
    let introduction = plan.introduction("limit");
    info!("{introduction}");
    let outcome = limit(&plan, habits, core)?;
    show(&outcome.summary());
    let result = outcome.json("limit", &plan);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &[])?;
    Ok(outcome.faults.is_empty())
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
    run_load(&mut workload, &users, &mut server, manner)
}
