//! Results as text, JSON and HTML.

pub(crate) mod chart;
pub(crate) mod html;
pub(crate) mod percentiles;
pub(crate) mod progress;
pub(crate) mod summary;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde_json::Value;

use self::chart::Chart;
use crate::cli::wrap::wrap_lines;
use crate::sys::interrupt;

/// Returns a line that marks results as partial, if a signal has arrived.
pub(crate) fn interruption() -> &'static str {
    if interrupt::has_come() { "INTERRUPTED\n" } else { "" }
}

/// Prints a result, on a terminal wrapped to fit it. If standard output is closed, only the exit
/// status reports it.
pub(crate) fn print(text: &str) {
    let text = if io::stdout().is_terminal() { &wrap_lines(text) } else { text };
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Returns `description` as the first line of a result, unless the terminal that shows the result
/// has shown the description when the run began.
pub(crate) fn heading(description: &str) -> String {
    let is_shown = io::stdout().is_terminal() && log::log_enabled!(log::Level::Info);
    if is_shown { String::new() } else { format!("{description}\n") }
}

pub(crate) fn write_json(file: Option<&Path>, result: &Value) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(result)?;
    text.push('\n');
    write_file(file, &text)
}

pub(crate) fn write_report(
    file: Option<&Path>,
    title: &str,
    result: &Value,
    charts: &[Chart],
) -> io::Result<()> {
    file.map_or(Ok(()), |file| write_file(file, &html::page(title, result, charts)))
}

pub(crate) fn write_file(file: &Path, text: &str) -> io::Result<()> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    std::fs::write(file, text).map_err(name)
}
