//! The queue of log lines for a reader that may be slow, blocked or gone.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum number of queued bytes, including those in flight.
const MAX_QUEUED_BYTES: usize = 256 << 10;

/// A bounded queue of complete lines between the logging threads and the writing thread. Pushing never
/// blocks: a line that does not fit is counted instead.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queued: Batch,
    /// The number of bytes that the writing thread is writing.
    bytes_in_flight: usize,
    /// The number of lines that did not fit or were not written, and are not yet reported.
    suppressed: u64,
    /// Whether the last write failed. The next attempt waits for a new line.
    has_failed: bool,
}

/// A batch of complete lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl State {
    fn has_work(&self) -> bool {
        self.queued.lines > 0 || (self.suppressed > 0 && !self.has_failed)
    }

    fn is_written(&self) -> bool {
        !self.has_work() && self.bytes_in_flight == 0
    }
}

impl LogQueue {
    /// Appends a line, terminator included, or counts it as suppressed.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let queued = state.bytes_in_flight + state.queued.bytes.len();
        if queued + line.len() > MAX_QUEUED_BYTES {
            state.suppressed += 1;
        } else {
            state.queued.bytes.extend_from_slice(line);
            state.queued.lines += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes pushed lines to `out`, forever. After the lines before suppressed ones, it writes the line that
    /// `note` returns for their number.
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

    /// Waits until all lines are written, at most for `timeout`.
    pub(super) fn wait_until_written(&self, timeout: Duration) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !state.is_written());
        drop(waited);
    }

    /// Waits for work. Returns the queued lines and the number of lines suppressed after them.
    fn take_batch(&self) -> (Batch, u64) {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| !state.has_work());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut state.queued);
        state.bytes_in_flight = batch.bytes.len();
        (batch, std::mem::take(&mut state.suppressed))
    }

    /// Locks the state, even if a thread panicked with the lock, because it holds only complete lines.
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

    /// A writer whose writes wait for a result from the test, and then send their bytes to it.
    struct Gate {
        results: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test has ended if the sender is gone.
            let result = self.results.recv().unwrap_or_else(|_| Err(io::Error::other("ended")));
            result.map(|()| {
                let _ = self.written.send(bytes.to_vec());
                bytes.len()
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue with a writing thread under the control of the test.
    struct Harness {
        queue: Arc<LogQueue>,
        results: Sender<io::Result<()>>,
        written: Receiver<Vec<u8>>,
    }

    impl Harness {
        fn new() -> Harness {
            let queue = Arc::new(LogQueue::default());
            let (results, gate_results) = channel();
            let (gate_written, written) = channel();
            let gate = Gate { results: gate_results, written: gate_written };
            let gated_queue = Arc::clone(&queue);
            let note = |count| format!("({count} suppressed)\n").into_bytes();
            thread::spawn(move || gated_queue.write_to(gate, note));
            Harness { queue, results, written }
        }

        fn push(&self, line: &str) {
            self.queue.push(line.as_bytes());
        }

        fn finish_write(&self, result: io::Result<()>) {
            self.results.send(result).unwrap();
        }

        fn next_write(&self) -> String {
            self.finish_write(Ok(()));
            String::from_utf8(self.written.recv_timeout(DEADLINE).unwrap()).unwrap()
        }

        fn wait_until(&self, condition: impl Fn(&State) -> bool) {
            let start = Instant::now();
            while !condition(&self.queue.lock()) {
                assert!(start.elapsed() < DEADLINE, "{:?}", self.queue);
                thread::yield_now();
            }
        }

        /// Creates a harness whose writer is blocked in the write of one line.
        fn blocked() -> Harness {
            let harness = Harness::new();
            harness.push("first\n");
            harness.wait_until(|state| state.bytes_in_flight == 6);
            harness
        }
    }

    #[test]
    fn lines_pushed_during_a_write_are_written_together() {
        let harness = Harness::blocked();
        harness.push("second\n");
        harness.push("third\n");
        assert_eq!(harness.next_write(), "first\n");
        assert_eq!(harness.next_write(), "second\nthird\n");
    }

    #[test]
    fn a_blocked_writer_blocks_no_caller_and_queues_a_bounded_number_of_bytes() {
        let harness = Harness::blocked();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..10_000 {
            harness.push(&line);
        }
        let (queued, lines, suppressed) = {
            let state = harness.queue.lock();
            let queued = state.bytes_in_flight + state.queued.bytes.len();
            (queued, state.queued.lines, state.suppressed)
        };
        assert!((MAX_QUEUED_BYTES - 1024..=MAX_QUEUED_BYTES).contains(&queued), "{queued}");
        assert_eq!(lines + suppressed, 10_000);

        harness.push("a short line finds the rest of the space\n");
        assert_eq!(harness.next_write(), "first\n");
        let rest = harness.next_write();
        assert!(rest.ends_with("\na short line finds the rest of the space\n"), "{rest}");
        assert_eq!(harness.next_write(), format!("({suppressed} suppressed)\n"));
        harness.push("last\n");
        assert_eq!(harness.next_write(), "last\n");
    }

    #[test]
    fn a_line_too_long_is_reported_without_further_lines() {
        let harness = Harness::new();
        harness.push(&"x".repeat(MAX_QUEUED_BYTES + 1));
        assert_eq!(harness.next_write(), "(1 suppressed)\n");
    }

    #[test]
    fn unwritten_lines_are_reported_after_the_next_written_one() {
        let harness = Harness::blocked();
        harness.push("second\n");
        harness.finish_write(Err(io::Error::other("full")));
        harness.finish_write(Err(io::Error::other("full")));
        harness.wait_until(|state| state.suppressed == 2);
        // Nothing is retried without a new line.
        harness.queue.wait_until_written(DEADLINE);
        harness.push("third\n");
        assert_eq!(harness.next_write(), "third\n");
        assert_eq!(harness.next_write(), "(2 suppressed)\n");
    }

    #[test]
    fn waiting_ends_when_all_lines_are_written_or_at_the_timeout() {
        let harness = Harness::blocked();
        let start = Instant::now();
        harness.queue.wait_until_written(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        harness.finish_write(Ok(()));
        harness.queue.wait_until_written(DEADLINE);
        assert!(harness.queue.lock().is_written());
    }
}
