//! Log lines on their way to a reader that may be slow, stand still, or be gone.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait for the reader, those being written included.
const MAX_QUEUED_BYTES: usize = 256 << 10;

/// A bounded queue of complete lines between the threads that log and the one that writes. Pushing
/// never blocks: a line that does not fit is counted instead.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// Bytes that the writing thread has taken and not yet written.
    bytes_in_flight: usize,
    /// Lines that did not fit or could not be written, and are not yet told of.
    suppressed: u64,
    /// The last write failed: only a new line is worth another try.
    has_failed: bool,
}

/// Complete lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl State {
    fn has_work(&self) -> bool {
        self.waiting.lines > 0 || (self.suppressed > 0 && !self.has_failed)
    }

    fn is_written(&self) -> bool {
        !self.has_work() && self.bytes_in_flight == 0
    }
}

impl LogQueue {
    /// Appends a line, terminator included, or counts it as suppressed.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let queued = state.bytes_in_flight + state.waiting.bytes.len();
        if queued + line.len() > MAX_QUEUED_BYTES {
            state.suppressed += 1;
        } else {
            state.waiting.bytes.extend_from_slice(line);
            state.waiting.lines += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes what is pushed to `out`, for ever. Where lines were suppressed, the line that `note` makes
    /// of their number follows those that came before them.
    pub(super) fn write_to(&self, mut out: impl Write, note: impl Fn(u64) -> Vec<u8>) {
        loop {
            let (batch, suppressed) = self.take_batch();
            let result = out.write_all(&batch.bytes).and_then(|()| match suppressed {
                0 => Ok(()),
                count => out.write_all(&note(count)),
            });
            let mut state = self.lock();
            state.bytes_in_flight = 0;
            state.has_failed = result.is_err();
            if state.has_failed {
                state.suppressed += suppressed + batch.lines;
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, but no longer than `timeout`.
    pub(super) fn wait_until_written(&self, timeout: Duration) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !state.is_written());
        drop(waited);
    }

    /// Waits for something to write. Returns lines, and how many were suppressed after them.
    fn take_batch(&self) -> (Batch, u64) {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| !state.has_work());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut state.waiting);
        state.bytes_in_flight = batch.bytes.len();
        (batch, std::mem::take(&mut state.suppressed))
    }

    /// A thread that panicked while it held the lock has left whole lines behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A writer whose every write waits for the test to say how it ends, and then shows its bytes.
    struct Gate {
        results: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test is over when nobody tells.
            let result = self.results.recv().unwrap_or_else(|_| Err(io::Error::other("over")));
            result.map(|()| {
                let _ = self.written.send(bytes.to_vec());
                bytes.len()
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stage {
        queue: Arc<LogQueue>,
        results: Sender<io::Result<()>>,
        written: Receiver<Vec<u8>>,
    }

    impl Stage {
        fn new() -> Stage {
            let queue = Arc::new(LogQueue::default());
            let (results, said) = channel();
            let (shown, written) = channel();
            let gate = Gate { results: said, written: shown };
            let writing = Arc::clone(&queue);
            let note = |count| format!("({count} suppressed)\n").into_bytes();
            thread::spawn(move || writing.write_to(gate, note));
            Stage { queue, results, written }
        }

        fn pushes(&self, line: &str) {
            self.queue.push(line.as_bytes());
        }

        fn lets_a_write_end(&self, result: io::Result<()>) {
            self.results.send(result).unwrap();
        }

        fn writes(&self) -> String {
            self.lets_a_write_end(Ok(()));
            String::from_utf8(self.written.recv_timeout(DEADLINE).unwrap()).unwrap()
        }

        fn waits_until(&self, condition: impl Fn(&State) -> bool) {
            let start = Instant::now();
            while !condition(&self.queue.lock()) {
                assert!(start.elapsed() < DEADLINE, "{:?}", self.queue);
                thread::yield_now();
            }
        }

        /// A queue whose writer is held up in the write of one line.
        fn held_up() -> Stage {
            let stage = Stage::new();
            stage.pushes("first\n");
            stage.waits_until(|state| state.bytes_in_flight == 6);
            stage
        }
    }

    #[test]
    fn lines_that_came_during_a_write_leave_in_one_piece() {
        let stage = Stage::held_up();
        stage.pushes("second\n");
        stage.pushes("third\n");
        assert_eq!(stage.writes(), "first\n");
        assert_eq!(stage.writes(), "second\nthird\n");
    }

    #[test]
    fn a_writer_that_stands_still_blocks_nobody_and_holds_a_bounded_number_of_bytes() {
        let stage = Stage::held_up();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..10_000 {
            stage.pushes(&line);
        }
        let (queued, lines, suppressed) = {
            let state = stage.queue.lock();
            let queued = state.bytes_in_flight + state.waiting.bytes.len();
            (queued, state.waiting.lines, state.suppressed)
        };
        assert!((MAX_QUEUED_BYTES - 1024..=MAX_QUEUED_BYTES).contains(&queued), "{queued}");
        assert_eq!(lines + suppressed, 10_000);

        stage.pushes("a short line finds the rest of the space\n");
        assert_eq!(stage.writes(), "first\n");
        let rest = stage.writes();
        assert!(rest.ends_with("\na short line finds the rest of the space\n"), "{rest}");
        assert_eq!(stage.writes(), format!("({suppressed} suppressed)\n"));
        stage.pushes("last\n");
        assert_eq!(stage.writes(), "last\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_told_of_although_nothing_else_comes() {
        let stage = Stage::new();
        stage.pushes(&"x".repeat(MAX_QUEUED_BYTES + 1));
        assert_eq!(stage.writes(), "(1 suppressed)\n");
    }

    #[test]
    fn lines_that_could_not_be_written_are_told_of_after_the_next_that_could() {
        let stage = Stage::held_up();
        stage.pushes("second\n");
        stage.lets_a_write_end(Err(io::Error::other("full")));
        stage.lets_a_write_end(Err(io::Error::other("full")));
        stage.waits_until(|state| state.suppressed == 2);
        // Without a new line nothing is tried again.
        stage.queue.wait_until_written(DEADLINE);
        stage.pushes("third\n");
        assert_eq!(stage.writes(), "third\n");
        assert_eq!(stage.writes(), "(2 suppressed)\n");
    }

    #[test]
    fn waiting_for_a_writer_ends_when_all_is_written_or_the_time_is_over() {
        let stage = Stage::held_up();
        let start = Instant::now();
        stage.queue.wait_until_written(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        stage.lets_a_write_end(Ok(()));
        stage.queue.wait_until_written(DEADLINE);
        assert!(stage.queue.lock().is_written());
    }
}
