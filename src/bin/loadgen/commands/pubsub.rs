//! `pubsub`: the same fan-out over Redis or NATS, checked in the same way.

use log::info;
use serde_json::json;

use super::run::{RunOptions, run_load};
use super::{CommandResult, variable};
use crate::args;
use crate::options::{DEFAULT_HOST, Endpoint, Endpoints, MEASURED_TOTAL_EVENTS};
use crate::output::{print, write_json, write_report};
use crate::target::server::Server;
use crate::workload::generated::WorkloadSpec;
use crate::workload::pubsub::PubsubWorkload;

pub(super) fn run(flags: &args::Pubsub) -> CommandResult {
    let common = super::init(
        flags.common(),
        super::Pinning { own: flags.cpu, ..super::Pinning::default() },
    )?;
    let mix = flags.mix.clone().map_or_else(|| "private".parse(), Ok)?;
    let spec = WorkloadSpec::resolve(flags.load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)?;
    let mut workload = PubsubWorkload::new(flags.dialect, spec.clone())?;
    let users = workload.clients().to_vec();
    let description = spec.describe("pubsub");
    info!("{description}");
    let host = flags.host.as_deref();
    let endpoint =
        Endpoint::resolve(host, host.unwrap_or(DEFAULT_HOST), flags.port.clone(), "--port")?;
    let endpoints = Endpoints { events: endpoint.clone(), clients: endpoint };
    let mut server = Server::external(&endpoints, flags.server_pid)?;
    let options = RunOptions::new(spec.total_events, common);
    let outcome = run_load(&mut workload, &users, &mut server, options)?;
    print(&outcome.text());
    let settings = json!({ "dialect": flags.dialect, "plan": spec });
    let result = outcome.json("pubsub", &settings);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &description, &result, &[])?;
    Ok(outcome.mismatches.is_empty())
}
