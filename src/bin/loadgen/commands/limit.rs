//! `limit`: the same workload against a baseline, either a server that parses nothing or the relay.

use std::io;

use serde_json::json;

use super::latency::{self, Experiment, schedule};
use super::{CommandResult, conclude, merged, relay_server, variable};
use crate::args;
use crate::options::{CommonOptions, MEASURED_TOTAL_EVENTS};
use crate::output::document::Plan;
use crate::output::{OutputFiles, print};
use crate::run::{Outcome, RunOptions, run_load};
use crate::target::baseline::BASELINE_SERVER;
use crate::target::relay::{RELAY_SERVER, RelaySpec};
use crate::target::server::{Server, ServerCommand};
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};

pub(super) fn run(flags: &args::Limit) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let spec = WorkloadSpec::resolve(
        flags.shuffled_load(flags.mix.clone()),
        &variable,
        MEASURED_TOTAL_EVENTS,
    )?;
    if flags.relay { run_relay(flags, &spec, common) } else { run_baseline(flags, &spec, common) }
}

fn run_baseline(flags: &args::Limit, spec: &WorkloadSpec, common: CommonOptions) -> CommandResult {
    let plan = Plan {
        kind: "limit",
        description: spec.describe("limit"),
        settings: merged(
            json!(spec),
            json!({
                "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": { "command": ["loadgen", BASELINE_SERVER] },
            }),
        ),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let outcome = measure_baseline(spec, common, flags.server_cpu, flags.report.is_some())?;
        print(&outcome.text());
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

fn run_relay(flags: &args::Limit, spec: &WorkloadSpec, common: CommonOptions) -> CommandResult {
    let experiment = Experiment {
        schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
        clients: spec.clients,
        common,
    };
    let plan = Plan {
        kind: "relay",
        description: format!("relay, {}", latency::describe(&experiment)),
        settings: merged(
            experiment.settings(),
            json!({
                "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": { "command": ["loadgen", RELAY_SERVER] },
            }),
        ),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let spec = RelaySpec { clients: experiment.clients, busy_poll: false };
    let start = || relay_server(spec, flags.server_cpu);
    let measure = || {
        let comparison = latency::compare(experiment, 1, &start, None)?;
        comparison.print(&plan.description);
        Ok(comparison.findings())
    };
    conclude(&plan, files, measure())
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
    sample: bool,
) -> io::Result<Outcome> {
    let command =
        ServerCommand::built_in(BASELINE_SERVER, serde_json::to_string(spec)?, server_core)?;
    let mut server = Server::start(&command)?;
    let mut workload = GeneratedWorkload::new(spec.clone());
    let users = workload.clients().to_vec();
    let options = RunOptions {
        server_mirrors_segments: true,
        sample,
        ..RunOptions::new(spec.total_events, common)
    };
    run_load(&mut workload, &users, &mut server, options)
}
