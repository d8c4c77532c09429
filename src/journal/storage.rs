//! The interface to the directory of a journal: real files, or simulated ones.

use std::io;

/// A directory of files. It holds nothing but one journal.
pub trait Storage {
    /// The type of an open file.
    type File: StorageFile;

    /// Returns the names of all files, in any order.
    ///
    /// # Errors
    ///
    /// The error of the operating system, as for all other functions.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file for reading and writing and reserves `bytes` for it where that is possible. The
    /// reserved bytes read as zeros. Replaces an existing file.
    fn create(&mut self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file, and replaces one with the new name. On the disk after [`sync`](Self::sync).
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. On the disk after [`sync`](Self::sync).
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Writes the names of files to the disk.
    fn sync(&mut self) -> io::Result<()>;

    /// Returns a random number for a new file, never 0.
    fn random_id(&mut self) -> u64;
}

/// A file that can be read.
pub trait ReadAt {
    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// The error of the operating system, as for all other functions.
    fn size(&self) -> io::Result<u64>;

    /// Reads at an offset. Returns the number of bytes, 0 at the end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
}

/// An open file.
pub trait StorageFile: ReadAt {
    /// Writes at an offset, and extends the file if needed. Returns the number of bytes written, which may
    /// be too few.
    ///
    /// # Errors
    ///
    /// The error of the operating system, as for all other functions.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Starts to write the present content to the disk in the background. Returns `false` if that is not
    /// possible. No other sync of the file may be started before [`sync_result`](Self::sync_result) has
    /// returned the result.
    fn start_sync(&mut self) -> bool {
        false
    }

    /// Returns the result of the sync in the background once it has ended, and waits for its end if `waits`.
    /// `None` if it has not ended, or none was started.
    fn sync_result(&mut self, waits: bool) -> Option<io::Result<()>> {
        let _ = waits;
        None
    }

    /// Writes the content to the disk. After an error it is unknown what of it is there.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off everything from an offset.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

/// Reads at an offset until `bytes` is full or the file ends. Returns the number of bytes read.
pub(super) fn read_full(file: &impl ReadAt, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Writes all bytes with one call. A short write is an error, because a write to a disk is short only if
/// the disk refuses the rest.
pub(super) fn write_once(file: &mut impl StorageFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    match file.write_at(offset, bytes)? {
        written if written == bytes.len() => Ok(()),
        written => Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("the disk accepts no more than {written} of {} bytes", bytes.len()),
        )),
    }
}
