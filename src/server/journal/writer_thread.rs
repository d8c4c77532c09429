//! The thread that writes the journal, and its handle in the loop.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mio::Waker;

use super::directory::Directory;
use super::lock::DirectoryLock;
use super::snapshot_thread::SnapshotThread;
use crate::engine::{LogEntry, StateHash};
use crate::hub::{CommitLog, Committed};
#[cfg(feature = "cluster")]
use crate::journal::StreamEntry;
use crate::journal::{CommitPoint, Error, Writer, is_disk_full};

/// The time between two attempts while the disk refuses.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The time between two looks whether a sync in the background has ended, without anything to write.
const SYNC_POLL: Duration = Duration::from_millis(20);

/// The number of written bytes from which they are synced in the background, whatever the setting. Entries
/// stay in memory until then, and a segment is complete only once it is on the disk.
const SYNC_BYTES: u64 = 4 << 20;

/// The longest time that the loop waits for a commit within a turn. A write of a batch into the page cache
/// takes some 20 µs, and two switches between the threads on one core 5 µs.
const MAX_WAIT: Duration = Duration::from_micros(300);

/// The capacity from which a buffer is worth being reused. Small batches have buffers of their size.
const MIN_REUSED_BYTES: usize = 16 << 10;

/// The capacity of new buffers of a prompt journal: a batch, and the lines by which it exceeds its size.
const PROMPT_BUFFER_BYTES: usize = 136 << 10;

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
    /// The thread of the loop, once it has waited.
    loop_thread: OnceLock<Thread>,
    /// Whether the loop waits within a turn.
    is_awaited: AtomicBool,
    /// Whether the loop may be asleep in its poll.
    wakes: AtomicBool,
}

impl Shared {
    /// Wakes the loop if it waits for what was committed just now, in a turn or between two.
    fn notify(&self, waker: &Waker) {
        // The loop sets the flags before it looks at what is committed.
        fence(Ordering::SeqCst);
        if self.is_awaited.swap(false, Ordering::Relaxed)
            && let Some(thread) = self.loop_thread.get()
        {
            thread.unpark();
        }
        if self.wakes.swap(false, Ordering::Relaxed)
            && let Err(error) = waker.wake()
        {
            log::error!("journal: cannot wake the loop: {error}");
        }
    }

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
    is_prompt: bool,
    /// The number of entries that were appended.
    appended: u64,
    /// The loop waits again once this many entries are committed.
    patient_from: u64,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl JournalThread {
    /// Starts the thread. `sync_interval` is the time after which written entries are synced that were
    /// committed before. The journal is prompt if commits wait for no sync.
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
        let is_prompt = writer.commit_point() == CommitPoint::Written;
        let mut thread = WriterThread {
            writer,
            messages,
            buffers,
            shared: Arc::clone(&shared),
            snapshots,
            waker,
            sync_interval,
            unsynced_since: None,
            sync_start: None,
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
            is_prompt,
            appended: 0,
            patient_from: 0,
            ended,
        })
    }

    /// Returns the end to which entries of a stream are passed. It has to be dropped before
    /// [`finish`](CommitLog::finish).
    #[cfg(feature = "cluster")]
    pub(in crate::server) fn feed(&self) -> Option<JournalFeed> {
        self.messages.clone().map(JournalFeed)
    }

    /// Returns whether the thread has not taken the last stamp yet. Until then the next stamp point is not
    /// known, and nothing that may be after it is applied.
    fn is_stamp_on_its_way(&self) -> bool {
        self.stamped > 0 && self.shared.stamp_point.load(Ordering::Acquire) == self.stamped
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
        self.appended += 1;
        self.send(Message::Entry(entry));
    }

    fn is_prompt(&self) -> bool {
        self.is_prompt
    }

    fn await_committed(&mut self, entries: u64) {
        let shared = &*self.shared;
        let committed = || shared.committed.load(Ordering::Acquire);
        if committed() >= entries || committed() < self.patient_from {
            return;
        }
        shared.loop_thread.get_or_init(thread::current);
        let start = Instant::now();
        loop {
            shared.is_awaited.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if committed() >= entries {
                break;
            }
            let left = MAX_WAIT.saturating_sub(start.elapsed());
            if left.is_zero() {
                self.patient_from = self.appended;
                break;
            }
            thread::park_timeout(left);
        }
        shared.is_awaited.store(false, Ordering::Relaxed);
    }

    fn set_wakes(&self, wakes: bool) {
        self.shared.wakes.store(wakes, Ordering::Relaxed);
        if wakes {
            fence(Ordering::SeqCst);
        }
    }

    fn take_committed(&mut self) -> Option<Committed> {
        self.has_committed().then(|| {
            self.taken += 1;
            Committed::Oldest
        })
    }

    fn has_committed(&self) -> bool {
        !self.is_stamp_on_its_way() && self.shared.committed.load(Ordering::Acquire) > self.taken
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
        self.free_buffers.try_recv().unwrap_or_else(|_| match self.is_prompt {
            true => Vec::with_capacity(PROMPT_BUFFER_BYTES),
            false => Vec::new(),
        })
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
    /// When the first entry was written that is not synced, or earlier.
    unsynced_since: Option<Instant>,
    /// When the sync in the background was started, if one was.
    sync_start: Option<Instant>,
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
        let deadline = match (&self.problem, self.next_sync()) {
            (Some((_, since)), _) => Some(*since + RETRY_INTERVAL),
            (None, next_sync) => next_sync,
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

    /// Returns when a sync has to be started or looked after.
    fn next_sync(&self) -> Option<Instant> {
        let now = Instant::now();
        let interval = self.unsynced_since.zip(self.sync_interval);
        let end = interval.map(|(since, interval)| since + interval);
        let next = match self.writer.is_syncing() {
            true => Some(now + SYNC_POLL),
            false => interval.map(|(since, interval)| since + interval / 2).filter(|&it| it > now),
        };
        next.into_iter().chain(end).min()
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
            return self.publish();
        }
        match self.take_background_sync() {
            Ok(()) => self.attempt(Writer::flush),
            Err(error) => self.on_error(&error),
        }
        if self.problem.is_none() && self.writer.has_unsynced() {
            self.sync_what_is_due(now);
        }
        if !self.writer.has_unsynced() {
            self.unsynced_since = None;
        }
        self.publish();
    }

    /// Syncs in the background once half of the interval is over. What is not synced at its end is synced before
    /// anything more is committed, because a power cut must not take what is older.
    fn sync_what_is_due(&mut self, now: Instant) {
        let since = *self.unsynced_since.get_or_insert(now);
        let is_older = |age: Option<Duration>| age.is_some_and(|age| now >= since + age);
        if is_older(self.sync_interval) {
            self.attempt(Writer::sync);
        } else if !self.writer.is_syncing()
            && (is_older(self.sync_interval.map(|interval| interval / 2))
                || self.writer.unsynced_bytes() >= SYNC_BYTES)
        {
            self.writer.start_sync();
            self.sync_start = Some(now);
        }
    }

    /// Takes the result of a sync in the background if it has ended.
    fn take_background_sync(&mut self) -> Result<(), Error> {
        if self.writer.is_syncing() {
            self.writer.poll_sync()?;
            if !self.writer.is_syncing() {
                // What is not synced was written after it began.
                self.unsynced_since = self.sync_start;
            }
        }
        Ok(())
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
        // Before the log, so that `/readyz` never contradicts it.
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
        let buffers = self.writer.take_free_buffers();
        for buffer in buffers.filter(|buffer| buffer.capacity() >= MIN_REUSED_BYTES) {
            // The loop may have ended.
            let _ = self.buffers.send(buffer);
        }
        // The stamp point first: the loop must not apply more than is before it.
        let stamp_point = self.writer.unstamped().unwrap_or(NO_STAMP_POINT);
        let old_point = self.shared.stamp_point.swap(stamp_point, Ordering::Release);
        let committed = self.writer.committed();
        let old_committed = self.shared.committed.swap(committed, Ordering::Release);
        if committed > old_committed || stamp_point != old_point {
            self.shared.notify(&self.waker);
        }
    }
}

/// Returns the part of a message after the file, which has another name in each attempt.
fn kind_of(problem: &str) -> &str {
    problem.rsplit_once(": ").map_or(problem, |(_, kind)| kind)
}
