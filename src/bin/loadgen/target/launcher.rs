//! Starts a server that does not outlive this program, however this ends.
//!
//! Only a process itself can ask the kernel for a signal when its parent ends, and a child cannot do
//! so between fork and exec without unsafe code. So this program starts itself, asks, and becomes the
//! server.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The subcommand, not for people: `launch-server PARENT PROGRAM ARGUMENT...`.
pub(crate) const LAUNCHER: &str = "launch-server";

/// A command that becomes `program`, and is killed when the thread that starts it ends.
///
/// # Errors
///
/// This executable cannot be found.
pub(crate) fn command(program: &Path, arguments: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(LAUNCHER).arg(std::process::id().to_string()).arg(program).args(arguments);
    Ok(command)
}

/// Becomes `program`, to be killed when `parent` ends; returns only where that fails.
pub(crate) fn launch(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have ended before the kernel was asked.
    let is_parent = getppid().is_some_and(|id| *parent == *id.as_raw_nonzero().to_string());
    if !is_parent {
        return io::Error::other("the program that started this one has ended");
    }
    let error = Command::new(program).args(arguments).exec();
    io::Error::new(error.kind(), format!("{}: {error}", program.display()))
}
