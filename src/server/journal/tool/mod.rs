//! `eventserver journal`: checks, prints and repairs a journal that no server uses.

mod args;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use argh::{EarlyExit, FromArgs};

use self::args::{Arguments, Command};
use super::directory::Directory;
use super::lock::{DirectoryLock, LOCK_FILE};
use crate::journal::{
    Checked, DumpError, Dumped, Error, Inspection, Repair, RepairStep, Start, Storage, dump,
    inspect, plan_repair,
};

/// The reason why a command of `eventserver journal` did not succeed.
#[derive(Debug)]
pub enum ToolError {
    /// The arguments are wrong.
    Usage(String),
    /// A file cannot be read or written, or a server uses the directory.
    Failed(String),
    /// The journal is damaged.
    Corrupt(String),
}

impl Display for ToolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ToolError::Usage(text) | ToolError::Failed(text) | ToolError::Corrupt(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for ToolError {}

/// Runs `eventserver journal` with the arguments after `journal`.
///
/// # Errors
///
/// The reason for another exit status than 0.
pub fn run(arguments: &[&str]) -> Result<(), ToolError> {
    let name = [env!("CARGO_PKG_NAME"), "journal"];
    let mut out = Output(Some(BufWriter::new(io::stdout().lock())));
    let result = match Arguments::from_args(&name, arguments) {
        Ok(Arguments { command }) => match command {
            Command::Verify(command) => verify(&command.directory, &mut out),
            Command::Dump(command) => print_dump(&command.directory, &mut out),
            Command::Repair(command) => repair(&command.directory, command.dry_run, &mut out),
        },
        Err(EarlyExit { output, status: Ok(()) }) => {
            out.line(output.trim_end()).map_err(|error| output_error(&error))
        }
        Err(EarlyExit { output, .. }) => Err(ToolError::Usage(format!(
            "{}\neventserver journal --help explains the commands.",
            output.trim_end()
        ))),
    };
    let flushed = out.flush().map_err(|error| output_error(&error));
    result.and(flushed)
}

/// Standard output, until its reader closes it: `dump | head` is no error.
struct Output<W>(Option<W>);

impl<W: Write> Output<W> {
    fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self, "{line}")
    }

    fn unless_closed<T>(&mut self, result: io::Result<T>, closed: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(closed)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(out) = &mut self.0 else { return Ok(bytes.len()) };
        let result = out.write(bytes);
        self.unless_closed(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(out) = &mut self.0 else { return Ok(()) };
        let result = out.flush();
        self.unless_closed(result, ())
    }
}

fn output_error(error: &io::Error) -> ToolError {
    ToolError::Failed(format!("cannot write to standard output: {error}"))
}

/// A journal that no server uses while this exists.
struct ClosedJournal {
    directory: Directory,
    name: String,
    _lock: Option<DirectoryLock>,
}

impl ClosedJournal {
    /// Opens the journal in a directory.
    ///
    /// # Errors
    ///
    /// It does not exist, cannot be read, or a server uses it.
    fn open(path: &Path, is_read_only: bool) -> Result<ClosedJournal, ToolError> {
        let name = path.display().to_string();
        let failed = |reason: &dyn Display| ToolError::Failed(format!("{name}: {reason}"));
        let directory = match is_read_only {
            true => Directory::open_read_only(path),
            false => Directory::open(path),
        };
        let directory = directory.map_err(|error| failed(&error))?;
        let names = directory.list().map_err(|error| failed(&error))?;
        let is_journal_file = |name: &String| {
            name == LOCK_FILE || name.ends_with(".segment") || name.ends_with(".snapshot")
        };
        if !names.iter().any(is_journal_file) {
            return Err(failed(&"there is no journal in this directory"));
        }
        // A copy without the file, or one that only others may write, is checked without a lock.
        let lock = match is_read_only && !can_lock(path) {
            true => None,
            false => {
                let lock = DirectoryLock::acquire(path);
                Some(lock.map_err(|reason| failed(&reason))?)
            }
        };
        Ok(ClosedJournal { directory, name, _lock: lock })
    }

    fn error(&self, error: &Error) -> ToolError {
        let text = format!("the journal in {}: {error}", self.name);
        match error.is_corruption() {
            true => ToolError::Corrupt(text),
            false => ToolError::Failed(text),
        }
    }
}

fn can_lock(path: &Path) -> bool {
    OpenOptions::new().read(true).write(true).open(path.join(LOCK_FILE)).is_ok()
}

fn verify(path: &Path, out: &mut impl Write) -> Result<(), ToolError> {
    let journal = ClosedJournal::open(path, true)?;
    let mut first_damage = None;
    let mut printed = Ok(());
    let inspected = inspect(&journal.directory, |checked| {
        if let Checked::Damaged(corruption) = &checked {
            first_damage.get_or_insert_with(|| corruption.to_string());
        }
        let result = writeln!(out, "{}", describe(&checked));
        if printed.is_ok() {
            printed = result;
        }
    });
    printed.map_err(|error| output_error(&error))?;
    let inspection = inspected.map_err(|error| journal.error(&error))?;
    print_inspection(&inspection, out).map_err(|error| output_error(&error))?;
    let Some(damage) = (match &inspection.start {
        Err(error) if error.is_corruption() => Some(format!(
            "{error}\neventserver journal repair {} cuts it there, and says what is lost.",
            journal.name
        )),
        Err(error) => return Err(journal.error(error)),
        Ok(_) => first_damage.map(|damage| {
            format!(
                "{damage}\nA server starts from it all the same: what is damaged is not needed."
            )
        }),
    }) else {
        return Ok(());
    };
    Err(ToolError::Corrupt(format!("the journal in {} is damaged: {damage}", journal.name)))
}

fn describe(checked: &Checked) -> String {
    match checked {
        Checked::Segment(report) => {
            let (first, next) = (report.name.first, report.next);
            let range = match report.totals.resets {
                0 if first == next => format!("empty at sequence {first}"),
                0 => format!("sequences {first} to {}", next - 1),
                resets => {
                    format!("from sequence {first} over {} to {next}", counted(resets, "reset"))
                }
            };
            let hash = report
                .hash
                .map_or_else(|| "state unknown".to_owned(), |hash| format!("state hash {hash}"));
            format!(
                "{}: {range}, {} in {} batches, {} bytes, {hash}",
                report.name,
                counted(report.totals.lines, "line"),
                report.totals.batches,
                report.bytes
            )
        }
        Checked::Snapshot(report) => format!(
            "{}: sequence {} is awaited, {}, {} bytes, state hash {}",
            report.name,
            report.name.awaited,
            counted(report.follows, "follow"),
            report.bytes,
            report.hash
        ),
        Checked::Damaged(corruption) => format!("DAMAGED: {corruption}"),
    }
}

fn print_inspection(inspection: &Inspection, out: &mut impl Write) -> io::Result<()> {
    for name in &inspection.unused {
        writeln!(out, "{name}: no other segment continues it, not used")?;
    }
    let totals = &inspection.totals;
    writeln!(
        out,
        "total: {}, {}, {}, {} without a line, {}, {} bytes, {}",
        counted(inspection.segments, "segment"),
        counted(inspection.snapshots, "snapshot"),
        counted(totals.lines, "line"),
        counted(totals.absent, "sequence"),
        counted(totals.resets, "reset"),
        totals.bytes,
        match inspection.damaged {
            0 => "nothing damaged".to_owned(),
            damaged => format!("{} damaged", counted(damaged, "file")),
        }
    )?;
    match &inspection.start {
        Ok(None) => writeln!(out, "empty: a server starts at its --first-sequence"),
        Ok(Some(Start { awaited, follows, hash, torn })) => {
            if let Some(torn) = torn {
                writeln!(
                    out,
                    "{}: {} bytes of an incomplete write at offset {} ({}): the next start cuts them \
                     off and keeps them in {}",
                    torn.file,
                    torn.bytes,
                    torn.offset,
                    torn.reason,
                    torn.copy_name()
                )?;
            }
            writeln!(
                out,
                "a server starts here: sequence {awaited} is awaited, {}, state hash {hash}",
                counted(*follows, "follow")
            )
        }
        Err(_) => writeln!(out, "a server does not start from it"),
    }
}

fn print_dump(path: &Path, out: &mut impl Write) -> Result<(), ToolError> {
    let journal = ClosedJournal::open(path, true)?;
    match dump(&journal.directory, out) {
        Ok(dumped) => {
            say(&describe_dump(dumped));
            Ok(())
        }
        Err(DumpError::Output(error)) => Err(output_error(&error)),
        Err(DumpError::Journal(error)) => Err(journal.error(&error)),
    }
}

/// Describes a dump on one line.
fn describe_dump(dumped: Dumped) -> String {
    let Dumped { first, next, follows, voids, resets } = dumped;
    if first == next {
        return "no events".to_owned();
    }
    let mut text = format!("sequences {first} to {}", next - 1);
    if follows > 0 {
        text += &format!(
            ", of which the first {follows} stand for the follows of a snapshot, because the events \
             before it were removed"
        );
    }
    if voids > 0 {
        text += &format!(", {} without an event, printed as void", counted(voids, "sequence"));
    }
    if resets > 0 {
        text += &format!("; what is before the last of {} is left out", counted(resets, "reset"));
    }
    text
}

fn repair(path: &Path, is_dry_run: bool, out: &mut impl Write) -> Result<(), ToolError> {
    let mut journal = ClosedJournal::open(path, is_dry_run)?;
    let planned = plan_repair(&mut journal.directory).map_err(|error| match &error {
        Error::Corrupt(_) => ToolError::Corrupt(format!(
            "the journal in {} cannot be repaired: {error}; nothing before that is intact. Restore the \
             directory from a copy, or start with an empty one",
            journal.name
        )),
        _ => journal.error(&error),
    })?;
    let Some(repair) = planned else {
        let line =
            format!("nothing to repair: a server starts from the journal in {}", journal.name);
        return writeln!(out, "{line}").map_err(|error| output_error(&error));
    };
    if !is_dry_run {
        repair.apply(&mut journal.directory).map_err(|error| journal.error(&error))?;
    }
    print_repair(&repair, is_dry_run, out).map_err(|error| output_error(&error))
}

fn print_repair(repair: &Repair, is_dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    for corruption in &repair.found {
        writeln!(out, "found: {corruption}")?;
    }
    for step in &repair.steps {
        let kept = step.kept_in().unwrap_or_default();
        match step {
            RepairStep::SetAside { file } => writeln!(out, "set aside: {file}, as {kept}")?,
            RepairStep::Cut { file, offset, bytes } => {
                writeln!(out, "cut: {file} at offset {offset}, {bytes} bytes kept in {kept}")?;
            }
            RepairStep::Continue { snapshot, segment, .. } => {
                writeln!(out, "created: {segment}, which continues {snapshot}")?;
            }
        }
    }
    let awaited = repair.awaited;
    match repair.lost_before {
        Some(next) if next > awaited => writeln!(
            out,
            "lost: sequences {awaited} to {}, at most {}, as far as what was cut off tells",
            next - 1,
            counted(repair.lost_lines, "line")
        )?,
        _ => writeln!(
            out,
            "lost: at most {} from sequence {awaited} on, as far as what was cut off tells",
            counted(repair.lost_lines, "line")
        )?,
    }
    match is_dry_run {
        true => writeln!(out, "nothing was changed; sequence {awaited} would be awaited"),
        false => writeln!(out, "repaired: sequence {awaited} is awaited"),
    }
}

/// Says something beside the output. A closed standard error is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "eventserver: {text}");
}

fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
