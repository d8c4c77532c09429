//! The thread that restores the state from the journal or the stream, while the loop serves operators and waits
//! for signals.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::StartError;
use super::journal::{self, JournalThread};
#[cfg(feature = "cluster")]
use super::stream::{self, StreamLog};
use crate::config::Config;
use crate::hub::RestoredLog;
use crate::journal::Notice;

/// The time between two lines of progress in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How far the start is. Displays as the reason why the server is not ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
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
    /// The engine of the stream is asked for its newest snapshot.
    #[cfg(feature = "cluster")]
    Connecting,
    /// The engine of the stream does not answer as it should. The text says why.
    #[cfg(feature = "cluster")]
    WaitingForStream(String),
    /// The stream is read.
    #[cfg(feature = "cluster")]
    Reading {
        /// The awaited sequence.
        awaited: u64,
        /// The sequence at which the stream ended at the start.
        end: u64,
    },
}

impl Progress {
    /// Returns the awaited sequence, if it is known.
    pub(super) fn awaited(&self) -> Option<u64> {
        match *self {
            Progress::Replaying { awaited, .. } | Progress::Completing { awaited } => Some(awaited),
            #[cfg(feature = "cluster")]
            Progress::Reading { awaited, .. } => Some(awaited),
            _ => None,
        }
    }

    /// Returns whether the start waits for something else, as long as it takes.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            #[cfg(feature = "cluster")]
            Progress::WaitingForStream(_) => true,
            _ => false,
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
        match *self {
            Progress::Starting => f.write_str("replaying, looking for the newest snapshot"),
            Progress::Loading { bytes, total } => {
                f.write_str("replaying, ")?;
                share(f, bytes, total)?;
                f.write_str(" of a snapshot")
            }
            Progress::Replaying { bytes, total, awaited } => {
                f.write_str("replaying, ")?;
                share(f, bytes, total)?;
                write!(f, ", sequence {awaited}")
            }
            Progress::Completing { awaited } => write!(
                f,
                "replaying, 100 %, writing what is needed to go on from sequence {awaited}"
            ),
            #[cfg(feature = "cluster")]
            Progress::Connecting => {
                f.write_str("starting, looking for the newest snapshot of the stream")
            }
            #[cfg(feature = "cluster")]
            Progress::WaitingForStream(ref reason) => {
                write!(f, "starting, stream unreachable: {reason}")
            }
            #[cfg(feature = "cluster")]
            Progress::Reading { awaited, end } => {
                write!(f, "starting, reading the stream, sequence {awaited} of {end}")
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
        if self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            log::info!("journal: {progress}");
        }
        self.store(progress);
    }

    /// Tells the loop how far the start is.
    pub(super) fn store(&self, progress: Progress) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// A log with the state that its entries lead to.
#[derive(Debug)]
pub(super) enum OpenLog {
    /// A journal of this server alone.
    Journal(Box<RestoredLog<JournalThread>>),
    /// A stream that several servers share.
    #[cfg(feature = "cluster")]
    Stream(Box<RestoredLog<StreamLog>>),
}

/// A start that is in progress. One that is dropped goes on until the process ends, which harms a journal no
/// more than a crash.
#[derive(Debug)]
pub(super) struct RestoreThread {
    progress: Arc<Mutex<Progress>>,
    result: Receiver<Result<OpenLog, StartError>>,
}

impl RestoreThread {
    /// Starts to restore the state from the journal or the stream, if there is one. `waker` wakes the loop when it
    /// is done.
    pub(super) fn start(config: &Config, waker: Arc<Waker>) -> io::Result<Option<RestoreThread>> {
        if config.data_dir.is_none() && config.stream.is_none() {
            return Ok(None);
        }
        let progress = Arc::<Mutex<Progress>>::default();
        let mut report = ProgressReport { shared: Arc::clone(&progress), logged: Instant::now() };
        let (sender, result) = channel();
        let config = config.clone();
        thread::Builder::new().name("recovery".to_owned()).spawn(move || {
            let opened = open(&config, &waker, &mut report);
            // The loop may have ended.
            let _ = sender.send(opened);
            drop(sender);
            if let Err(error) = waker.wake() {
                log::error!("cannot wake the loop after the start: {error}");
            }
        })?;
        Ok(Some(RestoreThread { progress, result }))
    }

    /// Returns how far the start is.
    pub(super) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the result once there is one.
    pub(super) fn take_result(&self) -> Option<Result<OpenLog, StartError>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(StartError::Ended)),
        }
    }
}

fn open(
    config: &Config,
    waker: &Arc<Waker>,
    report: &mut ProgressReport,
) -> Result<OpenLog, StartError> {
    #[cfg(feature = "cluster")]
    if let Some(url) = &config.stream {
        let stream = stream::open(url, config, waker, report)?;
        return Ok(OpenLog::Stream(Box::new(stream)));
    }
    let directory = config.data_dir.as_deref().unwrap_or_else(|| Path::new(""));
    let journal = journal::open(directory, config, waker, report).map_err(StartError::Journal)?;
    Ok(OpenLog::Journal(Box::new(journal)))
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

    #[cfg(feature = "cluster")]
    #[test]
    fn a_start_says_where_it_is_in_the_stream_or_why_it_waits() {
        let reading = Progress::Reading { awaited: 7, end: 9 };
        assert_eq!(reading.to_string(), "starting, reading the stream, sequence 7 of 9");
        assert_eq!((reading.awaited(), reading.is_waiting()), (Some(7), false));
        let waiting = Progress::WaitingForStream("refused".to_owned());
        assert_eq!(waiting.to_string(), "starting, stream unreachable: refused");
        assert!(waiting.is_waiting());
    }
}
