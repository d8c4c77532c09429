//! Signals that end a run early: the results so far are printed, and the exit status names the
//! signal.
//!
//! A handler only stores the signal. Long operations call [`check`] regularly, and no wait is
//! longer than [`MAX_WAIT`], because a signal may arrive just before it. Terminals and other
//! programs often send a signal twice; only one that follows the first by a second or more ends the
//! program at once.

use std::error::Error;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, fs, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register_conditional_shutdown, register_usize};
use signal_hook::low_level::pipe;

/// Maximum time between two checks for a signal.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(100);

/// A second signal within this time counts as the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Exit statuses of processes ended by a signal are this plus its number, by shell convention.
const STATUS_OF_SIGNALS: i32 = 128;

const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

/// The last signal received; 0 before the first.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);
/// Set when the next signal ends the program at once.
static IS_LAST: AtomicBool = AtomicBool::new(false);

/// Installs handlers for the signals that this process does not ignore (`nohup` sets SIGHUP to
/// ignored).
///
/// # Errors
///
/// The system refuses a handler.
pub(crate) fn watch_signals() -> io::Result<()> {
    let ignored = ignored_signals();
    let (mut receiver, sender) = UnixStream::pair()?;
    for (signal, _) in SIGNALS {
        if ignored & (1 << (signal - 1)) == 0 {
            register_conditional_shutdown(signal, STATUS_OF_SIGNALS + signal, &IS_LAST)?;
            register_usize(signal, &SIGNAL, signal as usize)?;
            pipe::register(signal, sender.try_clone()?)?;
        }
    }
    // The thread sleeps until the first signal. If it cannot be started, a second signal is handled
    // like the first.
    let _ = thread::Builder::new().spawn(move || {
        if receiver.read_exact(&mut [0]).is_ok() {
            thread::sleep(SAME_REQUEST);
            IS_LAST.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Returns a bit mask of the ignored signals; 0 if unknown.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Returns whether a signal has arrived.
pub(crate) fn has_come() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Returns the exit status of a process that the signal has ended.
pub(crate) fn status() -> u8 {
    STATUS_OF_SIGNALS as u8 + SIGNAL.load(Ordering::Relaxed) as u8
}

/// Returns an error if a signal has arrived.
///
/// # Errors
///
/// A signal has arrived: the error is an [`Interrupted`].
pub(crate) fn check() -> io::Result<()> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(io::Error::other(Interrupted { signal: signal as i32 })),
    }
}

/// Sleeps for `time`.
///
/// # Errors
///
/// A signal arrived before or during the sleep.
pub(crate) fn sleep(mut time: Duration) -> io::Result<()> {
    loop {
        check()?;
        if time.is_zero() {
            return Ok(());
        }
        let step = time.min(MAX_WAIT);
        thread::sleep(step);
        time -= step;
    }
}

/// Error of a run that a signal ended. Its kind is not [`io::ErrorKind::Interrupted`], because
/// nothing is retried.
#[derive(Debug)]
pub(crate) struct Interrupted {
    signal: i32,
}

impl Interrupted {
    /// Extracts it from an I/O error.
    pub(crate) fn of(error: &io::Error) -> Option<&Interrupted> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SIGNALS.iter().find(|(signal, _)| *signal == self.signal);
        write!(f, "ended by {}", name.map_or("a signal", |(_, name)| name))
    }
}

impl Error for Interrupted {}
