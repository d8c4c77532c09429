//! `latency`: the time of each delivery at a given rate, measured at the server and at the relay in
//! turn.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use log::info;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CommandResult, Target, conclude, merged, relay_server, server, server_settings,
    unless_interrupted,
};
use crate::args;
use crate::client::open_loop::{Latencies, LatencyProbe, MessageKind, Schedule, histogram};
use crate::options::CommonOptions;
use crate::output::chart::{Axis, Chart, LineChart, Series};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::format::{format_micros, format_si};
use crate::output::percentiles::Percentiles;
use crate::output::progress::Progress;
use crate::output::table::Table;
use crate::output::{OutputFile, OutputFiles, heading, interruption, print};
use crate::sys::interrupt;
use crate::target::relay;
use crate::target::server::{Addresses, LogMode, Server};

/// Time of load before the measurement, to warm caches and buffers.
const WARM_UP: Duration = Duration::from_millis(500);
/// Private messages go to the same random sequence of users in every run.
const SEED: u64 = 666;

pub(super) fn run(flags: &args::Latency) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let experiment = Experiment {
        schedule: schedule(flags.rate, flags.duration, flags.broadcast, flags.busy),
        clients: flags.clients,
        common,
    };
    let mut description = describe(&experiment);
    if flags.busy_relay {
        description.push_str("; the relay busy-polls");
    }
    let kind = if flags.find_knee { "find-knee" } else { "latency" };
    let settings = json!({
        "cpu": flags.cpu, "serverCpu": flags.server_cpu,
        "server": server_settings(flags.targets(), &[]),
    });
    let plan = Plan { kind, description, settings: merged(experiment.settings(), settings) };
    super::announce(&plan.description);
    if flags.find_knee {
        search_knee(flags, experiment, plan)
    } else {
        compare_with_relay(flags, experiment, plan)
    }
}

fn compare_with_relay(flags: &args::Latency, experiment: Experiment, plan: Plan) -> CommandResult {
    let has_relay = flags.relay || flags.busy_relay;
    let more =
        json!({ "runs": flags.runs, "relay": has_relay, "relayBusyPolls": flags.busy_relay });
    let plan = Plan { settings: merged(plan.settings, more), ..plan };
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let hgrm = flags.hgrm.as_deref().map(OutputFile::open).transpose()?;
    let core = flags.server_cpu;
    let spec = relay::RelaySpec { clients: experiment.clients, busy_poll: flags.busy_relay };
    let start_relay = || relay_server(spec, core);
    let start_relay: Option<&dyn Fn() -> io::Result<Server>> =
        if has_relay { Some(&start_relay) } else { None };
    let measure = || {
        let target = Target::select(flags.targets(), &[], core, LogMode::Forwarded)?;
        let comparison = compare(experiment, flags.runs, &|| target.start(), start_relay)?;
        comparison.print(&plan.description);
        if let Some(file) = hgrm.filter(|_| !comparison.is_empty()) {
            file.write(&histogram_text(comparison.server.corrected()))?;
        }
        Ok(comparison.findings())
    };
    conclude(&plan, files, measure())
}

fn search_knee(flags: &args::Latency, experiment: Experiment, plan: Plan) -> CommandResult {
    let bound_us = flags.p99_us;
    let plan = Plan { settings: merged(plan.settings, json!({ "p99BoundUs": bound_us })), ..plan };
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let server = server(flags.targets(), flags.server_cpu)?;
        let steps = find_knee(experiment, bound_us, server)?;
        let findings = knee_findings(&steps, bound_us);
        let found = match (knee(&steps), findings.verdict) {
            (Some(rate), Verdict::Interrupted) => {
                format!("INTERRUPTED: p99 up to {bound_us} µs at {rate:.0} events/s so far\n")
            }
            (None, Verdict::Interrupted) => "INTERRUPTED before any rate held\n".to_owned(),
            (Some(rate), _) => format!("KNEE at {rate:.0} events/s: p99 up to {bound_us} µs\n"),
            (None, _) => format!("INCONCLUSIVE: {}\n", findings.reason),
        };
        print(&found);
        Ok(findings)
    };
    conclude(&plan, files, measure())
}

/// Returns the result of a search for JSON and a report.
fn knee_findings(steps: &[KneeStep], bound_us: f64) -> Findings {
    let bound = format_micros(bound_us);
    let (verdict, reason) = match (knee(steps), steps.first()) {
        _ if interrupt::has_come() => (
            Verdict::Interrupted,
            "A signal ended the search; these are the rates up to it.".to_owned(),
        ),
        (Some(rate), _) => (
            Verdict::Passed,
            format!(
                "The 99th percentile stays within {bound} up to {} events per second.",
                format_si(rate)
            ),
        ),
        (None, Some(first)) => (
            Verdict::Inconclusive,
            format!(
                "At {} events per second, the first rate tried, the 99th percentile is {}, more than \
                 {bound}. Start the search at a lower --rate.",
                format_si(first.rate),
                format_micros(first.corrected_us.p99)
            ),
        ),
        (None, None) => (Verdict::Inconclusive, "No rate was measured.".to_owned()),
    };
    let mut steps = steps.to_vec();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let mut table =
        Table::new("Rates tried", &["events/s", "p50", "p99", "max", "within the bound"]);
    for KneeStep { rate, corrected_us: at, holds } in &steps {
        let times = [at.p50, at.p99, at.max].map(format_micros);
        let [p50, p99, max] = times;
        table.add([format_si(*rate), p50, p99, max, if *holds { "yes" } else { "no" }.to_owned()]);
    }
    let line = |name, value: fn(&Percentiles) -> f64| Series {
        name,
        points: steps.iter().map(|step| (step.rate, value(&step.corrected_us))).collect(),
    };
    let chart = LineChart::new(Axis::logarithmic("events per second"), Axis::latency(), "")
        .with_series(vec![
            line("p50", |at| at.p50),
            line("p99", |at| at.p99),
            line("max", |at| at.max),
        ])
        .with_bound(bound_us, "bound on p99");
    let figures = knee(&steps).map(|rate| json!({ "kneeEventsPerSecond": rate }));
    Findings {
        runs: figures.into_iter().collect(),
        series: steps.iter().map(|step| json!(step)).collect(),
        tables: vec![table],
        charts: vec![Chart::lines("Latency by rate, from due time", chart)],
        ..Findings::new(verdict, reason)
    }
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

impl Experiment {
    /// Returns the settings of a result.
    pub(super) fn settings(&self) -> Value {
        let Schedule { kind, rate, duration, busy } = self.schedule;
        json!({
            "clients": self.clients, "rate": rate, "durationSeconds": duration.as_secs_f64(),
            "broadcast": kind == MessageKind::Broadcast, "busy": busy,
            "timeoutMs": self.common.timeout.as_millis() as u64,
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

impl Comparison {
    /// Returns whether a signal arrived before anything was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.server.runs.is_empty()
    }

    /// Prints the figures.
    pub(crate) fn print(&self, description: &str) {
        if self.is_empty() {
            print("INTERRUPTED before any result\n");
        } else {
            print(&format!("{}{}{}", interruption(), heading(description), self.table()));
        }
    }

    /// Returns the result for JSON and a report.
    pub(crate) fn findings(&self) -> Findings {
        let (verdict, reason) = match (interrupt::has_come(), self.is_empty()) {
            (true, true) => (Verdict::Interrupted, "A signal came before any result."),
            (true, false) => {
                (Verdict::Interrupted, "A signal ended the run; these are the figures up to it.")
            }
            (false, _) => {
                (Verdict::Passed, "Every delivery arrived, was the expected one, and was timed.")
            }
        };
        if self.is_empty() {
            return Findings::new(verdict, reason);
        }
        let mut histograms =
            vec![("from due time", self.server.corrected()), ("from sending", self.server.raw())];
        if let Some(relay) = &self.relay {
            histograms.push(("relay, from due time", relay.corrected()));
        }
        let chart = LineChart::percentiles(&histograms);
        Findings {
            runs: self.runs(),
            tables: vec![self.report_table()],
            charts: vec![Chart::lines("Latency by percentile", chart)],
            ..Findings::new(verdict, reason)
        }
    }

    /// Returns the figures of each run.
    fn runs(&self) -> Vec<Value> {
        let runs = self.server.runs.iter().enumerate().map(|(index, server)| {
            let Some(relay) = self.relay.as_ref().and_then(|relay| relay.runs.get(index)) else {
                return json!({ "server": server });
            };
            let ratio = server.corrected_us.ratio_to(&relay.corrected_us);
            json!({ "server": server, "relay": relay, "ratio": ratio })
        });
        runs.collect()
    }

    fn report_table(&self) -> Table {
        let server = (self.server.corrected_medians(), self.server.raw_medians());
        let relay = self.relay.as_ref().zip(self.ratio());
        let head: &[&str] = match relay {
            Some(_) => &["From due time", "server", "relay", "ratio", "from sending"],
            None => &["", "from due time", "from sending"],
        };
        let mut table = Table::new("Latency: medians over the runs", head);
        for (name, value) in Percentiles::COLUMNS {
            let (due, sent) = (format_micros(value(&server.0)), format_micros(value(&server.1)));
            match &relay {
                Some((relay, ratio)) => table.add([
                    name.to_owned(),
                    due,
                    format_micros(value(&relay.corrected_medians())),
                    format!("{:.2}", value(ratio)),
                    sent,
                ]),
                None => table.add([name.to_owned(), due, sent]),
            }
        }
        table
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
        if runs > 1
            && let Some(done) = server.runs.get(run - 1)
        {
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
        let mut probe = connect(experiment, &server.all_addresses())?;
        measured.add(&experiment.measure(&mut probe, experiment.schedule.rate)?)?;
        interrupt::check()?;
        probe.finish()?;
        server.stop()
    };
    unless_interrupted(measure())
}

fn connect(experiment: Experiment, to: &[Addresses]) -> io::Result<LatencyProbe> {
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
    #[serde(rename = "eventsPerSecond")]
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
    let mut probe = connect(experiment, &server.all_addresses())?;
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
pub(crate) fn histogram_text(histogram: &Histogram<u64>) -> String {
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
