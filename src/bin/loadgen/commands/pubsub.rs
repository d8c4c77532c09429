//! `pubsub`: the same fan-out over Redis or NATS, checked in the same way.

use log::info;
use serde_json::json;

use super::run::{RunOptions, run_load};
use super::{CommandResult, conclude, merged, variable};
use crate::args;
use crate::options::MEASURED_TOTAL_EVENTS;
use crate::output::document::Plan;
use crate::output::{OutputFiles, print};
use crate::target::server::Server;
use crate::workload::generated::WorkloadSpec;
use crate::workload::pubsub::PubsubWorkload;

pub(super) fn run(flags: &args::Pubsub) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu)?;
    let mix = flags.mix.clone().map_or_else(|| "private".parse(), Ok)?;
    let spec = WorkloadSpec::resolve(flags.load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)?;
    let mut workload = PubsubWorkload::new(flags.dialect, spec.clone())?;
    let users = workload.clients().to_vec();
    let address = format!("{}, port {}", flags.host, flags.port);
    let plan = Plan {
        kind: "pubsub",
        description: spec.describe("pubsub"),
        settings: merged(
            json!(spec),
            json!({
                "dialect": flags.dialect, "cpu": flags.cpu, "server": { "address": address },
            }),
        ),
    };
    info!("{}", plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let mut measure = || {
        let mut server = Server::external(&flags.host, flags.port, flags.port, flags.server_pid)?;
        let sample = flags.report.is_some();
        let options = RunOptions { sample, ..RunOptions::new(spec.total_events, common) };
        let outcome = run_load(&mut workload, &users, &mut server, options)?;
        print(&outcome.text());
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}
