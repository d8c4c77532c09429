//! `pubsub`: the same fan-out over Redis or NATS, checked in the same way.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::{CommandResult, conclude, merged, monitor_process, variable};
use crate::args;
use crate::options::{DEFAULT_HOST, Endpoint, Endpoints, LoadFlags, MEASURED_TOTAL_EVENTS};
use crate::output::document::Plan;
use crate::output::{OutputFiles, print};
use crate::run::{RunOptions, run_load};
use crate::target::server::{Addresses, Server};
use crate::workload::generated::WorkloadSpec;
use crate::workload::pubsub::{PubsubWorkload, WireProtocol};

pub(super) fn run(flags: &args::Pubsub) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, None)?;
    let mix = flags.mix.clone().map_or_else(|| "private".parse(), Ok)?;
    let load = LoadFlags { max_event_source_batch_size: Some(1), ..flags.load(Some(mix)) };
    let spec = WorkloadSpec::resolve(load, &variable, MEASURED_TOTAL_EVENTS)?;
    let mut workload = PubsubWorkload::new(flags.dialect, spec.clone())?;
    let users = workload.clients().to_vec();
    let host = flags.host.as_deref();
    let endpoint =
        Endpoint::resolve(host, host.unwrap_or(DEFAULT_HOST), flags.port.clone(), "--port")?;
    let plan = Plan {
        kind: "pubsub",
        description: spec.describe("pubsub"),
        settings: merged(
            json!(spec),
            json!({
                "dialect": flags.dialect, "cpu": flags.cpu, "server": { "address": endpoint.to_string() },
            }),
        ),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let mut measure = || {
        let endpoints = Endpoints { events: endpoint.clone(), clients: endpoint.clone() };
        let addresses = Addresses::resolve(&endpoints)?;
        check_broker(flags.dialect, addresses.events)?;
        let monitor = flags.server_pid.map(monitor_process).transpose()?;
        let mut server = Server::external(addresses, monitor);
        let sample = flags.report.is_some();
        let options = RunOptions { sample, ..RunOptions::new(spec.total_events, common) };
        let outcome = run_load(&mut workload, &users, &mut server, options)?;
        print(&outcome.text());
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

/// Time for a connection to the broker.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that a broker listens at `to`; an additional connection does not disturb it.
///
/// # Errors
///
/// Nothing listens there; the error says how to start and install the broker.
fn check_broker(dialect: WireProtocol, to: SocketAddr) -> io::Result<()> {
    let Err(error) = TcpStream::connect_timeout(&to, BROKER_TIMEOUT) else { return Ok(()) };
    let port = to.port();
    let (name, start, package) = match dialect {
        WireProtocol::Redis => {
            ("Redis", format!("redis-server --port {port} --save ''"), "redis-server")
        }
        WireProtocol::Nats => ("NATS", format!("nats-server -p {port}"), "nats-server"),
    };
    Err(io::Error::new(
        error.kind(),
        format!(
            "no {name} server at {to} ({}): start it (`{start}`); Debian and Ubuntu have it as package \
             {package}",
            error.kind()
        ),
    ))
}
