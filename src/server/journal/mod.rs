//! The journal on a real disk: the lock, the recovery, and the threads that write.
//!
//! Disk writes and syncs may block, so a thread does them. It writes everything that has arrived while the
//! last write and sync ran with one write and one sync. A second thread of low priority writes snapshots.

mod directory;
mod lock;
mod snapshot_thread;
mod tool;
mod writer_thread;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use mio::Waker;

pub use tool::{ToolError, run as run_tool};
pub(super) use writer_thread::JournalThread;

use self::directory::Directory;
use self::lock::DirectoryLock;
use crate::config::{Config, SyncMode};
use crate::engine::{FollowerGraph, History};
use crate::journal::{self, CommitPoint, Notice, Recovery};

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
}

impl JournalError {
    /// Returns whether the content of the journal is wrong.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, JournalError::Recovery { error, .. } if error.is_corruption())
    }
}

/// A recovered journal, ready to be continued.
#[derive(Debug)]
pub(super) struct OpenJournal {
    /// The thread that continues the journal.
    pub(super) thread: JournalThread,
    /// The restored follower graph.
    pub(super) graph: FollowerGraph,
    /// The restored awaited sequence.
    pub(super) awaited: u64,
    /// The newest events before it, if clients may resume.
    pub(super) history: Option<History>,
}

/// Locks the directory, restores the state from the journal in it, and starts its threads. `waker` wakes the
/// loop when entries are committed.
///
/// # Errors
///
/// Another process uses the directory, or the journal cannot be recovered.
pub(super) fn open(
    directory: &Path,
    config: &Config,
    waker: Arc<Waker>,
) -> Result<OpenJournal, JournalError> {
    let name = || directory.display().to_string();
    let with_name = |reason: String| JournalError::Directory { directory: name(), reason };
    fs::create_dir_all(directory).map_err(|error| with_name(error.to_string()))?;
    let lock = DirectoryLock::acquire(directory).map_err(with_name)?;
    let mut storage = open_storage(directory)?;
    let mut recovery = recover(&mut storage, directory, config)
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
    let writer = journal::Writer::new(storage, recovery.position, commit_point);
    let thread = JournalThread::start(writer, sync_interval, snapshots, lock, waker)
        .map_err(|error| with_name(error.to_string()))?;
    let awaited = recovery.state.awaited;
    let history = recovery.state.history.take();
    Ok(OpenJournal { thread, graph: recovery.state.graph, awaited, history })
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
) -> Result<Recovery, journal::Error> {
    let start = Instant::now();
    let &Config { first_sequence, resume_events, .. } = config;
    let recovery = Recovery::read_with_history(storage, first_sequence, resume_events, |notice| {
        log_notice(&notice);
    })?;
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
    Ok(recovery)
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::DamagedSnapshot { file, reason } => {
            log::warn!("journal: the snapshot {file} is not used: {reason}");
        }
        Notice::Base { snapshot: Some(name), awaited, segments } => log::info!(
            "journal: loaded the snapshot {name} at sequence {awaited}, {segments} segments follow"
        ),
        Notice::Base { snapshot: None, segments, .. } => {
            log::info!("journal: no snapshot, {segments} segments");
        }
        Notice::Progress { bytes, total, awaited } => log::info!(
            "journal: replayed {} of {} MiB, sequence {awaited}",
            bytes >> 20,
            (total >> 20).max(bytes >> 20)
        ),
    }
}
