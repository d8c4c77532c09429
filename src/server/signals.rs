//! Signal handling on a separate thread, which works even if the loop or the start is blocked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

/// The time after a signal to stop in which further ones are ignored, because a terminal and a service
/// manager often send two.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// The time for the loop to end by itself and log the totals, before a forced stop exits.
const FORCED_STOP_GRACE: Duration = Duration::from_millis(200);

/// The exit status of a forced stop.
const FORCED_STOP_STATUS: i32 = 1;

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGINT or SIGTERM: deliver received events, then exit.
    Stop,
    /// A second SIGINT or SIGTERM: exit immediately.
    ForcedStop,
    /// SIGUSR1: log the totals.
    Stats,
    /// SIGHUP: read the settings again.
    Reload,
}

impl Request {
    const ALL: [Request; 4] = [Request::Stop, Request::ForcedStop, Request::Stats, Request::Reload];
}

/// The pending requests, indexed by request.
type PendingRequests = [AtomicBool; Request::ALL.len()];

/// The thread that waits for signals. It sets pending requests and wakes the loop. It performs a forced stop
/// itself, so that a blocked loop cannot delay it.
#[derive(Debug)]
pub(super) struct SignalThread {
    pending: Arc<PendingRequests>,
    handle: Handle,
}

impl SignalThread {
    /// Handles SIGINT, SIGTERM, SIGUSR1 and SIGHUP, and ignores SIGXFSZ, so that exceeding the file size limit
    /// is an error of the write. (The Rust runtime ignores SIGPIPE.)
    pub(super) fn start(waker: Arc<Waker>) -> io::Result<SignalThread> {
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])?;
        let handle = signals.handle();
        let pending = Arc::<PendingRequests>::default();
        let thread_pending = Arc::clone(&pending);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut stops = StopSignals::default();
            for signal in signals.forever() {
                let request = match signal {
                    SIGUSR1 => Some(Request::Stats),
                    SIGHUP => Some(Request::Reload),
                    _ => stops.receive(Instant::now()),
                };
                if let Some(request) = request {
                    submit(request, &thread_pending, &waker);
                }
            }
        })?;
        Ok(SignalThread { pending, handle })
    }

    /// Takes a pending request to stop. Others stay pending.
    pub(super) fn take_stop(&self) -> bool {
        self.pending[Request::Stop as usize].swap(false, Ordering::Acquire)
    }

    /// Takes the pending requests.
    pub(super) fn take_requests(&self) -> impl Iterator<Item = Request> {
        let take =
            |&request: &Request| self.pending[request as usize].swap(false, Ordering::Acquire);
        Request::ALL.into_iter().filter(take)
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Sets a pending request and wakes the loop. Exits for a forced stop.
fn submit(request: Request, pending: &PendingRequests, waker: &Waker) {
    pending[request as usize].store(true, Ordering::Release);
    // If waking fails, the loop handles the request at its next wake-up.
    let _ = waker.wake();
    if request == Request::ForcedStop {
        log::warn!("second signal: stopping immediately");
        thread::sleep(FORCED_STOP_GRACE);
        signal_hook::low_level::exit(FORCED_STOP_STATUS);
    }
}

/// The received signals to stop.
#[derive(Debug, Default)]
struct StopSignals {
    first: Option<Instant>,
}

impl StopSignals {
    /// Returns the request of a signal received at `now`. `None` if it repeats the first one.
    fn receive(&mut self, now: Instant) -> Option<Request> {
        match self.first {
            None => {
                self.first = Some(now);
                Some(Request::Stop)
            }
            Some(first) if now.duration_since(first) >= ONE_REQUEST => Some(Request::ForcedStop),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_within_a_second_of_the_first_are_one_request() {
        let start = Instant::now();
        let mut stops = StopSignals::default();
        let mut receive_after = |millis| stops.receive(start + Duration::from_millis(millis));
        assert_eq!(receive_after(0), Some(Request::Stop));
        assert_eq!(receive_after(0), None);
        assert_eq!(receive_after(999), None);
        assert_eq!(receive_after(1000), Some(Request::ForcedStop));
        assert_eq!(receive_after(1001), Some(Request::ForcedStop));
    }
}
