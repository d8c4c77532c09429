//! A timer finer than the milliseconds of mio's timeouts.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Becomes ready in a poll when its time has come.
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// # Errors
    ///
    /// The system gives none, or the poll does not take it.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer(timer))
    }

    /// Lets it become ready once, after so long from now, and not when it was set to before.
    ///
    /// # Errors
    ///
    /// The system does not take the time.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: after.as_secs().cast_signed(),
                // Zero would switch the timer off.
                tv_nsec: i64::from(after.subsec_nanos()).max(1),
            },
        };
        Ok(timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).map(|_| ())?)
    }
}
