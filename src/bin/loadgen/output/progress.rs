//! Progress bar on a terminal, log lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::info;

use super::bar_terminal::BarTerminal;
use super::format::format_si;

/// Time between two updates of a bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// The same during a measurement of time, which an update might disturb.
const QUIET_BAR_INTERVAL: Duration = Duration::from_secs(1);
/// An update of such a measurement waits for an idle moment, but for at most this many intervals.
const MAX_INTERVALS_WITHOUT_IDLE: u32 = 5;

/// Progress towards a known amount.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    goal: Goal,
    interval: Duration,
    next: Instant,
    /// Measured time and amount at the last report.
    last: (Duration, u64),
}

/// What is counted, and until when.
enum Goal {
    /// A number of things, by their name.
    Amount(u64, &'static str),
    Time(Duration),
}

impl Progress {
    /// Progress towards `total` of `what`. `interval` is the time between log lines; on a terminal
    /// the bar is updated ten times a second.
    pub(crate) fn of(total: u64, what: &'static str, interval: Duration) -> Progress {
        Progress::new(Goal::Amount(total, what), total, BAR_INTERVAL, interval)
    }

    /// Progress of a measurement that takes `total`; on a terminal the bar is updated once a second.
    pub(crate) fn of_time(total: Duration, interval: Duration) -> Progress {
        Progress::new(Goal::Time(total), total.as_millis() as u64, QUIET_BAR_INTERVAL, interval)
    }

    fn new(goal: Goal, total: u64, bar_interval: Duration, log_interval: Duration) -> Progress {
        let on_terminal = io::stderr().is_terminal() && log::log_enabled!(log::Level::Info);
        let now = Instant::now();
        let interval = if on_terminal { bar_interval } else { log_interval };
        Progress {
            bar: on_terminal.then(|| progress_bar(total)),
            goal,
            interval,
            next: now + interval,
            last: (Duration::ZERO, 0),
        }
    }

    /// Reports that `done` of the amount is done, at most once per interval. Rates refer to `time`,
    /// the measured time since the start.
    pub(crate) fn show(&mut self, now: Instant, time: Duration, done: u64) {
        if now < self.next {
            return;
        }
        self.next = now + self.interval;
        let (last_time, last_done) = self.last;
        self.last = (time, done);
        let seconds = time.saturating_sub(last_time).as_secs_f64();
        let rate =
            if seconds > 0.0 { done.saturating_sub(last_done) as f64 / seconds } else { 0.0 };
        let text = match self.goal {
            Goal::Amount(total, what) => {
                format!("{done} of {total} {what}, {}/s", format_si(rate))
            }
            Goal::Time(total) => {
                format!("{:.0} of {:.0} s", done as f64 / 1e3, total.as_secs_f64())
            }
        };
        match &self.bar {
            Some(bar) => {
                // The last call is always drawn, and then shows both.
                bar.set_position(done);
                bar.set_message(text);
            }
            None => info!("{text}"),
        }
    }

    /// Reports the time since the start of the measurement, if nothing is waiting to be timed or the
    /// last report is long ago.
    pub(crate) fn show_time(&mut self, now: Instant, elapsed: Duration, is_idle: bool) {
        if now < self.next {
            return;
        }
        if is_idle || now > self.next + self.interval * (MAX_INTERVALS_WITHOUT_IDLE - 1) {
            self.show(now, elapsed, elapsed.as_millis() as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn progress_bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:20} {percent:>3}%  {msg}, {eta} left");
    let terminal = ProgressDrawTarget::term_like(Box::new(BarTerminal));
    let bar = ProgressBar::with_draw_target(Some(total), terminal);
    // The template above is valid; otherwise the default style would remain.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
