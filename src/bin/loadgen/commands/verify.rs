//! `verify`: a generated load against a server, every byte checked.

use std::io;

use log::info;

use super::run::{Manner, Outcome, run_load};
use super::{CommandResult, server, variable};
use crate::args;
use crate::options::{Habits, ORIGINAL_TOTAL_EVENTS, TRY_OUT_TOTAL_EVENTS};
use crate::output::{show, write_json, write_report};
use crate::target::server::Server;
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};

pub(super) fn run(flags: &args::Verify) -> CommandResult {
    let total = if flags.spawn { TRY_OUT_TOTAL_EVENTS } else { ORIGINAL_TOTAL_EVENTS };
    let spec = WorkloadSpec::resolve(flags.load(flags.mix.clone()), &variable, total)?;
    let habits = super::begin(flags.common(), flags.cpu)?;
    let introduction = spec.introduction("verify");
    info!("{introduction}");
    let server = server(flags.target(), flags.server_cpu)?;
    let outcome = verify(&spec, habits, server, flags.report.is_some())?;
    show(&outcome.summary());
    let result = outcome.json("verify", &spec);
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), &introduction, &result, &outcome.charts())?;
    Ok(outcome.mismatches.is_empty())
}

/// Runs `spec` against `server` and stops the server.
///
/// # Errors
///
/// A connection fails, or the server does not stop as it should.
pub(crate) fn verify(
    spec: &WorkloadSpec,
    habits: Habits,
    mut server: Server,
    sample: bool,
) -> io::Result<Outcome> {
    let manner = Manner { sample, ..Manner::new(spec.total_events, habits) };
    let mut workload = GeneratedWorkload::new(spec.clone());
    let users = workload.clients().to_vec();
    let outcome = run_load(&mut workload, &users, &mut server, manner)?;
    if !outcome.is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}
