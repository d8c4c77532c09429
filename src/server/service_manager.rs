//! The service manager: it is told of the server's state, and that the loop turns.
//!
//! The protocol is systemd's `sd_notify`: datagrams to the socket that `NOTIFY_SOCKET` names. This is not
//! left to a crate, because those wait for a manager that does not read.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time that the message of a complete start waits for a manager that does not read. Without it the start fails.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// The time within which a start has to report progress again.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(300);

/// The time after the drain timeout in which the process ends.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// The manager restarts a server whose loop has not turned for twice this interval.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl ServiceManager {
    /// Connects to the manager that the environment names. Without one all messages are dropped.
    pub(super) fn from_environment(now: Instant) -> ServiceManager {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::warn!("cannot reach the service manager at NOTIFY_SOCKET={name:?}: {error}");
                None
            }
        });
        let interval = socket.is_some().then(watchdog_interval).flatten();
        let watchdog = interval.map(|interval| Watchdog { interval, next: now + interval });
        ServiceManager { socket, watchdog }
    }

    /// Reports what the start does. If that is progress, the start may take longer.
    pub(super) fn starting(&self, status: &str, is_progress: bool) {
        let mut message = format!("STATUS={status}\n");
        if is_progress {
            let _ = writeln!(message, "EXTEND_TIMEOUT_USEC={}", PROGRESS_TIMEOUT.as_micros());
        }
        self.send(&message);
    }

    /// Reports that the server listens. Waits for a manager that does not read, at most for a second.
    pub(super) fn ready(&self, status: &str) {
        self.set_nonblocking(false);
        self.send(&format!("READY=1\nSTATUS={status}\n"));
        self.set_nonblocking(true);
    }

    fn set_nonblocking(&self, is_nonblocking: bool) {
        if let Some(socket) = &self.socket {
            let _ = socket.set_nonblocking(is_nonblocking);
        }
    }

    /// Reports that the settings are being read again. [`reloaded`](Self::reloaded) must follow.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// Reports that the settings are read.
    pub(super) fn reloaded(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Reports that the server stops, and for how long this may take.
    pub(super) fn stopping(&self, drain_timeout: Duration) {
        let micros = (drain_timeout + STOP_MARGIN).as_micros();
        let status = "stopping: delivering what was received";
        self.send(&format!("STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={micros}\n"));
    }

    /// Returns when the watchdog expects the next sign of life.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// Reports that the loop turns, if that is due, with what `status` returns.
    pub(super) fn tick(&mut self, status: impl FnOnce() -> Option<String>) {
        let Some(watchdog) = &mut self.watchdog else { return };
        let now = Instant::now();
        if now < watchdog.next {
            return;
        }
        watchdog.next = now + watchdog.interval;
        let mut message = "WATCHDOG=1\n".to_owned();
        if let Some(status) = status() {
            let _ = writeln!(message, "STATUS={status}");
        }
        self.send(&message);
    }

    /// Sends assignments. What a manager does not take is dropped, because the loop does not wait for it.
    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// Connects to a path, or to a name in the abstract namespace, which begins with `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // The loop must not wait.
    socket.set_nonblocking(true)?;
    socket.set_write_timeout(Some(START_TIMEOUT))?;
    Ok(socket)
}

/// Returns half of the time after which the manager's watchdog expires, if it watches this process.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_other = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(process::id()));
    let micros = number("WATCHDOG_USEC").filter(|&micros| micros > 0 && !is_other)?;
    Some(Duration::from_micros(micros) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (UnixDatagram, ServiceManager) {
        let (manager, socket) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        (manager, ServiceManager { socket: Some(socket), watchdog: None })
    }

    fn received(manager: &UnixDatagram) -> String {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let (_manager, service) = manager();
        service.ready("listening");
        for _ in 0..100_000 {
            service.reloaded("listening");
        }
    }

    #[test]
    fn a_start_that_goes_on_may_take_longer() {
        let (manager, service) = manager();
        service.starting("replaying", true);
        let message = received(&manager);
        assert_eq!(message, "STATUS=replaying\nEXTEND_TIMEOUT_USEC=300000000\n");
        service.starting("replaying", false);
        assert_eq!(received(&manager), "STATUS=replaying\n");
    }

    #[test]
    fn a_reload_begins_with_its_time() {
        let (manager, service) = manager();
        service.reloading();
        let message = received(&manager);
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn a_stop_asks_for_more_time_than_the_drain_takes() {
        let (manager, service) = manager();
        service.stopping(Duration::from_secs(60));
        let message = received(&manager);
        assert!(
            message.starts_with("STOPPING=1\n")
                && message.ends_with("EXTEND_TIMEOUT_USEC=65000000\n")
        );
    }

    #[test]
    fn the_watchdog_hears_of_the_loop_once_in_an_interval() {
        let (manager, mut service) = manager();
        service.tick(|| panic!("no watchdog"));
        let (past, interval) = (Instant::now(), Duration::from_secs(3600));
        service.watchdog = Some(Watchdog { interval, next: past });
        service.tick(|| Some("5 clients".to_owned()));
        assert_eq!(received(&manager), "WATCHDOG=1\nSTATUS=5 clients\n");
        assert!(service.next_deadline().unwrap() >= past + interval);
        service.tick(|| panic!("not due"));
    }
}
