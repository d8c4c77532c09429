//! The lock of a directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The name of the locked file, which contains the ID of the process that holds the lock.
pub(super) const LOCK_FILE: &str = "lock";

/// The exclusive use of a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    /// The kernel releases the lock when this is closed.
    _file: File,
}

impl DirectoryLock {
    /// Locks a directory.
    ///
    /// # Errors
    ///
    /// The reason. It names the process that holds the lock.
    pub(super) fn acquire(directory: &Path) -> Result<DirectoryLock, String> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(directory.join(LOCK_FILE))
            .map_err(|error| format!("cannot open the file {LOCK_FILE}: {error}"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(&mut file)),
            Err(error) => return Err(format!("cannot lock the file {LOCK_FILE}: {error}")),
        }
        // The content is for people: the lock holds without it, on a full disk too.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", process::id()));
        Ok(DirectoryLock { _file: file })
    }
}

fn in_use(file: &mut File) -> String {
    let mut content = String::new();
    let read = file.read_to_string(&mut content);
    match content.trim().parse::<u32>() {
        Ok(id) if read.is_ok() => {
            format!("it is in use by the process {id}: stop that one, or choose another data_dir")
        }
        _ => "it is in use by another process: choose another data_dir".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(folder.path()).unwrap();
        let reason = DirectoryLock::acquire(folder.path()).unwrap_err();
        assert!(reason.contains(&format!("process {}:", process::id())), "{reason}");
        drop(lock);
        DirectoryLock::acquire(folder.path()).unwrap();
    }
}
