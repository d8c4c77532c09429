//! The thread that writes snapshots and removes what they make superfluous.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use super::directory::Directory;
use super::log_snapshot;
use crate::journal::{Maintained, maintain};

/// The nice value of the thread, so that it takes the time that the loop leaves.
const NICE: i32 = 10;

/// The time after which the thread gives way to others on its core. Whatever its priority, the scheduler lets
/// a thread run for milliseconds once it runs, and the loop would wait. A thread that gives way waits as if it
/// had used all of that time, so with this priority it has some two percent of a busy core.
const MAX_BURST: Duration = Duration::from_micros(500);

/// A reason to look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// A segment is complete.
    SegmentComplete,
    /// The disk is full: nothing is retained that is not needed.
    DiskFull,
}

/// The thread's handle. The thread ends with it.
#[derive(Debug)]
pub(super) struct SnapshotThread {
    requests: SyncSender<Request>,
}

impl SnapshotThread {
    /// Tells that a segment is complete.
    pub(super) fn on_segment_complete(&self) {
        self.request(Request::SegmentComplete);
    }

    /// Tells that the disk is full.
    pub(super) fn on_disk_full(&self) {
        self.request(Request::DiskFull);
    }

    fn request(&self, request: Request) {
        match self.requests.try_send(request) {
            // A request that waits has the same effect.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => log::error!("journal: no more snapshots"),
        }
    }
}

/// Starts the thread, which keeps `retain_bytes` of segments before the newest snapshot.
pub(super) fn start(directory: Directory, retain_bytes: u64) -> io::Result<SnapshotThread> {
    let (requests, received) = sync_channel(1);
    thread::Builder::new()
        .name("snapshots".to_owned())
        .spawn(move || run(directory, retain_bytes, &received))?;
    Ok(SnapshotThread { requests })
}

fn run(mut directory: Directory, retain_bytes: u64, requests: &Receiver<Request>) {
    // On Linux this concerns the calling thread alone.
    if let Err(error) = setpriority_process(None, NICE) {
        log::debug!("journal: snapshots are written at normal priority: {error}");
    }
    let mut burst = Instant::now();
    let mut pause = || {
        if burst.elapsed() >= MAX_BURST {
            thread::yield_now();
            burst = Instant::now();
        }
    };
    for request in requests {
        let retain_bytes = match request {
            Request::SegmentComplete => retain_bytes,
            Request::DiskFull => 0,
        };
        match maintain(&mut directory, retain_bytes, &mut pause) {
            Ok(Maintained { snapshot, removed }) => {
                if let Some((name, bytes)) = snapshot {
                    log_snapshot(name, bytes);
                }
                for name in removed {
                    log::debug!("journal: {name} is no longer needed");
                }
            }
            Err(error) => log::error!("journal: no snapshot: {error}"),
        }
    }
}
