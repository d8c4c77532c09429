//! `limit`: the same workload against a baseline, either a server that parses nothing or the relay.

use std::io;

use log::info;

use super::latency::{self, Experiment, schedule, show_latency};
use super::run::{Outcome, RunOptions, run_load};
use super::{CommandResult, relay_server, variable};
use crate::args;
use crate::options::{CommonOptions, MEASURED_TOTAL_EVENTS};
use crate::output::{print, write_json, write_report};
use crate::target::baseline::BASELINE_SERVER;
use crate::target::relay;
use crate::target::server::{Server, ServerCommand};
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};

pub(super) fn run(flags: &args::Baseline) -> CommandResult {
    let common =
        super::init(flags.common(), super::Pinning { own: flags.cpu, server: flags.server_cpu })?;
    let spec = WorkloadSpec::resolve(
        flags.shuffled_load(flags.mix.clone()),
        &variable,
        MEASURED_TOTAL_EVENTS,
    )?;
    let core = flags.server_cpu;
    if flags.relay {
        let experiment = Experiment {
            schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
            clients: spec.clients,
            common,
        };
        let description = format!("relay, {}", latency::describe(&experiment));
        let spec = relay::RelaySpec { clients: experiment.clients, busy_poll: false };
        let start = || relay_server(spec, core);
        let comparison = latency::compare(experiment, 1, &start, None)?;
        if comparison.is_empty() {
            return Ok(false);
        }
        show_latency(&description, &comparison, flags.json.as_deref(), flags.report.as_deref())?;
        return Ok(true);
    }
    let description = spec.describe("limit");
    info!("{description}");
    let outcome = measure_baseline(&spec, common, core)?;
    print(&outcome.text());
    let result = outcome.json("limit", &spec);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &description, &result, &[])?;
    Ok(outcome.mismatches.is_empty())
}

/// Runs `spec` against the baseline server.
///
/// # Errors
///
/// A connection fails.
pub(crate) fn measure_baseline(
    spec: &WorkloadSpec,
    common: CommonOptions,
    server_core: Option<usize>,
) -> io::Result<Outcome> {
    let command =
        ServerCommand::built_in(BASELINE_SERVER, serde_json::to_string(spec)?, server_core)?;
    let mut server = Server::start(&command)?;
    let mut workload = GeneratedWorkload::new(spec.clone());
    let users = workload.clients().to_vec();
    let options =
        RunOptions { server_mirrors_segments: true, ..RunOptions::new(spec.total_events, common) };
    run_load(&mut workload, &users, &mut server, options)
}
