//! Results as text, JSON and HTML.

mod bar_terminal;
pub(crate) mod chart;
pub(crate) mod document;
pub(crate) mod format;
pub(crate) mod html;
pub(crate) mod percentiles;
pub(crate) mod progress;
mod provenance;
pub(crate) mod summary;
pub(crate) mod table;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use self::document::{Document, Findings, Plan};
use crate::cli::wrap::wrap_lines;
use crate::sys::interrupt;

/// Returns a line that marks results as partial, if a signal has arrived.
pub(crate) fn interruption() -> &'static str {
    if interrupt::has_come() { "INTERRUPTED\n" } else { "" }
}

/// Prints a result, on a terminal wrapped to fit it. If standard output is closed, only the exit
/// status reports it.
pub(crate) fn print(text: &str) {
    if !io::stdout().is_terminal() {
        let _ = io::stdout().write_all(text.as_bytes());
        return;
    }
    // A terminal shows Ctrl-C as `^C`, which the text overwrites.
    let start = if interrupt::has_come() { "\r" } else { "" };
    let _ = io::stdout().write_all(format!("{start}{}", wrap_lines(text)).as_bytes());
}

/// Returns `description` as a line of a result, unless the terminal that shows the result has shown
/// the description when the run began.
pub(crate) fn heading(description: &str) -> String {
    let is_shown = io::stdout().is_terminal() && log::log_enabled!(log::Level::Info);
    if is_shown { String::new() } else { format!("{description}\n") }
}

/// The files of `--json` and `--report`, opened before a run: a run whose result cannot be saved
/// does not start.
pub(crate) struct OutputFiles {
    json: Option<OutputFile>,
    report: Option<OutputFile>,
}

impl OutputFiles {
    /// Opens the given files. Their contents stay until a result is written.
    ///
    /// # Errors
    ///
    /// A file cannot be created or written; the error names it.
    pub(crate) fn open(json: Option<&Path>, report: Option<&Path>) -> io::Result<OutputFiles> {
        Ok(OutputFiles {
            json: json.map(OutputFile::open).transpose()?,
            report: report.map(OutputFile::open).transpose()?,
        })
    }

    /// Writes the result of a run.
    ///
    /// # Errors
    ///
    /// A file cannot be written; the error names it.
    pub(crate) fn write(self, plan: &Plan, findings: &Findings) -> io::Result<()> {
        if self.json.is_none() && self.report.is_none() {
            return Ok(());
        }
        let document = Document::new(plan, findings);
        if let Some(file) = self.json {
            file.write(&document.to_json()?)?;
        }
        if let Some(file) = self.report {
            file.write(&html::page(&document, &findings.tables, &findings.charts))?;
        }
        Ok(())
    }
}

/// A file that is replaced at the end of a run.
pub(crate) struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// The file cannot be created or written; the error names it.
    pub(crate) fn open(path: &Path) -> io::Result<OutputFile> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| named(path, &error))?;
        Ok(OutputFile { path: path.to_owned(), file })
    }

    /// Replaces the contents.
    ///
    /// # Errors
    ///
    /// The file cannot be written; the error names it.
    pub(crate) fn write(mut self, text: &str) -> io::Result<()> {
        // A pipe or a terminal cannot be truncated, and need not be.
        if self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            self.file.set_len(0).map_err(|error| named(&self.path, &error))?;
        }
        self.file.write_all(text.as_bytes()).map_err(|error| named(&self.path, &error))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
