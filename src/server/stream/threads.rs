//! The threads that append and read, and what they share with the loop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::random;
use super::redis_engine::RedisEngine;
use crate::cluster::{EngineError, Next, Replica, Request, Response, Trouble};
use crate::config::StreamUrl;

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
    is_stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(replica: Replica, waker: Arc<Waker>) -> Shared {
        Shared {
            replica: Mutex::new(replica),
            append_wakeup: Condvar::new(),
            tail_wakeup: Condvar::new(),
            waker,
            start: Instant::now(),
            has_commit: AtomicBool::new(false),
            is_behind: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
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
        self.append_wakeup.notify_all();
        self.tail_wakeup.notify_all();
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells the loop and the other thread what an answer has changed.
    fn publish(&self, replica: &Replica) {
        let is_behind = replica.trouble().is_some() || replica.lag() > MAX_LAG;
        self.is_behind.store(is_behind, Ordering::Release);
        self.append_wakeup.notify_one();
        if replica.has_commit() {
            self.has_commit.store(true, Ordering::Release);
            if let Err(error) = self.waker.wake() {
                log::error!("stream: cannot wake the loop: {error}");
            }
        }
    }
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Append,
    Tail,
}

/// Starts the threads.
pub(super) fn start(
    shared: &Arc<Shared>,
    append: RedisEngine,
    tail: RedisEngine,
    url: &StreamUrl,
) -> io::Result<()> {
    for (name, lane, engine) in
        [("stream append", Lane::Append, append), ("stream tail", Lane::Tail, tail)]
    {
        let (shared, url) = (Arc::clone(shared), url.to_string());
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || LaneThread { shared, lane, engine, url, logged: None }.run())?;
    }
    Ok(())
}

struct LaneThread {
    shared: Arc<Shared>,
    lane: Lane,
    engine: RedisEngine,
    url: String,
    /// The trouble that was logged last.
    logged: Option<Trouble>,
}

impl LaneThread {
    fn run(&mut self) {
        while let Some(request) = self.next_request() {
            let response = request.call(&mut self.engine);
            self.take(&request, response);
        }
    }

    /// Waits for the next call. `None`: the thread ends.
    fn next_request(&self) -> Option<Request> {
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
                Next::Call(request) => return Some(request),
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
        self.shared.publish(&replica);
        let trouble = match self.lane {
            Lane::Append => replica.append_trouble(),
            Lane::Tail => replica.tail_trouble(),
        };
        let trouble = trouble.cloned();
        drop(replica);
        self.log_changes(trouble);
    }

    /// Logs when trouble of another kind begins, and when it ends.
    fn log_changes(&mut self, trouble: Option<Trouble>) {
        let kind = |trouble: &Option<Trouble>| trouble.as_ref().map(Trouble::name);
        if kind(&trouble) == kind(&self.logged) {
            return;
        }
        let (url, purpose) = (&self.url, if self.lane == Lane::Append { "append" } else { "read" });
        match &trouble {
            Some(trouble) => log::error!("stream {url}: cannot {purpose}: {trouble}"),
            None => log::info!("stream {url}: can {purpose} again"),
        }
        self.logged = trouble;
    }
}
