//! `pubsub`: the same fan-out over Redis or NATS, checked in the same way.

use log::info;
use serde_json::json;

use super::run::{Manner, run_load};
use super::{CommandResult, variable};
use crate::args;
use crate::options::MEASURED_TOTAL_EVENTS;
use crate::output::{show, write_json, write_report};
use crate::target::server::Server;
use crate::workload::generated::WorkloadSpec;
use crate::workload::pubsub::PubsubWorkload;

pub(super) fn run(flags: &args::Pubsub) -> CommandResult {
    let habits = super::begin(flags.common(), flags.cpu)?;
    let mix = flags.mix.clone().map_or_else(|| "private".parse(), Ok)?;
    let spec = WorkloadSpec::resolve(flags.load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)?;
    let mut workload = PubsubWorkload::new(flags.dialect, spec.clone())?;
    let users = workload.clients().to_vec();
    let introduction = spec.introduction("pubsub");
    info!("{introduction}");
    let mut server = Server::running(&flags.host, flags.port, flags.port, flags.server_pid)?;
    let manner = Manner::new(spec.total_events, habits);
    let outcome = run_load(&mut workload, &users, &mut server, manner)?;
    show(&outcome.summary());
    let settings = json!({ "dialect": flags.dialect, "plan": spec });
    let result = outcome.json("pubsub", &settings);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &[])?;
    Ok(outcome.mismatches.is_empty())
}
