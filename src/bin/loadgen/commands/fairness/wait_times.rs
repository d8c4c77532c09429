//! Waiting times and their summary.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;

use super::crowd::CrowdOutcome;
use crate::client::open_loop::histogram;
use crate::output::chart::{Chart, LineChart};
use crate::output::document::{Findings, Verdict};
use crate::output::format::{format_count, format_micros, format_seconds, format_si};
use crate::output::percentiles::Percentiles;
use crate::output::table::Table;
use crate::sys::interrupt;

/// Minimum share of a core that a flooded server uses.
const SATURATED_PERCENT: f64 = 90.0;

/// Maximum share of the time in which a server waits for a core, on a machine that is not too busy
/// to judge it.
const MAX_WAITING_PERCENT: f64 = 10.0;

/// Waiting times by kind, in nanoseconds.
pub(super) struct WaitTimes {
    pub(super) first_event_from_connecting: Histogram<u64>,
    pub(super) first_event_from_id: Histogram<u64>,
    pub(super) timeout_lateness: Histogram<u64>,
    /// Maximum time by which an unidentified client was closed too early.
    pub(super) timeout_earliness: Duration,
    pub(super) signal: Histogram<u64>,
    pub(super) turn: Histogram<u64>,
    /// Of this program, between two polls.
    pub(super) poll_interval: Histogram<u64>,
}

impl WaitTimes {
    pub(super) fn new() -> io::Result<WaitTimes> {
        Ok(WaitTimes {
            first_event_from_connecting: histogram()?,
            first_event_from_id: histogram()?,
            timeout_lateness: histogram()?,
            timeout_earliness: Duration::ZERO,
            signal: histogram()?,
            turn: histogram()?,
            poll_interval: histogram()?,
        })
    }
}

/// Records one waiting time.
pub(super) fn record(histogram: &mut Histogram<u64>, wait: Duration) {
    histogram.saturating_record(wait.as_nanos() as u64);
}

/// Outcome of a measurement.
pub(crate) struct Outcome {
    waits: WaitTimes,
    figures: Figures,
}

/// The figures as JSON; `None` if nothing was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    #[serde(skip)]
    bound: Duration,
    events_per_second: f64,
    /// Share of one core.
    server_busy_percent: Option<f64>,
    /// Share of the time in which the server could have run and had no core.
    #[serde(skip)]
    server_waiting_percent: Option<f64>,
    first_event_from_connecting: Option<WaitSummary>,
    first_event_from_id: Option<WaitSummary>,
    timeout_late_by: Option<WaitSummary>,
    timeout_early_by_us: f64,
    signal: Option<WaitSummary>,
    turn: Option<WaitSummary>,
    own_poll_interval: Option<WaitSummary>,
    #[serde(flatten)]
    crowd: Option<CrowdFigures>,
}

/// What became of the clients that came back at once.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CrowdFigures {
    returning_clients: usize,
    caught_up_clients: usize,
    gap_clients: usize,
    last_caught_up_seconds: f64,
}

/// Number of measured waits, and their times.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitSummary {
    count: u64,
    wait_us: Percentiles,
}

impl Figures {
    /// The waits with their names.
    fn rows(&self) -> [(&'static str, Option<WaitSummary>); 6] {
        [
            ("first event, from connecting", self.first_event_from_connecting),
            ("first event, from its ID", self.first_event_from_id),
            ("identify timeout, late by", self.timeout_late_by),
            ("totals after SIGUSR1", self.signal),
            ("between two writes to a client", self.turn),
            ("this program, between two polls", self.own_poll_interval),
        ]
    }
}

impl CrowdFigures {
    fn text(&self) -> String {
        let CrowdFigures { returning_clients, caught_up_clients, gap_clients, .. } = self;
        format!(
            "{caught_up_clients} of {returning_clients} clients caught up, the last after {}; {gap_clients} were \
             told a gap",
            format_seconds(self.last_caught_up_seconds)
        )
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl WaitSummary {
    fn of(histogram: &Histogram<u64>) -> Option<WaitSummary> {
        let wait_us = Percentiles::of(histogram);
        (!histogram.is_empty()).then_some(WaitSummary { count: histogram.len(), wait_us })
    }

    fn row(waited: Option<WaitSummary>, name: &str) -> String {
        let Some(WaitSummary { count, wait_us }) = waited else {
            return format!("  {name:<32}{:>6}\n", "-");
        };
        let Percentiles { p50, p90, p99, max, .. } = wait_us;
        format!("  {name:<32}{count:>6}{p50:>10.0}{p90:>10.0}{p99:>10.0}{max:>10.0}\n")
    }
}

impl Outcome {
    pub(super) fn new(
        waits: WaitTimes,
        bound: Duration,
        events_per_second: f64,
        busy: Option<f64>,
        waiting: Option<f64>,
    ) -> Outcome {
        let figures = Figures {
            bound,
            events_per_second,
            server_busy_percent: busy.map(|share| share * 100.0),
            server_waiting_percent: waiting.map(|share| share * 100.0),
            first_event_from_connecting: WaitSummary::of(&waits.first_event_from_connecting),
            first_event_from_id: WaitSummary::of(&waits.first_event_from_id),
            timeout_late_by: WaitSummary::of(&waits.timeout_lateness),
            timeout_early_by_us: waits.timeout_earliness.as_secs_f64() * 1e6,
            signal: WaitSummary::of(&waits.signal),
            turn: WaitSummary::of(&waits.turn),
            own_poll_interval: WaitSummary::of(&waits.poll_interval),
            crowd: None,
        };
        Outcome { waits, figures }
    }

    /// Adds what became of the clients that came back at once, if there were any.
    pub(super) fn with_crowd(mut self, crowd: Option<CrowdOutcome>) -> Outcome {
        self.figures.crowd = crowd.map(|crowd| CrowdFigures {
            returning_clients: crowd.clients,
            caught_up_clients: crowd.caught_up,
            gap_clients: crowd.gaps,
            last_caught_up_seconds: crowd.time.as_secs_f64(),
        });
        self
    }

    /// The kind with the longest wait that the bound holds for, and that wait.
    fn longest(&self) -> Option<(&'static str, Duration)> {
        let longest = self.histograms().into_iter().max_by_key(|(_, waits)| waits.max())?;
        Some((longest.0, Duration::from_nanos(longest.1.max())))
    }

    /// Returns the verdict, and its reason as a sentence.
    fn verdict(&self) -> (Verdict, String) {
        let bound = format_micros(micros(self.figures.bound));
        if interrupt::has_come() {
            let reason = "A signal ended the measurement; these are the waits up to it.";
            return (Verdict::Interrupted, reason.to_owned());
        }
        let own = Duration::from_nanos(self.waits.poll_interval.max());
        let waiting =
            self.figures.server_waiting_percent.filter(|&share| share > MAX_WAITING_PERCENT);
        match self.longest() {
            Some((kind, wait)) if wait > self.figures.bound && waiting.is_some() => (
                Verdict::Inconclusive,
                format!(
                    "The longest wait was {} ({kind}), more than the bound of {bound}, but the server waited \
                     for a core {:.0} % of the time. Give it a core of its own (--cpu, --server-cpu).",
                    format_micros(micros(wait)),
                    waiting.unwrap_or_default()
                ),
            ),
            Some((kind, wait)) if wait > self.figures.bound + own => {
                let wait = format_micros(micros(wait));
                (
                    Verdict::Failed,
                    format!("The longest wait was {wait} ({kind}); the bound is {bound}."),
                )
            }
            // The wait may be this program's.
            Some((kind, wait)) if wait > self.figures.bound => (
                Verdict::Inconclusive,
                format!(
                    "The longest wait was {} ({kind}), more than the bound of {bound}, but this program \
                     itself was paused for up to {}. Give it a core of its own (--cpu, --server-cpu).",
                    format_micros(micros(wait)),
                    format_micros(micros(own))
                ),
            ),
            _ => match self.figures.server_busy_percent {
                Some(busy) if busy < SATURATED_PERCENT => (
                    Verdict::Inconclusive,
                    format!(
                        "No wait exceeded {bound}, but the server was busy only {busy:.0} % of the time: \
                         this is not a flood. Give it a core of its own (--cpu, --server-cpu)."
                    ),
                ),
                _ => (Verdict::Passed, format!("No wait exceeded {bound}.")),
            },
        }
    }

    /// Returns the result for JSON and a report.
    pub(crate) fn findings(&self) -> Findings {
        let (verdict, reason) = self.verdict();
        let faults = if verdict == Verdict::Failed { vec![reason.clone()] } else { Vec::new() };
        Findings {
            faults,
            runs: vec![json!(self.figures)],
            tables: vec![self.load_table(), self.wait_table()],
            charts: vec![Chart::lines("Waits by percentile", self.chart())],
            ..Findings::new(verdict, reason)
        }
    }

    fn chart(&self) -> LineChart {
        let waits = self.histograms().into_iter().filter(|(_, waits)| !waits.is_empty());
        let chart = LineChart::percentiles(&waits.collect::<Vec<_>>());
        chart.with_bound(micros(self.figures.bound), "bound")
    }

    fn load_table(&self) -> Table {
        let mut table = Table::new("The flood", &["", ""]);
        table.add_pair("Events per second", format_si(self.figures.events_per_second));
        if let Some(busy) = self.figures.server_busy_percent {
            table.add_pair("Server busy", format!("{busy:.1} % of a core"));
        }
        if let Some(crowd) = &self.figures.crowd {
            table.add_pair("Clients that came back", crowd.text());
        }
        table
    }

    fn wait_table(&self) -> Table {
        let mut table = Table::new("Waits", &["", "times", "50 %", "99 %", "maximum"]);
        for (name, waited) in self.figures.rows() {
            let Some(WaitSummary { count, wait_us }) = waited else { continue };
            let [p50, p99, max] = [wait_us.p50, wait_us.p99, wait_us.max].map(format_micros);
            table.add([name.to_owned(), format_count(count), p50, p99, max]);
        }
        table
    }

    /// Returns the distributions that the bound holds for, in nanoseconds.
    fn histograms(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let WaitTimes { first_event_from_connecting, timeout_lateness, signal, turn, .. } =
            &self.waits;
        vec![
            ("first event, from connecting", first_event_from_connecting),
            ("identify timeout, late by", timeout_lateness),
            ("totals after SIGUSR1", signal),
            ("between two writes to a client", turn),
        ]
    }

    /// Formats the figures as text.
    pub(crate) fn table(&self) -> String {
        let figures = &self.figures;
        let is_within = self.longest().is_none_or(|(_, wait)| wait <= figures.bound);
        let bound = figures.bound.as_secs_f64() * 1e3;
        let mut text = match self.verdict() {
            (Verdict::Inconclusive, reason) => format!("INCONCLUSIVE: {reason}\n"),
            (Verdict::Interrupted, _) => String::new(),
            _ if is_within => format!("ALL WAITS WITHIN {bound} ms\n"),
            _ => format!("A WAIT EXCEEDED {bound} ms\n"),
        };
        text.push_str(&format!("  flood: {} events/s", format_si(figures.events_per_second)));
        if let Some(busy) = figures.server_busy_percent {
            text.push_str(&format!(", server busy {busy:.1} %"));
        }
        if let Some(crowd) = &figures.crowd {
            text.push_str(&format!("\n  came back: {}", crowd.text()));
        }
        text.push_str(&format!(
            "\n  {:<32}{:>6}{:>10}{:>10}{:>10}{:>10}\n",
            "µs", "times", "p50", "p90", "p99", "max"
        ));
        let rows = figures.rows().into_iter();
        rows.for_each(|(name, waited)| text.push_str(&WaitSummary::row(waited, name)));
        if figures.timeout_early_by_us > 0.0 {
            let early = figures.timeout_early_by_us;
            text.push_str(&format!("  identify timeout, up to {early:.0} µs early\n"));
        }
        text
    }
}
