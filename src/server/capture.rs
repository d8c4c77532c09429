//! A file of every accepted line, in the order of arrival, and one of the times beside it.
//!
//! Beside `stream.events` stands `stream.events.times`, a line for each turn of the loop in which
//! lines came: `MICROSECONDS BYTES`, the time since the first line and the bytes captured until then.
//!
//! A disk may take any time for a write, and the loop has none to give: it fills chunks, and a thread
//! writes them. Where the disk falls too far behind or fails, the capture ends with one error and the
//! server goes on.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// A chunk is handed to the thread when it has so many bytes of lines, and when the loop rests.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that may wait for the disk.
const MOST_WAITING: usize = 64;

/// Bytes that may wait for room among the chunks: beyond that the capture is given up. With the
/// chunks, no more than 32 MiB wait for the disk, and what a turn brings.
const MOST_KEPT_BYTES: usize = 16 << 20;

/// Lines on their way to the disk.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    times: String,
}

/// A capture under way. Dropping it writes what is left.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    chunk: Chunk,
    /// Bytes captured until the end of the last turn, and until now.
    timed_bytes: u64,
    bytes: u64,
    first_line: Option<Instant>,
    /// `None` once the capture has been given up.
    thread: Option<(SyncSender<Chunk>, JoinHandle<()>)>,
}

impl Capture {
    /// Starts a capture into a new file, or one that is empty or no regular file.
    ///
    /// # Errors
    ///
    /// The file holds something already, or cannot be written.
    pub(crate) fn start(path: &Path) -> io::Result<Capture> {
        let lines = create(path)?;
        let times = create(&times_beside(path))?;
        let (sender, chunks) = sync_channel(MOST_WAITING);
        let name = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || write_chunks(&chunks, lines, times, &name))?;
        Ok(Capture {
            path: path.to_owned(),
            chunk: Chunk::default(),
            timed_bytes: 0,
            bytes: 0,
            first_line: None,
            thread: Some((sender, thread)),
        })
    }

    /// Takes a line, without its terminator.
    #[inline]
    pub(crate) fn take(&mut self, line: &[u8]) {
        if self.thread.is_some() {
            self.chunk.lines.extend_from_slice(line);
            self.chunk.lines.push(b'\n');
            self.bytes += line.len() as u64 + 1;
            if self.chunk.lines.len() >= CHUNK_BYTES {
                self.hand_over();
            }
        }
    }

    /// Notes when the lines of this turn came, and hands over what is due. `is_resting`: nothing
    /// else is to be done now.
    pub(crate) fn end_turn(&mut self, now: Instant, is_resting: bool) {
        if self.bytes > self.timed_bytes {
            self.timed_bytes = self.bytes;
            let since = now.duration_since(*self.first_line.get_or_insert(now));
            // Writing to a string cannot fail.
            let _ = writeln!(self.chunk.times, "{} {}", since.as_micros(), self.bytes);
        }
        if is_resting {
            self.hand_over();
        }
    }

    /// Gives the chunk to the thread, or keeps it for later if too many wait there.
    fn hand_over(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.lines.is_empty() && chunk.times.is_empty() {
            return;
        }
        let Some((sender, _)) = &self.thread else { return };
        match sender.try_send(chunk) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk)) if chunk.lines.len() <= MOST_KEPT_BYTES => {
                self.chunk = chunk;
            }
            Err(TrySendError::Full(_)) => {
                log::error!(
                    "the capture to {} ends: the disk is too far behind",
                    self.path.display()
                );
                self.thread = None;
            }
            // The thread has said why.
            Err(TrySendError::Disconnected(_)) => self.thread = None,
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        if let Some((sender, thread)) = self.thread.take() {
            // Waits for the disk: the loop is over. Where the thread has ended, it has said why.
            let _ = sender.send(chunk);
            drop(sender);
            // A thread that panicked has nothing left to write.
            let _ = thread.join();
        }
    }
}

fn write_chunks(chunks: &Receiver<Chunk>, mut lines: File, mut times: File, path: &Path) {
    while let Ok(chunk) = chunks.recv() {
        let written =
            lines.write_all(&chunk.lines).and_then(|()| times.write_all(chunk.times.as_bytes()));
        if let Err(error) = written {
            log::error!("the capture to {} ends: {error}", path.display());
            return;
        }
    }
}

fn times_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".times");
    name.into()
}

fn create(path: &Path) -> io::Result<File> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(name)?;
    let metadata = file.metadata().map_err(name)?;
    if metadata.is_file() && metadata.len() > 0 {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "{} holds something already: name another file, or move it away",
                path.display()
            ),
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_and_times_stand_beside_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        let mut capture = Capture::start(&path).unwrap();
        let start = Instant::now();
        capture.take(b"2|B");
        capture.take(b"1|S|7");
        capture.end_turn(start, false);
        capture.end_turn(start + Duration::from_millis(1), false);
        capture.take(b"3|B");
        capture.end_turn(start + Duration::from_millis(2), true);
        capture.take(b"4|B");
        drop(capture);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2|B\n1|S|7\n3|B\n4|B\n");
        let times = std::fs::read_to_string(times_beside(&path)).unwrap();
        assert_eq!(times, "0 10\n2000 14\n");
    }

    #[test]
    fn a_file_with_something_in_it_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        std::fs::write(&path, "1|B\n").unwrap();
        let error = Capture::start(&path).unwrap_err();
        assert!(error.to_string().contains("holds something already"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1|B\n");
    }

    #[test]
    fn a_full_disk_ends_the_capture_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut capture = Capture::start(&path).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while capture.thread.is_some() {
            capture.take(b"1|B");
            capture.end_turn(Instant::now(), true);
            assert!(Instant::now() < deadline, "the capture goes on");
        }
        capture.take(b"2|B");
        assert!(capture.chunk.lines.is_empty());
    }
}
