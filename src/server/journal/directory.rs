//! The directory of a journal on a real disk.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
}

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
        Ok(Directory { path: path.to_owned(), handle: File::open(path)?, options: options.clone() })
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
        Ok(DiskFile(file))
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        self.options.open(self.path.join(name)).map(DiskFile)
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

/// An open file.
#[derive(Debug)]
pub(in crate::server) struct DiskFile(File);

impl ReadAt for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| self.0.read_at(bytes, offset))
    }
}

impl StorageFile for DiskFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| self.0.write_at(bytes, offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
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
        assert_eq!(maintain(&mut directory, 0).unwrap().snapshot, None);
    }
}
