//! Waiting times and their summary.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::open_loop::histogram;
use crate::output::percentiles::Percentiles;
use crate::output::summary::format_si;

/// Minimum share of a core that a flooded server uses.
const SATURATED: f64 = 0.9;

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

/// The figures as JSON; times in microseconds, `None` if nothing was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    bound_ms: f64,
    kept: bool,
    events_per_second: f64,
    /// Share of one core.
    server_busy: Option<f64>,
    first_event_from_connecting_us: Option<WaitSummary>,
    first_event_from_id_us: Option<WaitSummary>,
    timeout_late_by_us: Option<WaitSummary>,
    timeout_early_by_us: f64,
    signal_us: Option<WaitSummary>,
    turn_us: Option<WaitSummary>,
    own_poll_interval_us: Option<WaitSummary>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct WaitSummary {
    count: u64,
    #[serde(flatten)]
    percentiles: Percentiles,
}

impl WaitSummary {
    fn of(histogram: &Histogram<u64>) -> Option<WaitSummary> {
        let percentiles = Percentiles::of(histogram);
        (!histogram.is_empty()).then_some(WaitSummary { count: histogram.len(), percentiles })
    }

    fn row(waited: Option<WaitSummary>, name: &str) -> String {
        let Some(WaitSummary { count, percentiles }) = waited else {
            return format!("  {name:<36}{:>8}\n", "-");
        };
        let Percentiles { p50, p90, p99, max, .. } = percentiles;
        format!("  {name:<36}{count:>8}{p50:>10.0}{p90:>10.0}{p99:>10.0}{max:>10.0}\n")
    }
}

impl Outcome {
    pub(super) fn new(
        waits: WaitTimes,
        bound: Duration,
        events_per_second: f64,
        busy: Option<f64>,
    ) -> Outcome {
        let bounded = [
            &waits.first_event_from_connecting,
            &waits.timeout_lateness,
            &waits.signal,
            &waits.turn,
        ];
        let max = bounded.into_iter().map(Histogram::max).max().unwrap_or_default();
        let figures = Figures {
            bound_ms: bound.as_secs_f64() * 1e3,
            kept: u128::from(max) <= bound.as_nanos(),
            events_per_second,
            server_busy: busy,
            first_event_from_connecting_us: WaitSummary::of(&waits.first_event_from_connecting),
            first_event_from_id_us: WaitSummary::of(&waits.first_event_from_id),
            timeout_late_by_us: WaitSummary::of(&waits.timeout_lateness),
            timeout_early_by_us: waits.timeout_earliness.as_secs_f64() * 1e6,
            signal_us: WaitSummary::of(&waits.signal),
            turn_us: WaitSummary::of(&waits.turn),
            own_poll_interval_us: WaitSummary::of(&waits.poll_interval),
        };
        Outcome { waits, figures }
    }

    /// Returns whether all waiting times are within the bound.
    pub(crate) fn within_bound(&self) -> bool {
        self.figures.kept
    }

    /// Returns the figures for JSON.
    pub(crate) fn figures(&self) -> impl Serialize + '_ {
        &self.figures
    }

    /// Returns the distributions for the chart, in nanoseconds.
    pub(crate) fn histograms(&self) -> Vec<(&'static str, &Histogram<u64>)> {
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
        let mut text = match figures.kept {
            true => format!("ALL WAITS WITHIN {} ms\n", figures.bound_ms),
            false => format!("A WAIT EXCEEDED {} ms\n", figures.bound_ms),
        };
        text.push_str(&format!("  flood: {} events/s", format_si(figures.events_per_second)));
        if let Some(busy) = figures.server_busy {
            text.push_str(&format!(", server busy {:.1} %", busy * 100.0));
            if busy < SATURATED {
                text.push_str(": NOT SATURATED, so these figures mean little");
            }
        }
        text.push_str(&format!(
            "\n  {:<36}{:>8}{:>10}{:>10}{:>10}{:>10}\n",
            "µs", "times", "p50", "p90", "p99", "max"
        ));
        let rows = [
            ("first event, from connecting", figures.first_event_from_connecting_us),
            ("first event, from its id", figures.first_event_from_id_us),
            ("identify timeout, late by", figures.timeout_late_by_us),
            ("totals after SIGUSR1", figures.signal_us),
            ("between two writes to a client", figures.turn_us),
            ("this program, between two polls", figures.own_poll_interval_us),
        ];
        rows.into_iter().for_each(|(name, waited)| text.push_str(&WaitSummary::row(waited, name)));
        if figures.timeout_early_by_us > 0.0 {
            let early = figures.timeout_early_by_us;
            text.push_str(&format!("  identify timeout, up to {early:.0} µs early\n"));
        }
        text
    }
}
