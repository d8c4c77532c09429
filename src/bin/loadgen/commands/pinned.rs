//! `pinned`: throughput of the server and the baseline in turn, per mix, as medians and ratios.

use std::fmt::Write as _;
use std::io;

use log::info;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::limit::measure_baseline;
use super::verify::verify;
use super::{CommandResult, conclude, started_server, variable};
use crate::args;
use crate::options::{CommonOptions, MEASURED_TOTAL_EVENTS};
use crate::output::chart::{BarChart, BarGroup, Chart};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::format::format_si;
use crate::output::summary::{Summary, median};
use crate::output::table::Table;
use crate::output::{OutputFiles, interruption, print};
use crate::run::RunOptions;
use crate::sys::interrupt::{self, Interrupted};
use crate::target::server::{LogMode, Server, ServerCommand};
use crate::workload::generated::WorkloadSpec;
use crate::workload::mix::Mix;

pub(super) fn run(flags: &args::Pinned) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let mixes = if flags.mix.is_empty() { all_mixes()? } else { flags.mix.clone() };
    let specs: Vec<WorkloadSpec> = mixes
        .into_iter()
        .map(|mix| {
            WorkloadSpec::resolve(flags.shuffled_load(Some(mix)), &variable, MEASURED_TOTAL_EVENTS)
        })
        .collect::<Result<_, _>>()?;
    let plan = plan(flags, &specs);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let command =
            ServerCommand::event_server(LogMode::Forwarded, &flags.server_arg, flags.server_cpu)?;
        let mut rows = Vec::new();
        for spec in &specs {
            super::announce(&spec.describe("pinned"));
            let mut pairs = Vec::with_capacity(flags.runs);
            let result = measure(spec, common, &command, flags.runs, &mut pairs);
            if !pairs.is_empty() {
                rows.push(Row::from_pairs(spec, pairs));
            }
            match result {
                Err(error) if Interrupted::of(&error).is_some() && !rows.is_empty() => break,
                result => result?,
            }
        }
        print(&format!("{}{}", interruption(), table(&rows)));
        Ok(findings(&rows))
    };
    conclude(&plan, files, measure())
}

fn plan(flags: &args::Pinned, specs: &[WorkloadSpec]) -> Plan {
    let spec = specs.first();
    Plan {
        kind: "pinned",
        description: format!(
            "throughput of the server and of a baseline that parses nothing, in turn, as medians of {} \
             runs of each mix",
            flags.runs
        ),
        settings: json!({
            "mixes": specs.iter().map(|spec| &spec.mix).collect::<Vec<_>>(),
            "runs": flags.runs,
            "totalEvents": spec.map(|spec| spec.total_events),
            "clients": spec.map(|spec| spec.clients), "users": spec.map(|spec| spec.users),
            "seed": spec.map(|spec| spec.seed), "largestBatch": spec.map(|spec| spec.max_batch),
            "cpu": flags.cpu, "serverCpu": flags.server_cpu,
            "server": started_server(&flags.server_arg),
        }),
    }
}

/// Returns the result for JSON and a report.
fn findings(rows: &[Row]) -> Findings {
    let (verdict, reason) = match interrupt::has_come() {
        true => (Verdict::Interrupted, "A signal ended the runs; these are the results up to it."),
        false => (Verdict::Passed, "In every run, every byte received by every client matched."),
    };
    let runs = rows.iter().map(|row| row.runs.len()).max().unwrap_or(0);
    let run = |index: usize| -> Map<String, Value> {
        let pair = |row: &Row| Some((row.mix.clone(), json!(row.runs.get(index)?)));
        rows.iter().filter_map(pair).collect()
    };
    Findings {
        runs: (0..runs).map(|index| Value::Object(run(index))).collect(),
        tables: vec![report_table(rows)],
        charts: charts(rows),
        ..Findings::new(verdict, reason)
    }
}

fn report_table(rows: &[Row]) -> Table {
    let head = ["Mix", "events/s", "deliveries/s", "baseline events/s", "ratio", "CPU ratio"];
    let mut table = Table::new("Server and baseline: medians over the runs", &head);
    for row in rows {
        table.add([
            row.mix.clone(),
            format_si(row.events_per_second),
            format_si(row.deliveries_per_second),
            format_si(row.baseline_events_per_second),
            format!("{:.2}", row.ratio),
            format!("{:.2}", row.cpu_ratio),
        ]);
    }
    table
}

fn charts(rows: &[Row]) -> Vec<Chart> {
    let bars = |names, unit, values: fn(&Row) -> Vec<f64>, format| BarChart {
        unit,
        names,
        groups: rows
            .iter()
            .map(|row| BarGroup { name: row.mix.clone(), values: values(row) })
            .collect(),
        format,
    };
    let rate = |row: &Row| vec![row.events_per_second, row.baseline_events_per_second];
    let deliveries = |row: &Row| vec![row.deliveries_per_second];
    vec![
        Chart::bars("Events", bars(vec!["server", "baseline"], "per second", rate, format_si)),
        Chart::bars(
            "Deliveries of the server",
            bars(vec!["server"], "per second", deliveries, format_si),
        ),
        Chart::bars(
            "Throughput of the server, as a share of the baseline's",
            bars(vec!["ratio"], "", |row| vec![row.ratio], |ratio| format!("{ratio:.2}")),
        ),
    ]
}

fn all_mixes() -> Result<Vec<Mix>, String> {
    Mix::names().map(str::parse).collect()
}

/// Results of one mix: medians over the runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) mix: String,
    pub(crate) clients: usize,
    pub(crate) users: u64,
    pub(crate) events_per_second: f64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) baseline_events_per_second: f64,
    /// Of the ratios of consecutive runs.
    pub(crate) ratio: f64,
    /// The same for CPU time, baseline over server. It is robust against other load on the machine.
    pub(crate) cpu_ratio: f64,
    pub(crate) runs: Vec<Pair>,
}

/// A run of the server and the following run of the baseline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pair {
    pub(crate) server: Summary,
    pub(crate) baseline: Summary,
    /// Events per second, server over baseline.
    throughput_ratio: f64,
    /// CPU time, baseline over server.
    cpu_time_ratio: Option<f64>,
}

impl Pair {
    fn new(server: Summary, baseline: Summary) -> Pair {
        let cpu_time_ratio = baseline.server_cpu_seconds.zip(server.server_cpu_seconds);
        Pair {
            throughput_ratio: server.events_per_second / baseline.events_per_second,
            cpu_time_ratio: cpu_time_ratio.map(|(baseline, server)| baseline / server),
            server,
            baseline,
        }
    }
}

/// Measures `spec` `runs` times against `command` and the baseline, in turn, and appends the results
/// to `pairs`.
///
/// # Errors
///
/// A run fails, or a client receives something unexpected.
pub(crate) fn measure(
    spec: &WorkloadSpec,
    common: CommonOptions,
    command: &ServerCommand,
    runs: usize,
    pairs: &mut Vec<Pair>,
) -> io::Result<()> {
    for run in 1..=runs {
        let server =
            verify(spec, Server::start(command)?, RunOptions::new(spec.total_events, common))?;
        let baseline = measure_baseline(spec, common, command.core, false)?;
        interrupt::check()?;
        for outcome in [&server, &baseline] {
            if !outcome.mismatches.is_empty() {
                return Err(io::Error::other(outcome.text()));
            }
        }
        info!(
            "{}, run {run} of {runs}: server {} events/s, baseline {}",
            spec.mix,
            format_si(server.summary.events_per_second),
            format_si(baseline.summary.events_per_second)
        );
        pairs.push(Pair::new(server.summary, baseline.summary));
    }
    Ok(())
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
            ratio: middle(|pair| pair.throughput_ratio),
            cpu_ratio: middle(|pair| pair.cpu_time_ratio.unwrap_or(f64::NAN)),
            runs,
        }
    }
}

/// Formats the rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| mix | connected | events/s | deliveries/s | baseline, events/s | ratio | of CPU |\n\
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
