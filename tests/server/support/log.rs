use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use super::DEADLINE;

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    is_over: bool,
}

/// The log lines of a server so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    written: Arc<(Mutex<Written>, Condvar)>,
}

impl Log {
    /// Collects lines on a thread, which ends with `from`.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Log {
        let log = Log::default();
        let collected = log.clone();
        thread::spawn(move || {
            let (written, grown) = &*collected.written;
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                written.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                grown.notify_all();
            }
            written.lock().unwrap().is_over = true;
            grown.notify_all();
        });
        log
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.written.0.lock().unwrap().lines.clone()
    }

    /// Returns everything, after the process has closed its end.
    pub(crate) fn whole(&self) -> String {
        let (written, grown) = &*self.written;
        let now = written.lock().unwrap();
        let (whole, _) = grown.wait_timeout_while(now, DEADLINE, |now| !now.is_over).unwrap();
        whole.lines.join("\n")
    }

    /// Waits until `find` returns something for the lines.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let (written, grown) = &*self.written;
        let start = Instant::now();
        let mut now = written.lock().unwrap();
        loop {
            if let Some(found) = find(&now.lines) {
                return found;
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            if now.is_over || left.is_zero() {
                let lines = now.lines.join("\n");
                drop(now);
                panic!("the log does not show {what}:\n{lines}");
            }
            now = grown.wait_timeout(now, left).unwrap().0;
        }
    }
}
