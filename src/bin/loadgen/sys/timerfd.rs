//! A timer with a finer resolution than the milliseconds of a poll timeout.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A file descriptor that becomes readable when the timer expires.
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Creates a timer and registers it.
    ///
    /// # Errors
    ///
    /// The system refuses the timer or its registration.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer(timer))
    }

    /// Arms the timer to expire once after `after`; an earlier setting is replaced.
    ///
    /// # Errors
    ///
    /// The system refuses the time.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: after.as_secs().cast_signed(),
                // Zero would disarm the timer.
                tv_nsec: i64::from(after.subsec_nanos()).max(1),
            },
        };
        Ok(timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).map(|_| ())?)
    }
}
