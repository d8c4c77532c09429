//! Signals, on a thread of their own: it works while the loop or the start is blocked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

/// Signals to stop are one request for this long: a terminal and a service manager often send two.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// How long the loop may take to end by itself, with the totals, before the process is ended.
const FORCED_STOP_GRACE: Duration = Duration::from_millis(200);

/// The exit status of a process that a second signal has ended.
const FORCED_STOP_STATUS: i32 = 1;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGINT or SIGTERM: deliver what was read, and end.
    Stop,
    /// The same again: end at once.
    ForcedStop,
    /// SIGUSR1: log the totals.
    Stats,
    /// SIGHUP.
    Hangup,
}

impl Request {
    const ALL: [Request; 4] = [Request::Stop, Request::ForcedStop, Request::Stats, Request::Hangup];
}

/// Requests that have come and are not yet taken, by their number.
type Requested = [AtomicBool; Request::ALL.len()];

/// The thread that waits for signals. It notes what they ask for and wakes the loop; a forced stop it
/// carries out itself, whatever the rest of the process waits for.
#[derive(Debug)]
pub(super) struct SignalThread {
    requested: Arc<Requested>,
    handle: Handle,
}

impl SignalThread {
    /// Takes over SIGINT, SIGTERM, SIGUSR1 and SIGHUP, and ignores SIGXFSZ, so that a file that may not
    /// grow any more is an error of the write. (The Rust runtime ignores SIGPIPE.)
    pub(super) fn start(waker: Waker) -> io::Result<SignalThread> {
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])?;
        let handle = signals.handle();
        let requested = Arc::<Requested>::default();
        let noted = Arc::clone(&requested);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut stops = StopSignals::default();
            for signal in signals.forever() {
                let request = match signal {
                    SIGUSR1 => Some(Request::Stats),
                    SIGHUP => Some(Request::Hangup),
                    _ => stops.receive(Instant::now()),
                };
                if let Some(request) = request {
                    note(request, &noted, &waker);
                }
            }
        })?;
        Ok(SignalThread { requested, handle })
    }

    /// Takes the requests that have come.
    pub(super) fn take_requests(&self) -> impl Iterator<Item = Request> {
        let is_requested =
            |&request: &Request| self.requested[request as usize].swap(false, Ordering::Acquire);
        Request::ALL.into_iter().filter(is_requested)
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn note(request: Request, requested: &Requested, waker: &Waker) {
    requested[request as usize].store(true, Ordering::Release);
    // A loop that cannot be woken sees the request when it wakes by itself.
    let _ = waker.wake();
    if request == Request::ForcedStop {
        log::warn!("second signal: stopping at once");
        thread::sleep(FORCED_STOP_GRACE);
        signal_hook::low_level::exit(FORCED_STOP_STATUS);
    }
}

/// The signals to stop that have come so far.
#[derive(Debug, Default)]
struct StopSignals {
    first: Option<Instant>,
}

impl StopSignals {
    /// Returns what a signal that comes `now` asks for, if it asks for anything new.
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
