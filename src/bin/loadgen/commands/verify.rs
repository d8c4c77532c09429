//! `verify`: a generated load against a server, every byte checked.

use std::io;

use serde_json::json;

use super::{CommandResult, conclude, merged, server, server_settings, variable};
use crate::args;
use crate::options::{CommonOptions, Endpoints, ORIGINAL_TOTAL_EVENTS};
use crate::output::document::Plan;
use crate::output::{OutputFiles, print};
use crate::run::{Outcome, RunOptions, run_load};
use crate::target::server::Server;
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};

/// Runs the command; `is_default` if it was not named.
pub(super) fn run(flags: &args::Verify, is_default: bool) -> CommandResult {
    let load = flags.shuffled_load(flags.mix.clone());
    let spec = WorkloadSpec::resolve(load, &variable, ORIGINAL_TOTAL_EVENTS)?;
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let plan = Plan {
        kind: "verify",
        description: spec.describe("verify"),
        settings: merged(
            json!(spec),
            json!({
                "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": server_settings(flags.target(), &[]),
            }),
        ),
    };
    if is_default {
        let Endpoints { events, clients } = Endpoints::resolve(flags.target(), &variable)?;
        super::announce(&format!(
            "without a command: `verify` against the server at {events} (events) and {clients} (clients), \
             as variables and defaults say; `loadgen --help` lists more"
        ));
    }
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let server = server(flags.target(), flags.server_cpu)?;
        let outcome = verify(&spec, common, server, flags.report.is_some())?;
        print(&outcome.text());
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

/// Runs `spec` against `server` and stops the server.
///
/// # Errors
///
/// A connection fails, or the server does not stop properly.
pub(crate) fn verify(
    spec: &WorkloadSpec,
    common: CommonOptions,
    mut server: Server,
    sample: bool,
) -> io::Result<Outcome> {
    let options = RunOptions { sample, ..RunOptions::new(spec.total_events, common) };
    let mut workload = GeneratedWorkload::new(spec.clone());
    let users = workload.clients().to_vec();
    let outcome = run_load(&mut workload, &users, &mut server, options)?;
    if !outcome.is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}
