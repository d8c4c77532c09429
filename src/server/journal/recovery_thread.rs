//! The thread that restores the state, while the loop serves operators and waits for signals.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::{JournalError, OpenJournal, open};
use crate::config::Config;
use crate::journal::Notice;

/// The time between two lines of progress in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How far the recovery is. Displays as the reason why the server is not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) enum Progress {
    /// The files are looked through.
    #[default]
    Starting,
    /// A snapshot is loaded.
    Loading {
        /// The number of bytes loaded.
        bytes: u64,
        /// The length of the snapshot in bytes.
        total: u64,
    },
    /// Segments are replayed.
    Replaying {
        /// The number of bytes replayed.
        bytes: u64,
        /// The number of bytes to replay in total, approximately.
        total: u64,
        /// The awaited sequence.
        awaited: u64,
    },
    /// The journal is prepared to be continued.
    Completing {
        /// The awaited sequence.
        awaited: u64,
    },
}

impl Progress {
    /// Returns the awaited sequence, if it is known.
    pub(in crate::server) fn awaited(self) -> Option<u64> {
        match self {
            Progress::Starting | Progress::Loading { .. } => None,
            Progress::Replaying { awaited, .. } | Progress::Completing { awaited } => Some(awaited),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |f: &mut fmt::Formatter<'_>, bytes: u64, total: u64| {
            // The length of the newest segment is not known before its end is found.
            let percent = (u128::from(bytes) * 100 / u128::from(total.max(1))).min(100);
            write!(f, "{percent} % of {} MiB", total.div_ceil(1 << 20))
        };
        f.write_str("replaying, ")?;
        match *self {
            Progress::Starting => f.write_str("looking for the newest snapshot"),
            Progress::Loading { bytes, total } => {
                share(f, bytes, total)?;
                f.write_str(" of a snapshot")
            }
            Progress::Replaying { bytes, total, awaited } => {
                share(f, bytes, total)?;
                write!(f, ", sequence {awaited}")
            }
            Progress::Completing { awaited } => {
                write!(f, "100 %, writing what is needed to go on from sequence {awaited}")
            }
        }
    }
}

/// The progress that the thread shares with the loop.
#[derive(Clone, Debug)]
pub(super) struct ProgressReport {
    shared: Arc<Mutex<Progress>>,
    logged: Instant,
}

impl ProgressReport {
    /// Logs a notice, the progress once a second, and tells the loop how far the recovery is.
    pub(super) fn on_notice(&mut self, notice: &Notice) {
        match *notice {
            Notice::DamagedSnapshot { ref file, ref reason } => {
                log::warn!("journal: the snapshot {file} is not used: {reason}");
            }
            Notice::Loading { bytes, total } => self.set(Progress::Loading { bytes, total }),
            Notice::Base { snapshot: Some(name), awaited, segments } => log::info!(
                "journal: loaded the snapshot {name} at sequence {awaited}, {segments} segments follow"
            ),
            Notice::Base { snapshot: None, segments, .. } => {
                log::info!("journal: no snapshot, {segments} segments");
            }
            Notice::Progress { bytes, total, awaited } => {
                self.set(Progress::Replaying { bytes, total, awaited });
            }
        }
    }

    /// Tells the loop that everything is replayed.
    pub(super) fn on_replayed(&self, awaited: u64) {
        self.store(Progress::Completing { awaited });
    }

    fn set(&mut self, progress: Progress) {
        self.store(progress);
        if self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            log::info!("journal: {progress}");
        }
    }

    fn store(&self, progress: Progress) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// A recovery that is in progress. One that is dropped goes on until the process ends, which harms the journal
/// no more than a crash.
#[derive(Debug)]
pub(in crate::server) struct RecoveryThread {
    progress: Arc<Mutex<Progress>>,
    result: Receiver<Result<OpenJournal, JournalError>>,
}

impl RecoveryThread {
    /// Starts to restore the state from a directory. `waker` wakes the loop when it is done.
    pub(in crate::server) fn start(
        directory: &Path,
        config: &Config,
        waker: Arc<Waker>,
    ) -> io::Result<Self> {
        let progress = Arc::<Mutex<Progress>>::default();
        let mut report = ProgressReport { shared: Arc::clone(&progress), logged: Instant::now() };
        let (sender, result) = channel();
        let (directory, config) = (directory.to_owned(), config.clone());
        thread::Builder::new().name("recovery".to_owned()).spawn(move || {
            let opened = open(&directory, &config, Arc::clone(&waker), &mut report);
            // The loop may have ended.
            let _ = sender.send(opened);
            drop(sender);
            if let Err(error) = waker.wake() {
                log::error!("journal: cannot wake the loop: {error}");
            }
        })?;
        Ok(RecoveryThread { progress, result })
    }

    /// Returns how far the recovery is.
    pub(in crate::server) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the result once there is one.
    pub(in crate::server) fn take_result(&self) -> Option<Result<OpenJournal, JournalError>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(JournalError::Ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_share_of_what_is_there() {
        let replaying = |bytes, total| Progress::Replaying { bytes, total, awaited: 7 }.to_string();
        assert_eq!(replaying(0, 0), "replaying, 0 % of 0 MiB, sequence 7");
        assert_eq!(replaying(1, 2), "replaying, 50 % of 1 MiB, sequence 7");
        assert_eq!(replaying(300 << 20, 200 << 20), "replaying, 100 % of 200 MiB, sequence 7");
        let loading = Progress::Loading { bytes: 3 << 30, total: 4 << 30 };
        assert_eq!(loading.to_string(), "replaying, 75 % of 4096 MiB of a snapshot");
    }
}
