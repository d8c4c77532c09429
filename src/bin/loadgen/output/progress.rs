//! Progress bar on a terminal, log lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use log::info;

use crate::output::format::format_si;

/// Progress towards a known number of events.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    interval: Duration,
    next: Instant,
    last: (Instant, u64),
}

impl Progress {
    /// `interval` is the time between log lines; on a terminal the bar is updated ten times a
    /// second.
    pub(crate) fn new(total: u64, interval: Duration) -> Progress {
        let on_terminal = io::stderr().is_terminal() && log::log_enabled!(log::Level::Info);
        let now = Instant::now();
        let interval = if on_terminal { Duration::from_millis(100) } else { interval };
        Progress {
            bar: on_terminal.then(|| progress_bar(total)),
            total,
            interval,
            next: now + interval,
            last: (now, 0),
        }
    }

    /// Reports that `done` events are done, at most once per interval.
    pub(crate) fn show(&mut self, now: Instant, done: u64) {
        if now < self.next {
            return;
        }
        self.next = now + self.interval;
        let (last_time, last_done) = self.last;
        self.last = (now, done);
        let rate = done.saturating_sub(last_done) as f64 / (now - last_time).as_secs_f64();
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{}/s", format_si(rate)));
                bar.set_position(done);
            }
            None => info!("{done} of {} events, {}/s", self.total, format_si(rate)),
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
    let style = ProgressStyle::with_template(
        "{bar:30} {percent:>3}% of {len} events, {msg}, {elapsed} gone, {eta} left",
    );
    let bar = ProgressBar::new(total);
    // The template above is valid; otherwise the default style would remain.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
