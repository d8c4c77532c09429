//! The directory of a journal on a real disk.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread;

use rustix::fs::{FallocateFlags, fallocate};

use crate::journal::{ReadAt, Storage, StorageFile};

/// A directory of files.
#[derive(Debug)]
pub(in crate::server) struct Directory {
    path: PathBuf,
    /// The open directory, to sync it.
    handle: File,
    /// How existing files are opened.
    options: OpenOptions,
    /// Syncs files in the background, if there is a thread for that.
    background: Option<Sender<SyncJob>>,
}

/// A file to be synced, and where the result goes.
type SyncJob = (File, Sender<io::Result<()>>);

impl Directory {
    /// Opens an existing directory.
    pub(super) fn open(path: &Path) -> io::Result<Directory> {
        Directory::with_options(path, OpenOptions::new().read(true).write(true))
    }

    /// Opens an existing directory whose files are only read.
    pub(in crate::server) fn open_read_only(path: &Path) -> io::Result<Directory> {
        Directory::with_options(path, OpenOptions::new().read(true))
    }

    fn with_options(path: &Path, options: &OpenOptions) -> io::Result<Directory> {
        Ok(Directory {
            path: path.to_owned(),
            handle: File::open(path)?,
            options: options.clone(),
            background: None,
        })
    }

    /// Starts a thread that syncs the files of this directory in the background. It ends with the directory and
    /// its open files.
    pub(super) fn with_sync_thread(self) -> io::Result<Directory> {
        let (sender, jobs) = channel();
        thread::Builder::new().name("sync".to_owned()).spawn(move || run_syncs(&jobs))?;
        Ok(Directory { background: Some(sender), ..self })
    }

    fn disk_file(&self, file: File) -> DiskFile {
        DiskFile { file, background: self.background.clone(), running: None }
    }
}

impl Storage for Directory {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string()));
        // The journal's own names are ASCII.
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    fn create(&mut self, name: &str, bytes: u64) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path.join(name))?;
        // A file system that cannot reserve grows the file instead, and refuses a write if it is full.
        if bytes > 0 && fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err() {
            file.set_len(0)?;
        }
        Ok(self.disk_file(file))
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        self.options.open(self.path.join(name)).map(|file| self.disk_file(file))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn random_id(&mut self) -> u64 {
        // The keys of a new state are random.
        RandomState::new().build_hasher().finish() | 1
    }
}

fn run_syncs(jobs: &Receiver<SyncJob>) {
    for (file, result) in jobs {
        // A file that was closed meanwhile waits for no result.
        let _ = result.send(file.sync_data());
    }
}

/// An open file.
#[derive(Debug)]
pub(in crate::server) struct DiskFile {
    file: File,
    background: Option<Sender<SyncJob>>,
    /// The result of the sync in the background, if one was started.
    running: Option<Receiver<io::Result<()>>>,
}

impl ReadAt for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| self.file.read_at(bytes, offset))
    }
}

impl StorageFile for DiskFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| self.file.write_at(bytes, offset))
    }

    fn start_sync(&mut self) -> bool {
        let (Some(background), Ok(file)) = (&self.background, self.file.try_clone()) else {
            return false;
        };
        let (sender, result) = channel();
        let is_started = background.send((file, sender)).is_ok();
        self.running = is_started.then_some(result);
        is_started
    }

    fn sync_result(&mut self, waits: bool) -> Option<io::Result<()>> {
        let running = self.running.as_ref()?;
        let received = match waits {
            true => running.recv(),
            false => match running.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(RecvError),
                Ok(result) => Ok(result),
            },
        };
        self.running = None;
        Some(received.unwrap_or_else(|RecvError| Err(io::Error::other("the sync was abandoned"))))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Batch, LogEntry};
    use crate::journal::{CommitPoint, Recovery, SEGMENT_BYTES, Writer, maintain};

    #[test]
    fn a_journal_on_a_real_disk_is_recovered() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(folder.path()).unwrap();
        let recovery = Recovery::read(&directory, 1, |_| {}).unwrap();
        let storage = Directory::open(folder.path()).unwrap();
        let mut writer = Writer::new(storage, recovery.position, CommitPoint::Synced);
        for first in (1..1000).step_by(2) {
            let lines = format!("{first}|F|{first}|7\n{}|B\n", first + 1).into_bytes();
            writer.append(LogEntry::Batch(Batch { first, next: first + 2, count: 2, lines }));
            writer.flush().unwrap();
        }
        let names = directory.list().unwrap();
        let file = directory.open(&names[0]).unwrap();
        assert_eq!((names.len(), file.size().unwrap()), (1, SEGMENT_BYTES));
        drop(writer);
        let recovery = Recovery::read(&directory, 1, |_| {}).unwrap();
        assert_eq!((recovery.state.awaited, recovery.lines), (1001, 1000));
        recovery.complete(&mut directory).unwrap();
        assert!(file.size().unwrap() < 100_000, "it takes no more space than its content");
        assert_eq!(maintain(&mut directory, 0, || {}).unwrap().snapshot, None);
    }
}
