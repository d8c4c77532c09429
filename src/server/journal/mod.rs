//! The journal on a real disk: the lock, the recovery, and the threads that write.
//!
//! Disk writes and syncs may block, so a thread does them. It writes everything that has arrived while the
//! last write and sync ran with one write and one sync. Where commits wait for no sync, a second thread syncs
//! in the background. Another thread of low priority writes snapshots.

mod directory;
mod lock;
mod recovery_thread;
mod snapshot_thread;
mod tool;
mod writer_thread;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use mio::Waker;

pub(super) use recovery_thread::{Progress, RecoveryThread};
pub use tool::{ToolError, run as run_tool};
pub(super) use writer_thread::JournalThread;

use self::directory::Directory;
use self::lock::DirectoryLock;
use self::recovery_thread::ProgressReport;
use crate::config::{Config, SyncMode};
use crate::hub::RestoredLog;
use crate::journal::{
    self, CommitPoint, Recovery, SEGMENT_BYTES, SnapshotName, snapshot_recovered,
};

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory cannot be created or locked.
    #[error("cannot use the data_dir {directory}: {reason}")]
    Directory {
        /// The directory.
        directory: String,
        /// The reason, with the way out if there is one.
        reason: String,
    },
    /// The journal cannot be recovered.
    #[error("cannot recover the journal in {directory}: {error}")]
    Recovery {
        /// The directory.
        directory: String,
        /// The reason.
        error: journal::Error,
    },
    /// The thread that recovers the journal has ended without a result.
    #[error("the recovery of the journal ended unexpectedly, see above")]
    Ended,
}

impl JournalError {
    /// Returns whether the content of the journal is wrong.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, JournalError::Recovery { error, .. } if error.is_corruption())
    }
}

/// A recovered journal, with the thread that continues it.
pub(super) type OpenJournal = RestoredLog<JournalThread>;

/// Locks the directory, restores the state from the journal in it, and starts its threads. `waker` wakes the
/// loop when entries are committed.
///
/// # Errors
///
/// Another process uses the directory, or the journal cannot be recovered.
fn open(
    directory: &Path,
    config: &Config,
    waker: Arc<Waker>,
    report: &mut ProgressReport,
) -> Result<OpenJournal, JournalError> {
    let name = || directory.display().to_string();
    let with_name = |reason: String| JournalError::Directory { directory: name(), reason };
    fs::create_dir_all(directory).map_err(|error| with_name(error.to_string()))?;
    let lock = DirectoryLock::acquire(directory).map_err(with_name)?;
    let mut storage = open_storage(directory)?;
    let mut recovery = recover(&mut storage, directory, config, report)
        .map_err(|error| JournalError::Recovery { directory: name(), error })?;
    let commit_point = match config.sync {
        SyncMode::Always => CommitPoint::Synced,
        SyncMode::Every(_) | SyncMode::Never => CommitPoint::Written,
    };
    let sync_interval = match config.sync {
        SyncMode::Every(interval) => Some(interval),
        SyncMode::Always | SyncMode::Never => None,
    };
    let snapshots = snapshot_thread::start(open_storage(directory)?, config.journal_retain_bytes)
        .map_err(|error| with_name(error.to_string()))?;
    // The end of the last run may have left complete segments.
    snapshots.on_segment_complete();
    let storage = match commit_point {
        CommitPoint::Written => {
            storage.with_sync_thread().map_err(|error| with_name(error.to_string()))?
        }
        CommitPoint::Synced => storage,
    };
    let writer = journal::Writer::new(storage, recovery.position, commit_point);
    let log = JournalThread::start(writer, sync_interval, snapshots, lock, waker)
        .map_err(|error| with_name(error.to_string()))?;
    let awaited = recovery.state.awaited;
    let history = recovery.state.history.take();
    Ok(OpenJournal { log, graph: recovery.state.graph, awaited, history })
}

fn open_storage(directory: &Path) -> Result<Directory, JournalError> {
    Directory::open(directory).map_err(|error: io::Error| JournalError::Directory {
        directory: directory.display().to_string(),
        reason: error.to_string(),
    })
}

/// Restores the state and prepares the journal to be continued.
fn recover(
    storage: &mut Directory,
    directory: &Path,
    config: &Config,
    report: &mut ProgressReport,
) -> Result<Recovery, journal::Error> {
    let start = Instant::now();
    let &Config { first_sequence, resume_events, .. } = config;
    let mut recovery =
        Recovery::read_with_history(storage, first_sequence, resume_events, |notice| {
            report.on_notice(&notice);
        })?;
    report.on_replayed(recovery.state.awaited);
    if let Some(torn) = &recovery.torn {
        log::warn!(
            "journal: {} ends with {} bytes of an incomplete write at offset {} ({}): cut off, and \
             kept in {}",
            torn.file,
            torn.bytes,
            torn.offset,
            torn.reason,
            torn.copy_name()
        );
    }
    recovery.complete(storage)?;
    log::info!(
        "journal in {}: sequence {} is awaited, {} users, {} lines replayed in {} ms",
        directory.display(),
        recovery.state.awaited,
        recovery.state.graph.users(),
        recovery.lines,
        start.elapsed().as_millis()
    );
    match snapshot_recovered(storage, &mut recovery, SEGMENT_BYTES) {
        Ok(Some((name, bytes))) => log_snapshot(name, bytes),
        Ok(None) => {}
        Err(error) => log::error!("journal: no snapshot: {error}"),
    }
    Ok(recovery)
}

fn log_snapshot(name: SnapshotName, bytes: u64) {
    log::info!("journal: wrote the snapshot {name}, {bytes} bytes");
}
