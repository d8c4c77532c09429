//! `latency`: deliveries timed at a given rate, against the server and against the relay in turn.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use log::info;
use serde::Serialize;

use super::connect::Addresses;
use super::figures::median;
use super::interrupt::{self, Interrupted};
use super::probe::{Kind, Latencies, Probe, Schedule, histogram};
use super::server::Server;

/// Sent before the measurement and left out of it, so that caches and buffers are as they will be.
const WARM_UP: Duration = Duration::from_millis(500);
/// Users get their messages in the same random order in every run.
const SEED: u64 = 666;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experiment {
    pub(crate) schedule: Schedule,
    pub(crate) clients: usize,
    pub(crate) timeout: Duration,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// Of a histogram in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Percentiles {
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p99_9: micros(0.999),
            p99_99: micros(0.9999),
            max: micros(1.0),
        }
    }

    fn medians(all: &[Percentiles]) -> Percentiles {
        let middle = |figure: fn(&Percentiles) -> f64| median(all.iter().map(figure).collect());
        Percentiles {
            p50: middle(|run| run.p50),
            p90: middle(|run| run.p90),
            p99: middle(|run| run.p99),
            p99_9: middle(|run| run.p99_9),
            p99_99: middle(|run| run.p99_99),
            max: middle(|run| run.max),
        }
    }

    fn over(&self, other: &Percentiles) -> Percentiles {
        Percentiles {
            p50: self.p50 / other.p50,
            p90: self.p90 / other.p90,
            p99: self.p99 / other.p99,
            p99_9: self.p99_9 / other.p99_9,
            p99_99: self.p99_99 / other.p99_99,
            max: self.max / other.max,
        }
    }

    fn row(&self, name: &str, digits: usize) -> String {
        let Percentiles { p50, p90, p99, p99_9, p99_99, max } = self;
        format!(
            "  {name:<18}{p50:>10.digits$}{p90:>10.digits$}{p99:>10.digits$}{p99_9:>10.digits$}\
             {p99_99:>10.digits$}{max:>10.digits$}\n"
        )
    }
}

/// One server, over all its runs.
pub(crate) struct Measured {
    corrected: Histogram<u64>,
    raw: Histogram<u64>,
    runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    corrected_us: Percentiles,
    raw_us: Percentiles,
    deliveries: u64,
    sending_seconds: f64,
}

impl Measured {
    fn new() -> io::Result<Measured> {
        Ok(Measured { corrected: histogram()?, raw: histogram()?, runs: Vec::new() })
    }

    fn add(&mut self, latencies: &Latencies) -> io::Result<()> {
        self.corrected.add(&latencies.corrected).map_err(io::Error::other)?;
        self.raw.add(&latencies.raw).map_err(io::Error::other)?;
        self.runs.push(Run {
            corrected_us: Percentiles::of(&latencies.corrected),
            raw_us: Percentiles::of(&latencies.raw),
            deliveries: latencies.corrected.len(),
            sending_seconds: latencies.sending.as_secs_f64(),
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

    /// All corrected latencies of all runs, in nanoseconds.
    pub(crate) fn corrected(&self) -> &Histogram<u64> {
        &self.corrected
    }

    /// All raw latencies of all runs, in nanoseconds.
    pub(crate) fn raw(&self) -> &Histogram<u64> {
        &self.raw
    }
}

/// What came of all runs.
pub(crate) struct Comparison {
    pub(crate) server: Measured,
    pub(crate) relay: Option<Measured>,
}

/// The figures of a [`Comparison`], for programs.
#[derive(Debug, Serialize)]
pub(crate) struct ComparisonFigures {
    server: SideFigures,
    relay: Option<SideFigures>,
    /// Medians of the ratios of runs that followed each other.
    ratio: Option<Percentiles>,
}

/// One server's figures: medians over the runs, and the runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SideFigures {
    corrected_us: Percentiles,
    raw_us: Percentiles,
    runs: Vec<Run>,
}

impl SideFigures {
    fn of(side: &Measured) -> SideFigures {
        SideFigures {
            corrected_us: side.corrected_medians(),
            raw_us: side.raw_medians(),
            runs: side.runs.clone(),
        }
    }
}

impl Comparison {
    /// Returns whether a signal came before anything was measured.
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
        let ratios: Vec<Percentiles> =
            pairs.map(|(server, relay)| server.corrected_us.over(&relay.corrected_us)).collect();
        Some(Percentiles::medians(&ratios))
    }

    /// The figures for people, in microseconds.
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

/// Runs `experiment` `runs` times against a server that `start` gives, and where there is
/// `start_relay`, as often against that in turn; less often where a signal comes.
///
/// # Errors
///
/// A server does not start, a connection fails, or a delivery is wrong or never comes.
pub(crate) fn compare(
    experiment: Experiment,
    runs: usize,
    start: &dyn Fn() -> io::Result<Server>,
    start_relay: Option<&dyn Fn() -> io::Result<Server>>,
) -> io::Result<Comparison> {
    let mut server = Measured::new()?;
    let mut relay = start_relay.map(|_| Measured::new()).transpose()?;
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

/// Adds a run to `measured`, as far as it goes where a signal comes.
fn measure_once(
    experiment: Experiment,
    start: &dyn Fn() -> io::Result<Server>,
    measured: &mut Measured,
) -> io::Result<()> {
    let mut measure = || {
        interrupt::check()?;
        let server = start()?;
        let mut probe = connect(experiment, server.addresses)?;
        measured.add(&probe.measure(experiment.schedule)?)?;
        interrupt::check()?;
        probe.finish()?;
        server.stop()
    };
    unless_interrupted(measure())
}

/// The end by a signal is no failure where what was done until then is kept.
fn unless_interrupted(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match Interrupted::of(&error) {
        Some(_) => Ok(()),
        None => Err(error),
    })
}

fn connect(experiment: Experiment, to: Addresses) -> io::Result<Probe> {
    let mut probe = Probe::connect(to, experiment.clients, experiment.timeout, SEED)?;
    probe.measure(Schedule { duration: WARM_UP, ..experiment.schedule })?;
    interrupt::check()?;
    Ok(probe)
}

/// A rate, and how it went.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) corrected_us: Percentiles,
    pub(crate) holds: bool,
}

/// The search for the knee ends when the rate that holds and the one that does not are this close.
const KNEE_PRECISION: f64 = 1.05;
/// Rates above this are not tried: one thread cannot time so many messages.
const HIGHEST_RATE: f64 = 5e6;

/// Searches the highest rate at which p99, from the due time, stays within `bound_us`: doubles the
/// rate until the bound breaks, then halves the interval in between. Returns every step taken, until a
/// signal comes.
///
/// # Errors
///
/// A connection fails, or a delivery is wrong or never comes.
pub(crate) fn find_knee(
    experiment: Experiment,
    bound_us: f64,
    server: Server,
) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    unless_interrupted(search(experiment, bound_us, server, &mut steps))?;
    Ok(steps)
}

fn search(
    experiment: Experiment,
    bound_us: f64,
    server: Server,
    steps: &mut Vec<Step>,
) -> io::Result<()> {
    let mut probe = connect(experiment, server.addresses)?;
    let mut attempt = |rate: f64| -> io::Result<bool> {
        let latencies = probe.measure(Schedule { rate, ..experiment.schedule })?;
        interrupt::check()?;
        let corrected_us = Percentiles::of(&latencies.corrected);
        let holds = corrected_us.p99 <= bound_us;
        info!("{rate:.0} events/s: p99 {:.1} µs", corrected_us.p99);
        steps.push(Step { rate, corrected_us, holds });
        Ok(holds)
    };
    let (mut good, mut bad) = (0.0, experiment.schedule.rate);
    while bad < HIGHEST_RATE && attempt(bad)? {
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

/// The last rate that held, of the steps of [`find_knee`].
pub(crate) fn knee(steps: &[Step]) -> Option<f64> {
    let held = steps.iter().filter(|step| step.holds).map(|step| step.rate);
    held.max_by(f64::total_cmp)
}

/// The distribution as `HdrHistogram`'s plotter reads it, in milliseconds.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let millis = |nanos: f64| nanos / 1e6;
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let value = millis(step.value_iterated_to() as f64);
        let quantile = step.quantile_iterated_to();
        // Writing to a string does not fail.
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

/// Says what will be done.
pub(crate) fn introduction(experiment: &Experiment) -> String {
    let Experiment { schedule, clients, .. } = experiment;
    let what = match schedule.kind {
        Kind::Private => "private messages to one of",
        Kind::Broadcast => "broadcasts to all of",
    };
    format!(
        "latency: {what} {clients} clients, {} events/s for {:?}, {}",
        schedule.rate,
        schedule.duration,
        if schedule.busy { "spinning" } else { "sleeping in between" }
    )
}
