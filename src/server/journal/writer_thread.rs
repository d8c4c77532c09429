//! The thread that writes the journal, and its handle in the loop.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::directory::Directory;
use super::lock::DirectoryLock;
use super::snapshot_thread::SnapshotThread;
use crate::engine::{LogEntry, StateHash};
use crate::hub::{CommitLog, Committed};
#[cfg(feature = "cluster")]
use crate::journal::StreamEntry;
use crate::journal::{Error, Writer, is_disk_full};

/// The time between two attempts while the disk refuses.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The value of [`Shared::stamp_point`] if there is none. Every segment contains an entry.
const NO_STAMP_POINT: u64 = 0;

/// A message to the thread.
#[derive(Debug)]
enum Message {
    Entry(LogEntry),
    #[cfg(feature = "cluster")]
    Stream(StreamEntry),
    Stamp(StateHash),
}

/// What the thread tells the loop.
#[derive(Debug, Default)]
struct Shared {
    /// The number of committed entries.
    committed: AtomicU64,
    /// The number of entries after which the state hash is wanted. Set before `committed` exceeds it.
    stamp_point: AtomicU64,
    /// Why nothing is committed at present.
    problem: Mutex<Option<String>>,
}

impl Shared {
    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// The loop's end of the journal.
#[derive(Debug)]
pub(crate) struct JournalThread {
    /// `None` once the journal is to end.
    messages: Option<Sender<Message>>,
    free_buffers: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    /// The number of committed entries that the loop has taken.
    taken: u64,
    /// The last stamp point that was stamped.
    stamped: u64,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl JournalThread {
    /// Starts the thread. `sync_interval` is the time after which written entries are synced that were
    /// committed before.
    pub(super) fn start(
        writer: Writer<Directory>,
        sync_interval: Option<Duration>,
        snapshots: SnapshotThread,
        lock: DirectoryLock,
        waker: Arc<Waker>,
    ) -> io::Result<JournalThread> {
        let (sender, messages) = channel();
        let (buffers, free_buffers) = channel();
        let (ending, ended) = channel();
        let shared = Arc::<Shared>::default();
        let mut thread = WriterThread {
            writer,
            messages,
            buffers,
            shared: Arc::clone(&shared),
            snapshots,
            waker,
            sync_interval,
            unsynced_since: None,
            problem: None,
        };
        thread::Builder::new().name("journal".to_owned()).spawn(move || {
            thread.run();
            drop(lock);
            drop(ending);
        })?;
        Ok(JournalThread {
            messages: Some(sender),
            free_buffers,
            shared,
            taken: 0,
            stamped: 0,
            ended,
        })
    }

    /// Returns the end to which entries of a stream are passed. It has to be dropped before
    /// [`finish`](CommitLog::finish).
    #[cfg(feature = "cluster")]
    pub(in crate::server) fn feed(&self) -> Option<JournalFeed> {
        self.messages.clone().map(JournalFeed)
    }

    fn send(&self, message: Message) {
        let sent = self.messages.as_ref().map(|messages| messages.send(message));
        if !matches!(sent, Some(Ok(()))) {
            self.shared.set_problem(Some("the thread of the journal has ended".to_owned()));
        }
    }
}

/// Passes entries of a stream to the journal.
#[cfg(feature = "cluster")]
#[derive(Clone, Debug)]
pub(in crate::server) struct JournalFeed(Sender<Message>);

#[cfg(feature = "cluster")]
impl JournalFeed {
    /// Passes the next entry. Without effect once the journal has ended.
    pub(in crate::server) fn append(&self, entry: StreamEntry) {
        let _ = self.0.send(Message::Stream(entry));
    }
}

impl CommitLog for JournalThread {
    fn append(&mut self, entry: LogEntry) {
        self.send(Message::Entry(entry));
    }

    fn take_committed(&mut self) -> Option<Committed> {
        self.has_committed().then(|| {
            self.taken += 1;
            Committed::Oldest
        })
    }

    fn has_committed(&self) -> bool {
        self.shared.committed.load(Ordering::Acquire) > self.taken
    }

    fn stamp_point(&self) -> Option<u64> {
        let point = self.shared.stamp_point.load(Ordering::Acquire);
        (point > self.stamped).then_some(point)
    }

    fn stamp(&mut self, hash: StateHash) {
        if let Some(point) = self.stamp_point() {
            self.stamped = point;
            self.send(Message::Stamp(hash));
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.free_buffers.try_recv().unwrap_or_default()
    }

    fn problem(&self) -> Option<String> {
        self.shared.problem().map(|problem| format!("paused by the disk: {problem}"))
    }

    /// Waits until all entries are on the disk.
    fn finish(mut self: Box<Self>, timeout: Duration) {
        self.messages = None;
        if self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "journal abandoned after {} ms: {}",
                timeout.as_millis(),
                self.shared.problem().unwrap_or_else(|| "the disk is slow".to_owned())
            );
        }
    }
}

/// The state of the thread.
struct WriterThread {
    writer: Writer<Directory>,
    messages: Receiver<Message>,
    buffers: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    snapshots: SnapshotThread,
    waker: Arc<Waker>,
    sync_interval: Option<Duration>,
    /// When the first entry was written that is not synced.
    unsynced_since: Option<Instant>,
    /// Why the disk refused the last attempt, and when.
    problem: Option<(String, Instant)>,
}

impl WriterThread {
    /// Writes until the loop drops its end and everything is on the disk. Tries once more at the end if the
    /// disk refuses.
    fn run(&mut self) {
        while let Ok(()) | Err(RecvTimeoutError::Timeout) = self.receive() {
            self.write();
        }
        self.attempt(Writer::finish);
    }

    /// Waits for a message, the end of the sync interval or the next attempt, then takes all messages that
    /// have arrived.
    fn receive(&mut self) -> Result<(), RecvTimeoutError> {
        let deadline = match (&self.problem, self.unsynced_since, self.sync_interval) {
            (Some((_, since)), ..) => Some(*since + RETRY_INTERVAL),
            (None, Some(since), Some(interval)) => Some(since + interval),
            _ => None,
        };
        let first = match deadline {
            Some(deadline) => {
                self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now()))?
            }
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        };
        self.take(first);
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Entry(entry) => self.writer.append(entry),
            #[cfg(feature = "cluster")]
            Message::Stream(entry) => self.writer.append_stream(entry),
            Message::Stamp(hash) => {
                if self.writer.stamp(hash) {
                    self.snapshots.on_segment_complete();
                }
            }
        }
    }

    /// Writes and syncs what is due, unless the disk has refused within the last second.
    fn write(&mut self) {
        let now = Instant::now();
        if self.problem.as_ref().is_some_and(|(_, since)| now < *since + RETRY_INTERVAL) {
            return;
        }
        self.attempt(Writer::flush);
        if self.problem.is_none() && self.writer.has_unsynced() {
            let since = *self.unsynced_since.get_or_insert(now);
            if self.sync_interval.is_some_and(|interval| now >= since + interval) {
                self.attempt(Writer::sync);
            }
        }
        if !self.writer.has_unsynced() {
            self.unsynced_since = None;
        }
        self.publish();
    }

    /// Runs an operation, and logs when the disk begins and ends to refuse.
    fn attempt(&mut self, operation: impl FnOnce(&mut Writer<Directory>) -> Result<(), Error>) {
        match operation(&mut self.writer) {
            Ok(()) => {
                if self.problem.take().is_some() {
                    self.shared.set_problem(None);
                    log::info!("journal: the disk accepts writes again, going on");
                }
            }
            Err(error) => self.on_error(&error),
        }
    }

    fn on_error(&mut self, error: &Error) {
        let problem = error.to_string();
        // Before the log tells of it.
        self.shared.set_problem(Some(problem.clone()));
        if self.problem.as_ref().is_none_or(|(last, _)| kind_of(last) != kind_of(&problem)) {
            log::error!("journal: {problem}; sources are paused, retrying every second");
        }
        if is_disk_full(error) {
            self.snapshots.on_disk_full();
        }
        self.problem = Some((problem, Instant::now()));
    }

    /// Tells the loop what is committed, and wakes it if that is more than before.
    fn publish(&mut self) {
        for buffer in self.writer.take_free_buffers() {
            // The loop may have ended.
            let _ = self.buffers.send(buffer);
        }
        // The stamp point first: the loop must not apply more than is before it.
        let stamp_point = self.writer.unstamped().unwrap_or(NO_STAMP_POINT);
        let old_point = self.shared.stamp_point.swap(stamp_point, Ordering::Release);
        let committed = self.writer.committed();
        let old_committed = self.shared.committed.swap(committed, Ordering::Release);
        let is_news = committed > old_committed || stamp_point > old_point;
        if is_news && let Err(error) = self.waker.wake() {
            log::error!("journal: cannot wake the loop: {error}");
        }
    }
}

/// Returns the part of a message after the file, which has another name in each attempt.
fn kind_of(problem: &str) -> &str {
    problem.rsplit_once(": ").map_or(problem, |(_, kind)| kind)
}
