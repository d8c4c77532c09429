//! The stream that several servers share, over Redis or Valkey.
//!
//! Calls of the engine may block, so threads make them: one appends, one reads, one publishes snapshots. Each
//! has a connection of its own. What the first two share is a [`Replica`], which
//! decides what they do.

mod log;
mod redis_engine;
mod snapshot_thread;
mod threads;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

pub(super) use self::log::StreamLog;

use self::redis_engine::RedisEngine;
use self::threads::Shared;
use crate::cluster::{EngineError, Progress, Replica, RestoreError, restore};
use crate::config::{Config, StreamUrl};
use crate::hub::RestoredLog;

/// How long a start tries to reach the engine.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two attempts of a start.
const START_RETRY: Duration = Duration::from_millis(200);

/// How often the progress of a start is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why a server cannot start from its stream.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the stream {url}: {error}")]
pub struct StreamError {
    /// The stream, without its password.
    url: String,
    /// The reason.
    error: RestoreError,
}

/// The stream, with the loop's end of it.
pub(super) type OpenStream = RestoredLog<StreamLog>;

/// Restores the state from the stream, and starts the threads. `waker` wakes the loop when entries were read.
///
/// # Errors
///
/// The engine cannot be reached, or the stream cannot be used.
pub(super) fn open(
    url: &StreamUrl,
    config: &Config,
    waker: Arc<Waker>,
) -> Result<OpenStream, StreamError> {
    let with_url = |error: RestoreError| StreamError { url: url.to_string(), error };
    let engine = || RedisEngine::new(url).map_err(|error| with_url(error.into()));
    let mut first = engine()?;
    let start = Instant::now();
    let restored = loop {
        let create = config.stream_create.then(random);
        let mut progress = ProgressLog::new(url);
        let on_step = |step| progress.log(step);
        match restore(&mut first, config.first_sequence, create, config.resume_events, on_step) {
            Err(RestoreError::Engine(error)) if start.elapsed() < START_TIMEOUT => {
                ::log::warn!("stream {url}: {error}; trying again");
                thread::sleep(START_RETRY);
            }
            restored => break restored.map_err(with_url)?,
        }
    };
    let awaited = restored.state.awaited;
    ::log::info!(
        "stream {url}: sequence {awaited} is awaited, {} users, read in {} ms",
        restored.state.graph.users(),
        start.elapsed().as_millis()
    );
    let published = restored.snapshot;
    let replica = Replica::new(random(), restored.history, restored.kept, restored.epoch);
    let shared = Arc::new(Shared::new(replica, waker));
    let failed = |error: std::io::Error| with_url(EngineError(error.to_string()).into());
    threads::start(&shared, engine()?, engine()?, url).map_err(failed)?;
    let max_bytes = config.stream_max_bytes;
    snapshot_thread::start(&shared, first, config.first_sequence, max_bytes, published)
        .map_err(failed)?;
    Ok(OpenStream {
        log: StreamLog::new(shared),
        graph: restored.state.graph,
        awaited,
        history: restored.state.history,
    })
}

/// Logs the progress of a start.
struct ProgressLog<'a> {
    url: &'a StreamUrl,
    last: Instant,
}

impl ProgressLog<'_> {
    fn new(url: &StreamUrl) -> ProgressLog<'_> {
        ProgressLog { url, last: Instant::now() }
    }

    fn log(&mut self, step: Progress) {
        let url = self.url;
        match step {
            Progress::Created => ::log::info!("stream {url}: created"),
            Progress::Loaded { position } => {
                ::log::info!("stream {url}: loaded the snapshot at sequence {position}");
            }
            Progress::Read { position, end } if self.last.elapsed() >= PROGRESS_INTERVAL => {
                self.last = Instant::now();
                ::log::info!("stream {url}: read up to sequence {position} of {end}");
            }
            Progress::Read { .. } => {}
        }
    }
}

/// Returns a random number.
fn random() -> u64 {
    // The keys of a new state are random.
    RandomState::new().build_hasher().finish() | 1
}
