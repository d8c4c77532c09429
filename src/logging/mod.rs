//! The program's log: one line per message on standard error, written by a separate thread, so that
//! logging never blocks the caller.

mod queue;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use queue::LogQueue;

/// The only crate whose messages are logged, because peers can trigger those of others at any rate.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// The timeout of a flush, for a reader that blocks.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Starts logging up to `level` to standard error. Does nothing for [`LevelFilter::Off`].
///
/// A [flush](Log::flush) of [`log::logger`] waits at most one second for queued lines.
///
/// # Errors
///
/// The thread cannot be started, or another logger is set.
pub fn start(level: LevelFilter) -> io::Result<()> {
    if level == LevelFilter::Off {
        return Ok(());
    }
    let queue = Arc::new(LogQueue::default());
    let written = Arc::clone(&queue);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || written.write_to(io::stderr(), suppressed_note))?;
    log::set_boxed_logger(Box::new(Logger { queue })).map_err(io::Error::other)?;
    log::set_max_level(level);
    Ok(())
}

/// The logger of the `log` macros.
struct Logger {
    queue: Arc<LogQueue>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().split("::").next() == Some(CRATE)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.queue.push(&format_line(record.level(), *record.args()));
        }
    }

    fn flush(&self) {
        self.queue.wait_until_written(FLUSH_TIMEOUT);
    }
}

/// Returns a line such as `2026-01-31T12:00:00.123Z [INFO] 3 clients`, the time in UTC.
fn format_line(level: Level, message: fmt::Arguments<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    // Neither writing to memory nor this format can fail.
    let _ = OffsetDateTime::now_utc().format_into(&mut line, TIME);
    let _ = writeln!(line, " [{level}] {message}");
    line
}

/// Returns the line that reports suppressed lines. Its level is at most the log level.
fn suppressed_note(count: u64) -> Vec<u8> {
    let least_severe = log::max_level().to_level().unwrap_or(Level::Error);
    let lines = if count == 1 { "line" } else { "lines" };
    format_line(
        least_severe.min(Level::Warn),
        format_args!("suppressed {count} log {lines}: the log's reader is too slow"),
    )
}
