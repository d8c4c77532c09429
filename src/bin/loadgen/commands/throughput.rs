//! `pinned`: throughput of the server and the baseline in turn, per mix, as medians and ratios.

use std::fmt::Write as _;
use std::io;

use log::info;
use serde::Serialize;
use serde_json::json;

use super::verify::verify;
use super::{CommandResult, baseline::measure_baseline, variable};
use crate::args;
use crate::options::{CommonOptions, MEASURED_TOTAL_EVENTS};
use crate::output::summary::{Summary, format_si, median};
use crate::output::{interruption, print, write_json, write_report};
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs;
use crate::target::server::{Server, ServerCommand};
use crate::workload::generated::WorkloadSpec;
use crate::workload::mix::Mix;

pub(super) fn run(flags: &args::Throughput) -> CommandResult {
    let common =
        super::init(flags.common(), super::Pinning { own: flags.cpu, server: flags.server_cpu })?;
    let mixes = if flags.mix.is_empty() { all_mixes()? } else { flags.mix.clone() };
    let command = ServerCommand::event_server(&flags.server_arg, flags.server_cpu)?;
    let mut rows = Vec::new();
    for mix in mixes {
        let spec = WorkloadSpec::resolve(
            flags.shuffled_load(Some(mix)),
            &variable,
            MEASURED_TOTAL_EVENTS,
        )?;
        info!("{}", spec.describe("pinned"));
        match measure(&spec, common, &command, flags.runs) {
            Ok(row) => rows.push(row),
            Err(error) if Interrupted::of(&error).is_some() => break,
            Err(error) => return Err(error.into()),
        }
    }
    print(&format!("{}{}", interruption(), table(&rows)));
    let result = json!({ "command": "pinned", "machine": procfs::host_info(), "rows": rows });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), "pinned: server and limit in turn", &result, &[])?;
    Ok(true)
}

fn all_mixes() -> Result<Vec<Mix>, String> {
    Mix::names().map(str::parse).collect()
}

/// Results of one mix.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) mix: String,
    pub(crate) clients: usize,
    pub(crate) users: u64,
    /// Medians over the runs.
    pub(crate) events_per_second: f64,
    pub(crate) deliveries_per_second: f64,
    #[serde(rename = "limitEventsPerSecond")]
    pub(crate) baseline_events_per_second: f64,
    pub(crate) server_cpu_seconds: f64,
    /// Median of the ratios of consecutive runs.
    pub(crate) ratio: f64,
    /// The same for CPU time, baseline over server. It is robust against other load on the machine.
    pub(crate) cpu_ratio: f64,
    pub(crate) runs: Vec<Pair>,
}

/// A run of the server and the following run of the baseline.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) server: Summary,
    #[serde(rename = "limit")]
    pub(crate) baseline: Summary,
}

/// Measures `spec` `runs` times against `command` and the baseline, in turn.
///
/// # Errors
///
/// A run fails, or a client receives something unexpected.
pub(crate) fn measure(
    spec: &WorkloadSpec,
    common: CommonOptions,
    command: &ServerCommand,
    runs: usize,
) -> io::Result<Row> {
    let mut pairs = Vec::with_capacity(runs);
    for run in 1..=runs {
        let server = verify(spec, common, Server::start(command)?, false)?;
        let baseline = measure_baseline(spec, common, command.core)?;
        interrupt::check()?;
        for outcome in [&server, &baseline] {
            if !outcome.mismatches.is_empty() {
                return Err(io::Error::other(outcome.text()));
            }
        }
        info!(
            "{}, run {run} of {runs}: server {} events/s, limit {}",
            spec.mix,
            format_si(server.summary.events_per_second),
            format_si(baseline.summary.events_per_second)
        );
        pairs.push(Pair { server: server.summary, baseline: baseline.summary });
    }
    Ok(Row::from_pairs(spec, pairs))
}

impl Row {
    fn from_pairs(spec: &WorkloadSpec, runs: Vec<Pair>) -> Row {
        let middle = |figure: fn(&Pair) -> f64| median(runs.iter().map(figure).collect());
        Row {
            mix: spec.mix.to_string(),
            clients: spec.clients,
            users: spec.users,
            events_per_second: middle(|pair| pair.server.events_per_second),
            deliveries_per_second: middle(|pair| pair.server.deliveries_per_second),
            baseline_events_per_second: middle(|pair| pair.baseline.events_per_second),
            server_cpu_seconds: middle(|pair| cpu_seconds(&pair.server)),
            ratio: middle(|pair| pair.server.events_per_second / pair.baseline.events_per_second),
            cpu_ratio: middle(|pair| cpu_seconds(&pair.baseline) / cpu_seconds(&pair.server)),
            runs,
        }
    }
}

fn cpu_seconds(figures: &Summary) -> f64 {
    figures.server_cpu_seconds.unwrap_or(f64::NAN)
}

/// Formats the rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| mix | connected of users | events/s | deliveries/s | limit, events/s | ratio | of CPU time |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} of {} | {} | {} | {} | {:.2} | {:.2} |",
            row.mix,
            row.clients,
            row.users,
            format_si(row.events_per_second),
            format_si(row.deliveries_per_second),
            format_si(row.baseline_events_per_second),
            row.ratio,
            row.cpu_ratio
        );
    }
    text
}
