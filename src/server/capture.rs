//! Capture files: every accepted line in the order of arrival, and a file of times beside it.
//!
//! Beside `stream.events` stands `stream.events.times`, a line for each turn of the loop in which
//! lines came: `MICROSECONDS BYTES`, the time since the first line and the bytes captured until then.
//!
//! Opening and writing a file may block for any time, so a thread does it; the loop only fills chunks.
//! Where the file is written too slowly or fails, the capture stops with one error and the server
//! goes on.

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

/// A chunk is handed to the thread when it holds this many bytes, and when the loop rests.
const CHUNK_BYTES: usize = 256 << 10;

/// Memory of chunks that may wait for the file. With the chunk that is being filled, which may take
/// twice its bytes and a line, this makes 32 MiB at most.
const MAX_PENDING_BYTES: usize = (32 << 20) - 3 * CHUNK_BYTES;

/// What a chunk takes beside its contents, about: its node in the channel and the allocator's share.
const CHUNK_OVERHEAD: usize = 128;

/// Bytes of one write: a write that blocks does not tell how much of it a pipe has taken already.
const PIECE_BYTES: usize = 16 << 10;

/// Lines on their way to the file.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    times: String,
}

impl Chunk {
    fn len(&self) -> usize {
        self.lines.len() + self.times.len()
    }

    /// The memory that the chunk takes.
    fn allocated_bytes(&self) -> usize {
        self.lines.capacity() + self.times.capacity() + CHUNK_OVERHEAD
    }
}

/// What was handed to the thread and is not written yet.
#[derive(Debug, Default)]
struct Pending {
    allocated_bytes: AtomicUsize,
    line_bytes: AtomicU64,
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    /// `None` once the capture has stopped: what was handed over before is still written.
    chunks: Option<Sender<Chunk>>,
    pending: Arc<Pending>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

/// A capture under way. [`finish`](Self::finish) writes what is left; without it the process may end
/// before.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    chunk: Chunk,
    /// Bytes captured until the end of the last turn, and until now.
    timed_bytes: u64,
    bytes: u64,
    first_line: Option<Instant>,
    writer: Writer,
}

impl Capture {
    /// Starts a capture into a new file, or one that is empty or no regular file. A named pipe without a
    /// reader is waited for by the thread.
    ///
    /// # Errors
    ///
    /// The file is not empty, or cannot be written.
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
            timed_bytes: 0,
            bytes: 0,
            first_line: None,
            writer: Writer { chunks: Some(sender), pending, ended },
        })
    }

    /// Gives the chunk to the thread. Stops the capture where too much waits there already.
    fn hand_over(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        let Writer { chunks, pending, .. } = &mut self.writer;
        let Some(sender) = chunks else { return };
        if chunk.len() == 0 {
            return;
        }
        let allocated = chunk.allocated_bytes();
        if pending.allocated_bytes.load(Ordering::Relaxed) + allocated > MAX_PENDING_BYTES {
            log::error!(
                "capture to {} stopped: it is written too slowly, {} bytes wait",
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
                self.hand_over();
            }
        }
    }

    fn end_turn(&mut self, now: Instant, is_idle: bool) {
        if self.bytes > self.timed_bytes {
            self.timed_bytes = self.bytes;
            let since = now.duration_since(*self.first_line.get_or_insert(now));
            // Writing to a string cannot fail.
            let _ = writeln!(self.chunk.times, "{} {}", since.as_micros(), self.bytes);
        }
        if is_idle || self.chunk.len() >= CHUNK_BYTES {
            self.hand_over();
        }
    }

    /// Hands over the last chunk and waits until all is written, but no longer than `timeout`.
    fn finish(mut self: Box<Self>, timeout: Duration) {
        self.hand_over();
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

/// Writes all of `bytes`, and takes from `pending` what is written, piece by piece.
fn write_counted(file: &mut impl Write, bytes: &[u8], pending: &AtomicU64) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
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

/// A file to write to.
#[derive(Debug)]
enum Target {
    Open(File),
    /// Opened by the thread, because opening one waits for a reader.
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

/// Opens a named pipe, and waits for its reader.
fn open_named_pipe(path: &Path) -> io::Result<File> {
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().write(true).custom_flags(without_waiting).open(path) {
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

fn create(path: &Path) -> io::Result<File> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(name)?;
    let metadata = file.metadata().map_err(name)?;
    if metadata.is_file() && metadata.len() > 0 {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{} is not empty: choose another file or move it", path.display()),
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
    fn lines_and_times_stand_beside_each_other() {
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
    fn a_file_with_something_in_it_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        fs::write(&path, "1|B\n").unwrap();
        let error = Capture::start(&path).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1|B\n");
    }

    #[test]
    fn a_full_disk_ends_the_capture_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.events");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut capture = Capture::start(&path).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while capture.writer.chunks.is_some() {
            capture.record(b"1|B");
            capture.end_turn(Instant::now(), true);
            assert!(Instant::now() < deadline, "the capture goes on");
        }
        capture.record(b"2|B");
        assert!(capture.chunk.lines.is_empty());
    }

    fn named_pipe(folder: &Path) -> PathBuf {
        let path = folder.join("stream.pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Captures lines like these until the capture stops by itself. Returns how many bytes waited at the
    /// most, as counted independently.
    fn fill(capture: &mut Capture, line: &[u8], lines_per_turn: usize) -> usize {
        let mut waiting = 0;
        for turn in 1_u64.. {
            for _ in 0..lines_per_turn {
                capture.record(line);
            }
            capture.end_turn(Instant::now(), turn.is_multiple_of(2));
            if capture.writer.chunks.is_none() {
                break;
            }
            // The times of a turn take at least this much.
            waiting += lines_per_turn * (line.len() + 1) + "0 0\n".len();
            let pending = capture.writer.pending.allocated_bytes.load(Ordering::Relaxed);
            assert!(pending + capture.chunk.allocated_bytes() <= 32 << 20, "{pending}");
        }
        waiting
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded_by_bytes_whatever_the_lines_are() {
        let longest = vec![b'x'; 65_536];
        for (line, lines_per_turn) in
            [(&b"1|B"[..], 1), (b"1|B", 1000), (&longest, 1), (&longest, 100)]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut capture = Capture::start(&named_pipe(folder.path())).unwrap();
            let waiting = fill(&mut capture, line, lines_per_turn);
            assert!(waiting <= 32 << 20, "{waiting} bytes waited");
            let (len, line_bytes) = (line.len(), &capture.writer.pending.line_bytes);
            let line_bytes = line_bytes.load(Ordering::Relaxed);
            assert!(line_bytes > 0 && line_bytes.is_multiple_of(len as u64 + 1), "{line_bytes}");
        }
    }

    #[test]
    fn a_reader_that_comes_late_gets_everything() {
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
    fn finishing_without_a_reader_ends_with_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = Capture::start(&named_pipe(folder.path())).unwrap();
        capture.record(b"1|B");
        let start = Instant::now();
        Box::new(capture).finish(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
