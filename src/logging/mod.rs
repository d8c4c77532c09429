//! The program's log: one line per message on standard error, written by a separate thread, so that
//! logging never blocks the caller.

mod line;
mod queue;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, thread};

use log::{Level, LevelFilter, Log, Metadata, Record};

use self::line::Reader;
use self::queue::LogQueue;
use crate::config::LogFormat;

/// The only crate whose messages are logged, because peers can trigger those of others at any rate.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// The timeout of a flush, for a reader that blocks.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether lines are JSON objects.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Starts logging up to `level` to standard error, in lines of this form.
///
/// A [flush](Log::flush) of [`log::logger`] waits at most one second for queued lines.
///
/// # Errors
///
/// The thread cannot be started, or another logger is set.
pub fn start(level: LevelFilter, format: LogFormat) -> io::Result<()> {
    let queue = Arc::new(LogQueue::default());
    let written = Arc::clone(&queue);
    let reader = reader_of_stderr();
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        written.write_to(io::stderr(), |count| suppressed_note(reader, count));
    })?;
    change(level, format);
    log::set_boxed_logger(Box::new(Logger { queue, reader })).map_err(io::Error::other)
}

/// Changes level and form of the following lines.
pub fn change(level: LevelFilter, format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    log::set_max_level(level);
}

/// The logger of the `log` macros.
struct Logger {
    queue: Arc<LogQueue>,
    reader: Reader,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().split("::").next() == Some(CRATE)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.queue.push(&format_line(self.reader, record));
        }
    }

    fn flush(&self) {
        self.queue.wait_until_written(FLUSH_TIMEOUT);
    }
}

fn format_line(reader: Reader, record: &Record<'_>) -> Vec<u8> {
    match IS_JSON.load(Ordering::Relaxed) {
        true => line::json(reader, record),
        false => line::text(reader, record),
    }
}

/// Returns the line that reports suppressed lines. Its level is at most the log level.
fn suppressed_note(reader: Reader, count: u64) -> Vec<u8> {
    let least_severe = log::max_level().to_level().unwrap_or(Level::Error);
    let lines = if count == 1 { "line" } else { "lines" };
    let message = format_args!("suppressed {count} log {lines}: the log's reader is too slow");
    let level = least_severe.min(Level::Warn);
    format_line(reader, &Record::builder().level(level).args(message).build())
}

/// Returns what reads standard error.
fn reader_of_stderr() -> Reader {
    if is_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
        return Reader::Journal;
    }
    // Any value but the empty one (https://no-color.org).
    let is_colourless = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    match io::stderr().is_terminal() && !is_colourless {
        true => Reader::Terminal,
        false => Reader::Any,
    }
}

/// Returns whether standard error is the stream that systemd names as `DEVICE:INODE`. The variable alone
/// may be inherited by a program whose output was redirected since.
fn is_journal(stream: Option<&str>) -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    stream == Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_str())
}
