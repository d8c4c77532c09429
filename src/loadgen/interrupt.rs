//! Signals that end a run: it prints the results so far, and exits with a status that names the
//! signal.
//!
//! A handler only stores the signal. Long operations poll for it, and no wait is longer than
//! [`LONGEST_WAIT`], because a signal may arrive just before it. A terminal and other programs often
//! send two signals for one: a further one ends the program at once, whatever it waits for, if it
//! comes a second or more after the first.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register_conditional_shutdown, register_usize};
use signal_hook::low_level::pipe;

/// The longest time between two polls for signals.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A signal that comes sooner than this after the first one is the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Added to a signal's number for the exit status, as shells do.
const STATUS_OF_SIGNALS: i32 = 128;

const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

/// The last signal that came, 0 before the first.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);
/// The next one ends the program at once.
static IS_LAST: AtomicBool = AtomicBool::new(false);

/// Lets the signals that this process does not ignore, as `nohup` has it do, end runs from now on.
///
/// # Errors
///
/// The system takes no handler.
pub(crate) fn watch_signals() -> io::Result<()> {
    let ignored = ignored_signals();
    let (mut told, teller) = UnixStream::pair()?;
    for (signal, _) in SIGNALS {
        if ignored & (1 << (signal - 1)) == 0 {
            register_conditional_shutdown(signal, STATUS_OF_SIGNALS + signal, &IS_LAST)?;
            register_usize(signal, &SIGNAL, signal as usize)?;
            pipe::register(signal, teller.try_clone()?)?;
        }
    }
    // It sleeps until the first signal. Where it cannot be started, a second signal is like the first.
    let _ = thread::Builder::new().spawn(move || {
        if told.read_exact(&mut [0]).is_ok() {
            thread::sleep(SAME_REQUEST);
            IS_LAST.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// A bit for each signal that this process ignores, none where that is not known.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Returns whether a signal has come.
pub(crate) fn has_come() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// # Errors
///
/// A signal has come: the error is an [`Interrupted`].
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
/// A signal has come before or meanwhile.
pub(crate) fn sleep(mut time: Duration) -> io::Result<()> {
    loop {
        check()?;
        if time.is_zero() {
            return Ok(());
        }
        let step = time.min(LONGEST_WAIT);
        thread::sleep(step);
        time -= step;
    }
}

/// The end of a run by a signal. Not an [`io::ErrorKind::Interrupted`]: nothing is tried again.
#[derive(Debug)]
pub(crate) struct Interrupted {
    signal: i32,
}

impl Interrupted {
    /// The one that an error is, if it is one.
    pub(crate) fn of(error: &io::Error) -> Option<&Interrupted> {
        error.get_ref()?.downcast_ref()
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        (STATUS_OF_SIGNALS + self.signal) as u8
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SIGNALS.iter().find(|(signal, _)| *signal == self.signal);
        write!(f, "ended by {}", name.map_or("a signal", |(_, name)| name))
    }
}

impl Error for Interrupted {}
