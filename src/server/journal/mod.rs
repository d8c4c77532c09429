//! The journal on a real disk: the lock, the recovery, and the threads that write.
//!
//! Disk writes and syncs may block, so a thread does them. It writes everything that has arrived while the
//! last write and sync ran with one write and one sync. Where commits wait for no sync, a second thread syncs
//! in the background. Another thread of low priority writes snapshots.

mod directory;
mod lock;
mod snapshot_thread;
mod tool;
mod writer_thread;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mio::Waker;

#[cfg(feature = "cluster")]
pub(super) use directory::Directory;
pub use tool::{ToolError, run as run_tool};
#[cfg(feature = "cluster")]
pub(super) use writer_thread::JournalFeed;
pub(super) use writer_thread::JournalThread;

#[cfg(not(feature = "cluster"))]
use self::directory::Directory;
use self::lock::DirectoryLock;
use super::restore_thread::ProgressReport;
use crate::config::{Config, SyncMode};
use crate::hub::RestoredLog;
#[cfg(feature = "cluster")]
use crate::journal::Position;
use crate::journal::{
    self, CommitPoint, Recovery, Replay, SEGMENT_BYTES, SnapshotName, snapshot_recovered,
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
    /// The journal belongs to a stream.
    #[error(
        "cannot use the data_dir {directory}: its journal follows a stream that several servers share; name \
         the stream with --stream, or another data_dir"
    )]
    FollowsStream {
        /// The directory.
        directory: String,
    },
}

impl JournalError {
    /// Returns whether the content of the journal is wrong.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, JournalError::Recovery { error, .. } if error.is_corruption())
    }
}

/// Restores the state from the journal in a directory, and starts its threads. `waker` wakes the loop when
/// entries are committed.
///
/// # Errors
///
/// Another process uses the directory, or the journal cannot be recovered.
pub(super) fn open(
    directory: &Path,
    config: &Config,
    waker: &Arc<Waker>,
    report: &mut ProgressReport,
) -> Result<RestoredLog<JournalThread>, JournalError> {
    let mut journal = RecoveredJournal::open(directory, config, &mut (), report)?;
    if journal.recovery.position.stream.is_some() {
        return Err(JournalError::FollowsStream { directory: directory.display().to_string() });
    }
    let state = journal.recovery.take_state();
    let log = journal.start(config, waker)?;
    let (awaited, history) = (state.awaited, state.history);
    Ok(RestoredLog { log, graph: state.graph, awaited, history })
}

/// A journal that is locked, recovered and ready to be continued.
#[derive(Debug)]
pub(super) struct RecoveredJournal {
    directory: PathBuf,
    lock: DirectoryLock,
    storage: Directory,
    pub(super) recovery: Recovery,
}

impl RecoveredJournal {
    /// Locks the directory, and restores the state from the journal in it. Passes what is replayed to
    /// `observer`.
    ///
    /// # Errors
    ///
    /// Another process uses the directory, or the journal cannot be recovered.
    pub(super) fn open(
        directory: &Path,
        config: &Config,
        observer: &mut impl Replay,
        report: &mut ProgressReport,
    ) -> Result<RecoveredJournal, JournalError> {
        fs::create_dir_all(directory).map_err(unusable(directory))?;
        let lock = DirectoryLock::acquire(directory).map_err(unusable(directory))?;
        let mut storage = Directory::open(directory).map_err(unusable(directory))?;
        let recovery = recover(&mut storage, directory, config, observer, report)
            .map_err(with_name(directory))?;
        Ok(RecoveredJournal { directory: directory.to_owned(), lock, storage, recovery })
    }

    /// Begins the journal anew by a function that writes to the directory, from where the journal ends, and
    /// returns where it continues.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    #[cfg(feature = "cluster")]
    pub(super) fn begin(
        &mut self,
        begin: impl FnOnce(&mut Directory, Position) -> Result<Position, journal::Error>,
    ) -> Result<(), JournalError> {
        let begun = begin(&mut self.storage, self.recovery.position);
        self.recovery.position = begun.map_err(with_name(&self.directory))?;
        Ok(())
    }

    /// Starts the threads that continue it. `waker` wakes the loop when entries are committed.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub(super) fn start(
        self,
        config: &Config,
        waker: &Arc<Waker>,
    ) -> Result<JournalThread, JournalError> {
        let RecoveredJournal { directory, lock, storage, recovery } = self;
        let commit_point = match config.sync {
            SyncMode::Always => CommitPoint::Synced,
            SyncMode::Every(_) | SyncMode::Never => CommitPoint::Written,
        };
        let sync_interval = match config.sync {
            SyncMode::Every(interval) => Some(interval),
            SyncMode::Always | SyncMode::Never => None,
        };
        let maintained = Directory::open(&directory).map_err(unusable(&directory))?;
        let snapshots = snapshot_thread::start(maintained, config.journal_retain_bytes)
            .map_err(unusable(&directory))?;
        // The end of the last run may have left complete segments.
        snapshots.on_segment_complete();
        let storage = match commit_point {
            CommitPoint::Written => storage.with_sync_thread().map_err(unusable(&directory))?,
            CommitPoint::Synced => storage,
        };
        let writer = journal::Writer::new(storage, recovery.position, commit_point);
        JournalThread::start(writer, sync_interval, snapshots, lock, Arc::clone(waker))
            .map_err(unusable(&directory))
    }
}

fn unusable<E: ToString>(directory: &Path) -> impl Fn(E) -> JournalError {
    let directory = directory.display().to_string();
    move |error| JournalError::Directory { directory: directory.clone(), reason: error.to_string() }
}

fn with_name(directory: &Path) -> impl Fn(journal::Error) -> JournalError {
    let directory = directory.display().to_string();
    move |error| JournalError::Recovery { directory: directory.clone(), error }
}

/// Restores the state and prepares the journal to be continued.
fn recover(
    storage: &mut Directory,
    directory: &Path,
    config: &Config,
    observer: &mut impl Replay,
    report: &mut ProgressReport,
) -> Result<Recovery, journal::Error> {
    let start = Instant::now();
    let &Config { first_sequence, resume_events, .. } = config;
    let mut recovery =
        Recovery::read_with_history(storage, first_sequence, resume_events, observer, |notice| {
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
