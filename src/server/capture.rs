//! Capture files: all accepted lines in order of arrival, with an index of times.
//!
//! `stream.events.times` is the index of `stream.events`. It holds one line per turn of the loop in which
//! lines arrived: `MICROSECONDS BYTES`, the time since the first line and the number of bytes captured so
//! far.
//!
//! Disk writes may block, so a thread does them. The loop only fills chunks. If the file is written too
//! slowly or fails, the capture stops with one error and the server continues.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{Errno, ioctl_fionbio};

use crate::hub::Recorder;

/// The size at which a chunk is submitted to the thread. An idle loop submits smaller ones.
const CHUNK_BYTES: usize = 256 << 10;

/// The maximum memory of submitted chunks. With the chunk being filled, which may take twice its size and a
/// line, this makes at most 32 MiB.
const MAX_PENDING_BYTES: usize = (32 << 20) - 3 * CHUNK_BYTES;

/// The approximate overhead of a chunk: its node in the channel and the allocator's share.
const CHUNK_OVERHEAD: usize = 128;

/// The maximum size of one write, because a blocked write does not report how much a pipe has accepted.
const MAX_WRITE_BYTES: usize = 16 << 10;

/// Captured lines and their times, as submitted to the thread.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    times: String,
}

impl Chunk {
    fn len(&self) -> usize {
        self.lines.len() + self.times.len()
    }

    /// Returns the allocated memory of the chunk, in bytes.
    fn allocated_bytes(&self) -> usize {
        self.lines.capacity() + self.times.capacity() + CHUNK_OVERHEAD
    }
}

/// Counters of the submitted and unwritten chunks.
#[derive(Debug, Default)]
struct Pending {
    allocated_bytes: AtomicUsize,
    line_bytes: AtomicU64,
}

/// The handle of the writing thread.
#[derive(Debug)]
struct Writer {
    /// `None` after the capture has stopped. Chunks submitted before are still written.
    chunks: Option<Sender<Chunk>>,
    pending: Arc<Pending>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

/// A running capture. [`finish`](Self::finish) waits for the remaining writes, which the end of the process
/// would otherwise cut off.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    chunk: Chunk,
    /// The number of captured bytes in the index of times.
    indexed_bytes: u64,
    /// The number of captured bytes.
    bytes: u64,
    first_line: Option<Instant>,
    writer: Writer,
}

impl Capture {
    /// Starts a capture to a new file, an empty one, or one that is not regular. The thread waits for the
    /// reader of a named pipe.
    ///
    /// # Errors
    ///
    /// The file is not empty or cannot be opened.
    pub(crate) fn start(path: &Path) -> io::Result<Capture> {
        let lines = Target::create(path)?;
        let times = Target::create(&times_path(path))?;
        let (sender, chunks) = channel();
        let (ending, ended) = channel();
        let pending = Arc::new(Pending::default());
        let (name, counted) = (path.to_owned(), Arc::clone(&pending));
        thread::Builder::new().name("capture".to_owned()).spawn(move || {
            if let Err(error) = write_chunks(&chunks, lines, times, &counted) {
                log::error!("capture to {} stopped: {error}", name.display());
            }
            drop(ending);
        })?;
        Ok(Capture {
            path: path.to_owned(),
            chunk: Chunk::default(),
            indexed_bytes: 0,
            bytes: 0,
            first_line: None,
            writer: Writer { chunks: Some(sender), pending, ended },
        })
    }

    /// Submits the chunk to the thread. Stops the capture if too much is pending.
    fn submit(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        let Writer { chunks, pending, .. } = &mut self.writer;
        let Some(sender) = chunks else { return };
        if chunk.len() == 0 {
            return;
        }
        let allocated = chunk.allocated_bytes();
        if pending.allocated_bytes.load(Ordering::Relaxed) + allocated > MAX_PENDING_BYTES {
            log::error!(
                "capture to {} stopped: the file is written too slowly, {} bytes are pending",
                self.path.display(),
                pending.line_bytes.load(Ordering::Relaxed)
            );
            *chunks = None;
            return;
        }
        pending.allocated_bytes.fetch_add(allocated, Ordering::Relaxed);
        pending.line_bytes.fetch_add(chunk.lines.len() as u64, Ordering::Relaxed);
        if sender.send(chunk).is_err() {
            // The thread has logged why it ended.
            *chunks = None;
        }
    }
}

impl Recorder for Capture {
    #[inline]
    fn record(&mut self, line: &[u8]) {
        if self.writer.chunks.is_some() {
            self.chunk.lines.extend_from_slice(line);
            self.chunk.lines.push(b'\n');
            self.bytes += line.len() as u64 + 1;
            if self.chunk.len() >= CHUNK_BYTES {
                self.submit();
            }
        }
    }

    fn end_turn(&mut self, now: Instant, is_idle: bool) {
        if self.bytes > self.indexed_bytes {
            self.indexed_bytes = self.bytes;
            let since = now.duration_since(*self.first_line.get_or_insert(now));
            // Writing to a string cannot fail.
            let _ = writeln!(self.chunk.times, "{} {}", since.as_micros(), self.bytes);
        }
        if is_idle || self.chunk.len() >= CHUNK_BYTES {
            self.submit();
        }
    }

    /// Submits the last chunk and waits until all is written, at most for `timeout`.
    fn finish(mut self: Box<Self>, timeout: Duration) {
        self.submit();
        let Capture { path, writer: Writer { chunks, pending, ended }, .. } = *self;
        drop(chunks);
        if ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "capture to {} abandoned after {} ms: {} bytes were not written",
                path.display(),
                timeout.as_millis(),
                pending.line_bytes.load(Ordering::Relaxed)
            );
        }
    }
}

/// Writes all chunks until the channel is closed.
fn write_chunks(
    chunks: &Receiver<Chunk>,
    lines: Target,
    times: Target,
    pending: &Pending,
) -> io::Result<()> {
    let mut lines = lines.open()?;
    let mut times = times.open()?;
    while let Ok(chunk) = chunks.recv() {
        write_counted(&mut lines, &chunk.lines, &pending.line_bytes)?;
        times.write_all(chunk.times.as_bytes())?;
        pending.allocated_bytes.fetch_sub(chunk.allocated_bytes(), Ordering::Relaxed);
    }
    Ok(())
}

/// Writes `bytes` piece by piece and subtracts each written piece from `pending`.
fn write_counted(file: &mut impl Write, bytes: &[u8], pending: &AtomicU64) -> io::Result<()> {
    for piece in bytes.chunks(MAX_WRITE_BYTES) {
        file.write_all(piece)?;
        pending.fetch_sub(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn times_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".times");
    name.into()
}

/// An output file.
#[derive(Debug)]
enum Target {
    Open(File),
    /// Opened by the thread, because opening a named pipe waits for its reader.
    NamedPipe(PathBuf),
}

impl Target {
    fn create(path: &Path) -> io::Result<Target> {
        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return Ok(Target::NamedPipe(path.to_owned()));
        }
        create(path).map(Target::Open)
    }

    fn open(self) -> io::Result<File> {
        match self {
            Target::Open(file) => Ok(file),
            Target::NamedPipe(path) => open_named_pipe(&path),
        }
    }
}

/// Opens a named pipe and waits for its reader.
fn open_named_pipe(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().write(true).custom_flags(nonblocking).open(path) {
        Ok(file) => {
            ioctl_fionbio(&file, false)?;
            Ok(file)
        }
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            log::warn!("capture to {} waits for a reader of this named pipe", path.display());
            OpenOptions::new().write(true).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Opens a file for writing and rejects a regular one that is not empty.
fn create(path: &Path) -> io::Result<File> {
    let with_path =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(path).map_err(with_path)?;
    let metadata = file.metadata().map_err(with_path)?;
    if metadata.is_file() && metadata.len() > 0 {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{}: the file is not empty; choose another file or move it", path.display()),
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Command;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn lines_and_times_are_written_to_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        let mut capture = Capture::start(&path).unwrap();
        let start = Instant::now();
        capture.record(b"2|B");
        capture.record(b"1|S|7");
        capture.end_turn(start, false);
        capture.end_turn(start + Duration::from_millis(1), false);
        capture.record(b"3|B");
        capture.end_turn(start + Duration::from_millis(2), true);
        capture.record(b"4|B");
        Box::new(capture).finish(DEADLINE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2|B\n1|S|7\n3|B\n4|B\n");
        let times = fs::read_to_string(times_path(&path)).unwrap();
        assert_eq!(times, "0 10\n2000 14\n");
    }

    #[test]
    fn a_file_that_is_not_empty_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        fs::write(&path, "1|B\n").unwrap();
        let error = Capture::start(&path).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1|B\n");
    }

    #[test]
    fn a_full_disk_stops_only_the_capture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut capture = Capture::start(&path).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while capture.writer.chunks.is_some() {
            capture.record(b"1|B");
            capture.end_turn(Instant::now(), true);
            assert!(Instant::now() < deadline, "the capture continues");
        }
        capture.record(b"2|B");
        assert!(capture.chunk.lines.is_empty());
    }

    fn named_pipe(folder: &Path) -> PathBuf {
        let path = folder.join("stream.pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Captures copies of `line` until the capture stops by itself. Returns the maximum number of pending
    /// bytes, counted independently.
    fn fill(capture: &mut Capture, line: &[u8], lines_per_turn: usize) -> usize {
        let mut unwritten = 0;
        for turn in 1_u64.. {
            for _ in 0..lines_per_turn {
                capture.record(line);
            }
            capture.end_turn(Instant::now(), turn.is_multiple_of(2));
            if capture.writer.chunks.is_none() {
                break;
            }
            // The minimum size of a turn's times.
            unwritten += lines_per_turn * (line.len() + 1) + "0 0\n".len();
            let pending = capture.writer.pending.allocated_bytes.load(Ordering::Relaxed);
            assert!(pending + capture.chunk.allocated_bytes() <= 32 << 20, "{pending}");
        }
        unwritten
    }

    #[test]
    fn pending_bytes_are_bounded_for_lines_of_any_length() {
        let longest = vec![b'x'; 65_536];
        for (line, lines_per_turn) in
            [(&b"1|B"[..], 1), (b"1|B", 1000), (&longest, 1), (&longest, 100)]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut capture = Capture::start(&named_pipe(folder.path())).unwrap();
            let unwritten = fill(&mut capture, line, lines_per_turn);
            assert!(unwritten <= 32 << 20, "{unwritten} bytes pending");
            let (len, line_bytes) = (line.len(), &capture.writer.pending.line_bytes);
            let line_bytes = line_bytes.load(Ordering::Relaxed);
            assert!(line_bytes > 0 && line_bytes.is_multiple_of(len as u64 + 1), "{line_bytes}");
        }
    }

    #[test]
    fn a_late_reader_receives_all_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = named_pipe(folder.path());
        let mut capture = Capture::start(&path).unwrap();
        for _ in 0..100_000 {
            capture.record(b"1|S|7");
        }
        capture.end_turn(Instant::now(), true);
        let reading = thread::spawn(move || {
            let mut read = Vec::new();
            File::open(path).unwrap().read_to_end(&mut read).unwrap();
            read
        });
        Box::new(capture).finish(DEADLINE);
        assert_eq!(reading.join().unwrap(), b"1|S|7\n".repeat(100_000));
    }

    #[test]
    fn finishing_without_a_reader_ends_at_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = Capture::start(&named_pipe(folder.path())).unwrap();
        capture.record(b"1|B");
        let start = Instant::now();
        Box::new(capture).finish(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
