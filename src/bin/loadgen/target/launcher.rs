//! Launcher of servers that are killed when this program ends, however it ends.
//!
//! A process must request its parent-death signal itself, and a child cannot do so between fork and
//! exec without unsafe code. So this program starts itself, makes the request, and execs the
//! server.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Internal subcommand: `launch-server PARENT PROGRAM ARGUMENT...`.
pub(crate) const LAUNCHER: &str = "launch-server";

/// Returns a command that execs `program`, and is killed when the thread that starts it ends.
///
/// # Errors
///
/// This executable cannot be found.
pub(crate) fn command(program: &Path, arguments: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(LAUNCHER).arg(std::process::id().to_string()).arg(program).args(arguments);
    Ok(command)
}

/// Execs `program`, to be killed when `parent` ends; returns only on failure.
pub(crate) fn launch(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have ended before the request.
    let is_parent = getppid().is_some_and(|id| *parent == *id.as_raw_nonzero().to_string());
    if !is_parent {
        return io::Error::other("the program that started this one has ended");
    }
    let error = Command::new(program).args(arguments).exec();
    io::Error::new(error.kind(), format!("{}: {error}", program.display()))
}
