//! The threads that append and read, and what they share with the loop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::random;
use super::redis_engine::RedisEngine;
use crate::cluster::{
    EngineError, Next, Position, RECALL_BYTES, Replica, Request, Response, Trouble,
};
use crate::config::StreamUrl;
use crate::journal::{StreamPart, read_entries};
use crate::server::journal::{Directory, JournalFeed};

/// How far the stream may be ahead, in sequences, before this server counts as catching up.
const MAX_LAG: u64 = 1 << 17;

/// What the threads and the loop share.
#[derive(Debug)]
pub(super) struct Shared {
    replica: Mutex<Replica>,
    append_wakeup: Condvar,
    tail_wakeup: Condvar,
    waker: Arc<Waker>,
    start: Instant,
    /// Whether the loop can take an entry.
    has_commit: AtomicBool,
    /// Whether the stream may contain what this server lacks.
    is_behind: AtomicBool,
    /// Whether the stream was trimmed beyond this server.
    is_outrun: AtomicBool,
    is_stopped: AtomicBool,
    /// Where entries go that were read, if there is a journal, until the end.
    journal: Mutex<Option<JournalFeed>>,
}

impl Shared {
    pub(super) fn new(replica: Replica, waker: Arc<Waker>, journal: Option<JournalFeed>) -> Shared {
        Shared {
            replica: Mutex::new(replica),
            append_wakeup: Condvar::new(),
            tail_wakeup: Condvar::new(),
            waker,
            start: Instant::now(),
            has_commit: AtomicBool::new(false),
            // A start from a journal has not seen where the stream ends.
            is_behind: AtomicBool::new(journal.is_some()),
            is_outrun: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            journal: Mutex::new(journal),
        }
    }

    /// Locks the replica. No thread makes a call of the engine meanwhile.
    pub(super) fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_commit(&self) -> bool {
        self.has_commit.load(Ordering::Acquire)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    pub(super) fn is_outrun(&self) -> bool {
        self.is_outrun.load(Ordering::Acquire)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Tells the threads that the loop has added or taken something.
    pub(super) fn on_loop(&self, replica: &Replica) {
        self.has_commit.store(replica.has_commit(), Ordering::Release);
        self.append_wakeup.notify_one();
        self.tail_wakeup.notify_one();
    }

    /// Ends the threads after their current calls.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let _replica = self.replica();
        *self.journal() = None;
        self.append_wakeup.notify_all();
        self.tail_wakeup.notify_all();
    }

    fn journal(&self) -> MutexGuard<'_, Option<JournalFeed>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes what was read to the journal.
    fn feed_journal(&self, replica: &mut Replica) {
        if let Some(journal) = &*self.journal() {
            while let Some(entry) = replica.take_unjournaled() {
                journal.append(entry);
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells the loop and the other thread what an answer has changed.
    fn publish(&self, replica: &Replica) {
        let is_behind =
            replica.trouble().is_some() || replica.is_in_doubt() || replica.lag() > MAX_LAG;
        self.is_behind.store(is_behind, Ordering::Release);
        self.append_wakeup.notify_one();
        let is_outrun = matches!(replica.trouble(), Some(Trouble::Trimmed { .. }));
        let was_outrun = self.is_outrun.swap(is_outrun, Ordering::Release);
        if replica.has_commit() {
            self.has_commit.store(true, Ordering::Release);
        }
        let is_news = replica.has_commit() || is_outrun != was_outrun;
        if is_news && let Err(error) = self.waker.wake() {
            log::error!("stream: cannot wake the loop: {error}");
        }
    }
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Append,
    Tail,
}

/// Starts the threads. `recall` is the directory of the journal, if there is one.
pub(super) fn start(
    shared: &Arc<Shared>,
    append: RedisEngine,
    tail: RedisEngine,
    recall: Option<Directory>,
    url: &StreamUrl,
) -> io::Result<()> {
    for (name, lane, engine, recall) in
        [("stream append", Lane::Append, append, recall), ("stream tail", Lane::Tail, tail, None)]
    {
        let (shared, url) = (Arc::clone(shared), url.to_string());
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || LaneThread { shared, lane, engine, recall, url, logged: None }.run())?;
    }
    Ok(())
}

struct LaneThread {
    shared: Arc<Shared>,
    lane: Lane,
    engine: RedisEngine,
    /// The journal, to read lost entries from it.
    recall: Option<Directory>,
    url: String,
    /// The name of the trouble that was logged last.
    logged: Option<&'static str>,
}

impl LaneThread {
    fn run(&mut self) {
        while let Some(work) = self.next_work() {
            match work {
                Work::Call(request) => {
                    let response = request.call(&mut self.engine);
                    self.take(&request, response);
                }
                Work::Recall(after) => self.recall(after),
            }
        }
    }

    /// Reads entries from the journal that the engine has lost.
    fn recall(&mut self, after: Option<Position>) {
        let read = match &self.recall {
            Some(directory) => read_entries(directory, after.map(|it| it.0), RECALL_BYTES),
            None => Ok(StreamPart::default()),
        };
        let mut replica = self.shared.replica();
        replica.on_recalled(read.map_err(|error| error.to_string()), self.shared.now());
        let trouble = self.publish(&replica);
        drop(replica);
        self.log_changes(trouble.as_ref());
    }

    /// Waits for the next work. `None`: the thread ends.
    fn next_work(&self) -> Option<Work> {
        let Shared { append_wakeup, tail_wakeup, .. } = &*self.shared;
        let mut replica = self.shared.replica();
        loop {
            if self.shared.is_stopped() {
                return None;
            }
            let now = self.shared.now();
            let (next, wakeup) = match self.lane {
                Lane::Append => (replica.next_append(now), append_wakeup),
                Lane::Tail => (replica.next_tail(now), tail_wakeup),
            };
            replica = match next {
                Next::Call(request) => return Some(Work::Call(request)),
                Next::Recall(after) => return Some(Work::Recall(after)),
                Next::WaitUntil(when) => {
                    let waited = wakeup.wait_timeout(replica, when.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Next::Wait => wakeup.wait(replica).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn take(&mut self, request: &Request, response: Result<Response, EngineError>) {
        let mut replica = self.shared.replica();
        let now = self.shared.now();
        match self.lane {
            Lane::Append => replica.on_appended(request, response, now, random()),
            Lane::Tail => replica.on_tail(request, response, now, random()),
        }
        self.shared.feed_journal(&mut replica);
        let trouble = self.publish(&replica);
        drop(replica);
        self.log_changes(trouble.as_ref());
    }

    /// Tells the others what has changed. Returns the trouble of this connection, and its description.
    fn publish(&self, replica: &Replica) -> Option<(Trouble, String)> {
        self.shared.publish(replica);
        let trouble = match self.lane {
            Lane::Append => replica.append_trouble(),
            Lane::Tail => replica.tail_trouble(),
        };
        trouble.map(|trouble| (trouble.clone(), replica.describe(trouble)))
    }

    /// Logs when trouble of another kind begins, and when it ends.
    fn log_changes(&mut self, trouble: Option<&(Trouble, String)>) {
        let name = trouble.map(|(trouble, _)| trouble.name());
        if name == self.logged {
            return;
        }
        let (url, purpose) = (&self.url, if self.lane == Lane::Append { "append" } else { "read" });
        match trouble {
            Some((_, text)) => log::error!("stream {url}: cannot {purpose}: {text}"),
            None => log::info!("stream {url}: can {purpose} again"),
        }
        self.logged = name;
    }
}

/// What a thread does next.
#[derive(Debug)]
enum Work {
    /// A call of the engine.
    Call(Request),
    /// It reads the entries after a position from the journal.
    Recall(Option<Position>),
}
