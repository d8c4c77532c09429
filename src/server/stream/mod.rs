//! The stream that several servers share, over Redis or Valkey.
//!
//! Calls of the engine may block, so threads make them: one appends, one reads, one publishes snapshots. Each
//! has a connection of its own. What the first two share is a [`Replica`], which
//! decides what they do.

mod log;
mod redis_engine;
mod snapshot_thread;
mod threads;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

pub(super) use self::log::StreamLog;

use self::redis_engine::RedisEngine;
use self::threads::Shared;
use super::StartError;
use super::journal::{Directory, JournalThread, RecoveredJournal};
use super::restore_thread::{self, ProgressReport};
use crate::cluster::{
    Backoff, EngineError, JournaledEntries, Progress, Replica, RestoreError, Restored,
    begin_journal, restore, resume,
};
use crate::config::{Config, StreamUrl};
use crate::hub::RestoredLog;

/// How often the progress of a start is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is logged that a start still waits for the engine.
const WAIT_INTERVAL: Duration = Duration::from_secs(10);

/// Why a server cannot start from its stream.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the stream {url}{}: {error}", Beside(.data_dir.as_deref()))]
pub struct StreamError {
    /// The stream, without its password.
    url: String,
    /// The directory of the journal, if there is one.
    data_dir: Option<String>,
    /// The reason.
    error: RestoreError,
}

/// Displays the journal that is used together with a stream.
struct Beside<'a>(Option<&'a str>);

impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |directory| write!(f, " with the journal in {directory}"))
    }
}

/// Restores the state from the journal, if there is one, and the stream, and starts the threads. Waits for an
/// engine that does not answer. `waker` wakes the loop when entries were read.
///
/// # Errors
///
/// The stream cannot be used, or the journal.
pub(super) fn open(
    url: &StreamUrl,
    config: &Config,
    waker: &Arc<Waker>,
    report: &mut ProgressReport,
) -> Result<RestoredLog<StreamLog>, StartError> {
    let start = Start { url, config, waker, begun: Instant::now() };
    match &config.data_dir {
        None => start.restore_from_stream(report).map_err(StartError::Stream),
        Some(directory) => start.restore_from_journal(directory, report),
    }
}

/// A start from a stream.
struct Start<'a> {
    url: &'a StreamUrl,
    config: &'a Config,
    waker: &'a Arc<Waker>,
    begun: Instant,
}

impl Start<'_> {
    fn error(&self, error: RestoreError) -> StreamError {
        let data_dir = self.config.data_dir.as_ref().map(|path| path.display().to_string());
        StreamError { url: self.url.to_string(), data_dir, error }
    }

    fn engine(&self) -> Result<RedisEngine, StreamError> {
        RedisEngine::new(self.url).map_err(|error| self.error(error.into()))
    }

    /// Reads the stream up to its end.
    fn restore_from_stream(
        &self,
        report: &mut ProgressReport,
    ) -> Result<RestoredLog<StreamLog>, StreamError> {
        let Config { first_sequence, resume_events, .. } = *self.config;
        let mut engine = self.engine()?;
        let restored = self.wait_for_engine(report, |report| {
            let create = self.config.stream_create.then(random);
            let mut progress = ProgressLog::new(self.url, report);
            let on_step = |step| progress.log(step);
            restore(&mut engine, first_sequence, create, resume_events, on_step)
        })?;
        self.run(engine, restored, None)
    }

    /// Goes on where the journal ends, and reads the rest of the stream while the server runs. A journal that has
    /// to begin does so at the end of the stream.
    fn restore_from_journal(
        &self,
        directory: &Path,
        report: &mut ProgressReport,
    ) -> Result<RestoredLog<StreamLog>, StartError> {
        let error = |error| StartError::Stream(self.error(error));
        let Config { first_sequence, resume_events, .. } = *self.config;
        let mut entries = JournaledEntries::default();
        let mut journal = RecoveredJournal::open(directory, self.config, &mut entries, report)
            .map_err(StartError::Journal)?;
        let journaled = entries.restored(&mut journal.recovery).map_err(error)?;
        let mut engine = self.engine().map_err(StartError::Stream)?;
        let begun = self.wait_for_engine(report, |report| {
            let create = self.config.stream_create.then(random);
            let mut progress = ProgressLog::new(self.url, report);
            let on_step = |step| progress.log(step);
            resume(&mut engine, first_sequence, create, resume_events, journaled.as_ref(), on_step)
        });
        let restored = match (begun.map_err(StartError::Stream)?, journaled) {
            (Some(mut restored), _) => {
                journal
                    .begin(|storage, position| begin_journal(storage, position, &mut restored))
                    .map_err(StartError::Journal)?;
                restored
            }
            (None, Some(journaled)) => journaled,
            (None, None) => return Err(error(RestoreError::Missing { first_sequence })),
        };
        let recall = Directory::open_read_only(directory)
            .map_err(|reason| error(RestoreError::Journal(reason.to_string())))?;
        let journal = journal.start(self.config, self.waker).map_err(StartError::Journal)?;
        self.run(engine, restored, Some((journal, recall))).map_err(StartError::Stream)
    }

    /// Repeats an attempt until it succeeds, or fails for a reason that does not pass.
    fn wait_for_engine<T>(
        &self,
        report: &mut ProgressReport,
        mut attempt: impl FnMut(&mut ProgressReport) -> Result<T, RestoreError>,
    ) -> Result<T, StreamError> {
        let (mut backoff, mut logged) = (Backoff::default(), None::<Instant>);
        report.store(restore_thread::Progress::Connecting);
        loop {
            match attempt(report) {
                Err(error) if error.may_pass() => {
                    if logged.is_none_or(|logged| logged.elapsed() >= WAIT_INTERVAL) {
                        ::log::warn!("stream {}: {error}; trying again until it answers", self.url);
                        logged = Some(Instant::now());
                    }
                    report.store(restore_thread::Progress::WaitingForStream(error.to_string()));
                    thread::sleep(backoff.next_delay(random()));
                }
                result => return result.map_err(|error| self.error(error)),
            }
        }
    }

    /// Starts the threads.
    fn run(
        &self,
        engine: RedisEngine,
        restored: Restored,
        journal: Option<(JournalThread, Directory)>,
    ) -> Result<RestoredLog<StreamLog>, StreamError> {
        let Start { url, config, begun, .. } = *self;
        let Restored { state, history, kept, snapshot, epoch, stream, .. } = restored;
        ::log::info!(
            "stream {url}: sequence {} is awaited, {} users, read in {} ms",
            state.awaited,
            state.graph.users(),
            begun.elapsed().as_millis()
        );
        let mut replica = Replica::new(random(), history, kept, epoch);
        if journal.is_some() {
            replica = replica.with_journal(stream);
        }
        let (journal, recall) = journal.unzip();
        let feed = journal.as_ref().and_then(JournalThread::feed);
        let shared = Arc::new(Shared::new(replica, Arc::clone(self.waker), feed));
        let failed =
            |error: std::io::Error| self.error(EngineError::passing(error.to_string()).into());
        threads::start(&shared, self.engine()?, self.engine()?, recall, url).map_err(failed)?;
        let max_bytes = config.stream_max_bytes;
        snapshot_thread::start(&shared, engine, config.first_sequence, max_bytes, snapshot)
            .map_err(failed)?;
        Ok(RestoredLog {
            log: StreamLog::new(shared, journal),
            graph: state.graph,
            awaited: state.awaited,
            history: state.history,
        })
    }
}

/// Logs the progress of a start, and tells the loop.
struct ProgressLog<'a> {
    url: &'a StreamUrl,
    report: &'a ProgressReport,
    last: Instant,
}

impl<'a> ProgressLog<'a> {
    fn new(url: &'a StreamUrl, report: &'a ProgressReport) -> ProgressLog<'a> {
        ProgressLog { url, report, last: Instant::now() }
    }

    fn log(&mut self, step: Progress) {
        let url = self.url;
        match step {
            Progress::Created => ::log::info!("stream {url}: created"),
            Progress::Ahead { position, end: Some(end) } => ::log::warn!(
                "stream {url}: it ends at sequence {end}, the journal at {position}: this server appends \
                 again what the engine has lost"
            ),
            Progress::Ahead { position, end: None } => ::log::warn!(
                "stream {url}: it does not exist any more, the journal ends at {position}: this server \
                 creates it again if it has all entries"
            ),
            Progress::Behind { position } => ::log::warn!(
                "stream {url}: it was trimmed beyond the end of the journal at sequence {position}, and the \
                 journal begins again at the end of the stream"
            ),
            Progress::Loaded { position } => {
                ::log::info!("stream {url}: loaded the snapshot at sequence {position}");
            }
            Progress::Read { position, end } => {
                let (awaited, end) = (position.0, end.0);
                self.report.store(restore_thread::Progress::Reading { awaited, end });
                if self.last.elapsed() >= PROGRESS_INTERVAL {
                    self.last = Instant::now();
                    ::log::info!("stream {url}: read up to sequence {position} of {end}");
                }
            }
        }
    }
}

/// Returns a random number.
fn random() -> u64 {
    // The keys of a new state are random.
    RandomState::new().build_hasher().finish() | 1
}
