//! `latency`: deliveries timed at a given rate, against the server and the relay in turn.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use log::info;
use serde::Serialize;
use serde_json::json;

use super::{CommandResult, Error, relay_server, server};
use crate::args;
use crate::client::open_loop::{Latencies, LatencyProbe, MessageKind, Schedule, histogram};
use crate::options::CommonOptions;
use crate::output::chart::Chart;
use crate::output::percentiles::Percentiles;
use crate::output::progress::Progress;
use crate::output::{interruption, print, write_file, write_json, write_report};
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs;
use crate::target::relay;
use crate::target::server::{Addresses, Server};

/// Time of load before the measurement, to warm caches and buffers.
const WARM_UP: Duration = Duration::from_millis(500);
/// Private messages go to the same random sequence of users in every run.
const SEED: u64 = 666;

pub(super) fn run(flags: &args::Latency) -> CommandResult {
    let common =
        super::init(flags.common(), super::Pinning { own: flags.cpu, server: flags.server_cpu })?;
    let experiment = Experiment {
        schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
        clients: flags.clients,
        common,
    };
    let mut description = describe(&experiment);
    if flags.busy_relay {
        description.push_str("; the relay busy-polls");
    }
    info!("{description}");
    if flags.find_knee {
        return search_knee(flags, experiment, &description);
    }
    let (target, core) = (flags.target(), flags.server_cpu);
    let start = || {
        server(target, core).map_err(|failure| match failure {
            Error::Run(error) => error,
            Error::Usage(message) => io::Error::other(message),
        })
    };
    let spec = relay::RelaySpec { clients: experiment.clients, busy_poll: flags.busy_relay };
    let start_relay = || relay_server(spec, core);
    let start_relay: Option<&dyn Fn() -> io::Result<Server>> =
        if flags.relay || flags.busy_relay { Some(&start_relay) } else { None };
    let comparison = compare(experiment, flags.runs, &start, start_relay)?;
    if comparison.is_empty() {
        return Ok(false);
    }
    show_latency(&description, &comparison, flags.json.as_deref(), flags.report.as_deref())?;
    if let Some(file) = &flags.hgrm {
        write_file(file, &hgrm(comparison.server.corrected()))?;
    }
    Ok(true)
}

fn search_knee(flags: &args::Latency, experiment: Experiment, description: &str) -> CommandResult {
    let server = server(flags.target(), flags.server_cpu)?;
    let steps = find_knee(experiment, flags.p99_us, server)?;
    let knee = knee(&steps);
    let found = match knee {
        Some(rate) => format!("KNEE at {rate:.0} events/s: p99 up to {} µs\n", flags.p99_us),
        None => format!("NO RATE keeps p99 up to {} µs\n", flags.p99_us),
    };
    print(&format!("{}{found}", interruption()));
    let result = json!({
        "command": "latency", "experiment": description, "machine": procfs::host_info(),
        "knee": { "p99BoundUs": flags.p99_us, "rate": knee }, "steps": steps,
    });
    write_json(flags.json.as_deref(), &result)?;
    write_report(flags.report.as_deref(), description, &result, &[])?;
    Ok(true)
}

pub(super) fn show_latency(
    description: &str,
    comparison: &Comparison,
    json: Option<&Path>,
    report: Option<&Path>,
) -> io::Result<()> {
    print(&format!("{}{description}\n{}", interruption(), comparison.table()));
    let result = json!({
        "command": "latency", "experiment": description, "machine": procfs::host_info(),
        "ok": !interrupt::has_come(), "figures": comparison.figures(),
    });
    write_json(json, &result)?;
    let server = &comparison.server;
    let mut histograms =
        vec![("from due time", server.corrected()), ("from sending", server.raw())];
    if let Some(relay) = &comparison.relay {
        histograms.push(("relay, from due time", relay.corrected()));
    }
    write_report(report, description, &result, &[Chart::percentiles(&histograms)])
}

pub(super) fn schedule(rate: f64, seconds: f64, broadcast: bool, busy: bool) -> Schedule {
    let kind = if broadcast { MessageKind::Broadcast } else { MessageKind::Private };
    Schedule { kind, rate, duration: Duration::from_secs_f64(seconds), busy }
}

/// Settings of a latency measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experiment {
    pub(crate) schedule: Schedule,
    pub(crate) clients: usize,
    pub(crate) common: CommonOptions,
}

impl Experiment {
    /// Measures at `rate`, and reports progress.
    fn measure(&self, probe: &mut LatencyProbe, rate: f64) -> io::Result<Latencies> {
        let schedule = Schedule { rate, ..self.schedule };
        let mut progress = Progress::of_time(schedule.duration, self.common.log_interval);
        let start = Instant::now();
        probe.measure(schedule, &mut |elapsed, is_idle| {
            progress.show_time(start + elapsed, elapsed, is_idle);
        })
    }
}

/// Latencies of one server, over all its runs.
pub(crate) struct LatencySeries {
    corrected: Histogram<u64>,
    raw: Histogram<u64>,
    runs: Vec<Run>,
}

/// Percentiles of one run.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    corrected_us: Percentiles,
    raw_us: Percentiles,
    deliveries: u64,
    sending_seconds: f64,
}

impl LatencySeries {
    fn new() -> io::Result<LatencySeries> {
        Ok(LatencySeries { corrected: histogram()?, raw: histogram()?, runs: Vec::new() })
    }

    fn add(&mut self, latencies: &Latencies) -> io::Result<()> {
        self.corrected.add(&latencies.corrected).map_err(io::Error::other)?;
        self.raw.add(&latencies.raw).map_err(io::Error::other)?;
        self.runs.push(Run {
            corrected_us: Percentiles::of(&latencies.corrected),
            raw_us: Percentiles::of(&latencies.raw),
            deliveries: latencies.corrected.len(),
            sending_seconds: latencies.send_duration.as_secs_f64(),
        });
        Ok(())
    }

    fn corrected_medians(&self) -> Percentiles {
        let all: Vec<Percentiles> = self.runs.iter().map(|run| run.corrected_us).collect();
        Percentiles::medians(&all)
    }

    fn raw_medians(&self) -> Percentiles {
        let all: Vec<Percentiles> = self.runs.iter().map(|run| run.raw_us).collect();
        Percentiles::medians(&all)
    }

    /// Returns the corrected latencies of all runs, in nanoseconds.
    pub(crate) fn corrected(&self) -> &Histogram<u64> {
        &self.corrected
    }

    /// Returns the raw latencies of all runs, in nanoseconds.
    pub(crate) fn raw(&self) -> &Histogram<u64> {
        &self.raw
    }
}

/// Latencies of the server and, if measured, of the relay.
pub(crate) struct Comparison {
    pub(crate) server: LatencySeries,
    pub(crate) relay: Option<LatencySeries>,
}

/// A [`Comparison`] as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ComparisonFigures {
    server: SideFigures,
    relay: Option<SideFigures>,
    /// Medians of the ratios of consecutive runs.
    ratio: Option<Percentiles>,
}

/// Figures of one server: medians over the runs, and each run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SideFigures {
    corrected_us: Percentiles,
    raw_us: Percentiles,
    runs: Vec<Run>,
}

impl SideFigures {
    fn of(side: &LatencySeries) -> SideFigures {
        SideFigures {
            corrected_us: side.corrected_medians(),
            raw_us: side.raw_medians(),
            runs: side.runs.clone(),
        }
    }
}

impl Comparison {
    /// Returns whether a signal arrived before anything was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.server.runs.is_empty()
    }

    pub(crate) fn figures(&self) -> ComparisonFigures {
        ComparisonFigures {
            server: SideFigures::of(&self.server),
            relay: self.relay.as_ref().map(SideFigures::of),
            ratio: self.ratio(),
        }
    }

    fn ratio(&self) -> Option<Percentiles> {
        let pairs = self.server.runs.iter().zip(&self.relay.as_ref()?.runs);
        let ratios: Vec<Percentiles> = pairs
            .map(|(server, relay)| server.corrected_us.ratio_to(&relay.corrected_us))
            .collect();
        Some(Percentiles::medians(&ratios))
    }

    /// Formats the figures as text, in microseconds.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "  {:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            "µs", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        );
        text.push_str(&self.server.corrected_medians().row("from due time", 1));
        text.push_str(&self.server.raw_medians().row("from sending", 1));
        if let (Some(relay), Some(ratio)) = (&self.relay, self.ratio()) {
            text.push_str(&relay.corrected_medians().row("relay, due time", 1));
            text.push_str(&relay.raw_medians().row("relay, sending", 1));
            text.push_str(&ratio.row("ratio, due time", 2));
        }
        text
    }
}

/// Runs `experiment` `runs` times against a server from `start`. With `start_relay`, each run is
/// followed by one against the relay. A signal ends the series early.
///
/// # Errors
///
/// A server does not start, a connection fails, or a delivery is wrong or missing.
pub(crate) fn compare(
    experiment: Experiment,
    runs: usize,
    start: &dyn Fn() -> io::Result<Server>,
    start_relay: Option<&dyn Fn() -> io::Result<Server>>,
) -> io::Result<Comparison> {
    let mut server = LatencySeries::new()?;
    let mut relay = start_relay.map(|_| LatencySeries::new()).transpose()?;
    for run in 1..=runs {
        measure_once(experiment, start, &mut server)?;
        if let Some(done) = server.runs.get(run - 1) {
            info!("run {run} of {runs}: p99 {:.1} µs", done.corrected_us.p99);
        }
        if let (Some(relay), Some(start)) = (&mut relay, start_relay) {
            measure_once(experiment, start, relay)?;
        }
        if interrupt::has_come() {
            break;
        }
    }
    Ok(Comparison { server, relay: relay.filter(|relay| !relay.runs.is_empty()) })
}

/// Adds a run to `measured`; after a signal, the part before it.
fn measure_once(
    experiment: Experiment,
    start: &dyn Fn() -> io::Result<Server>,
    measured: &mut LatencySeries,
) -> io::Result<()> {
    let mut measure = || {
        interrupt::check()?;
        let server = start()?;
        let mut probe = connect(experiment, server.addresses)?;
        measured.add(&experiment.measure(&mut probe, experiment.schedule.rate)?)?;
        interrupt::check()?;
        probe.finish()?;
        server.stop()
    };
    unless_interrupted(measure())
}

/// Treats an interruption as success, because the results so far are kept.
fn unless_interrupted(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match Interrupted::of(&error) {
        Some(_) => Ok(()),
        None => Err(error),
    })
}

fn connect(experiment: Experiment, to: Addresses) -> io::Result<LatencyProbe> {
    let timeout = experiment.common.timeout;
    let mut probe = LatencyProbe::connect(to, experiment.clients, timeout, SEED)?;
    probe.measure(Schedule { duration: WARM_UP, ..experiment.schedule }, &mut |_, _| ())?;
    interrupt::check()?;
    Ok(probe)
}

/// A measured rate of the search for the knee.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KneeStep {
    pub(crate) rate: f64,
    pub(crate) corrected_us: Percentiles,
    pub(crate) holds: bool,
}

/// The search ends when the passing and the failing rate differ by less than this factor.
const KNEE_PRECISION: f64 = 1.05;
/// Maximum rate of the search; one thread cannot time more messages.
const MAX_RATE: f64 = 5e6;

/// Searches the highest rate at which p99, from the due time, is at most `bound_us`. Doubles the
/// rate until the bound is exceeded, then bisects. Returns all steps, up to a signal.
///
/// # Errors
///
/// A connection fails, or a delivery is wrong or missing.
pub(crate) fn find_knee(
    experiment: Experiment,
    bound_us: f64,
    server: Server,
) -> io::Result<Vec<KneeStep>> {
    let mut steps = Vec::new();
    unless_interrupted(search(experiment, bound_us, server, &mut steps))?;
    Ok(steps)
}

fn search(
    experiment: Experiment,
    bound_us: f64,
    server: Server,
    steps: &mut Vec<KneeStep>,
) -> io::Result<()> {
    let mut probe = connect(experiment, server.addresses)?;
    let mut attempt = |rate: f64| -> io::Result<bool> {
        let latencies = experiment.measure(&mut probe, rate)?;
        interrupt::check()?;
        let corrected_us = Percentiles::of(&latencies.corrected);
        let holds = corrected_us.p99 <= bound_us;
        info!("{rate:.0} events/s: p99 {:.1} µs", corrected_us.p99);
        steps.push(KneeStep { rate, corrected_us, holds });
        Ok(holds)
    };
    let (mut good, mut bad) = (0.0, experiment.schedule.rate);
    while bad < MAX_RATE && attempt(bad)? {
        (good, bad) = (bad, bad * 2.0);
    }
    while good > 0.0 && bad / good > KNEE_PRECISION {
        let middle = (good * bad).sqrt();
        if attempt(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    probe.finish()?;
    server.stop()
}

/// Returns the highest passing rate.
pub(crate) fn knee(steps: &[KneeStep]) -> Option<f64> {
    let held = steps.iter().filter(|step| step.holds).map(|step| step.rate);
    held.max_by(f64::total_cmp)
}

/// Formats the distribution for the `HdrHistogram` plotter, in milliseconds.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let millis = |nanos: f64| nanos / 1e6;
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let value = millis(step.value_iterated_to() as f64);
        let quantile = step.quantile_iterated_to();
        // Writing to a string cannot fail.
        let _ = write!(text, "{value:12.6} {quantile:14.12} {total:10}");
        let _ = match quantile {
            q if q < 1.0 => writeln!(text, " {:14.2}", 1.0 / (1.0 - q)),
            _ => writeln!(text),
        };
    }
    let (mean, deviation) = (millis(histogram.mean()), millis(histogram.stdev()));
    let (max, count) = (millis(histogram.max() as f64), histogram.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]");
    let _ = writeln!(text, "#[Max     = {max:12.6}, Total count    = {count:12}]");
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048);
    text
}

/// Describes the measurement in one line.
pub(crate) fn describe(experiment: &Experiment) -> String {
    let Experiment { schedule, clients, .. } = experiment;
    let what = match schedule.kind {
        MessageKind::Private => "private messages to one of",
        MessageKind::Broadcast => "broadcasts to all of",
    };
    format!(
        "latency: {what} {clients} clients, {} events/s for {:?}, {}",
        schedule.rate,
        schedule.duration,
        if schedule.busy { "spinning" } else { "sleeping in between" }
    )
}
