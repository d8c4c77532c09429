//! A storage with planned changes, none of which is made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::storage::{ReadAt, Storage, StorageFile};

/// A storage that shows another one as it would be after some changes. It can only be read.
#[derive(Debug)]
pub(super) struct Overlay<'a, S> {
    storage: &'a mut S,
    hidden: BTreeSet<String>,
    /// The new lengths of files.
    cut: BTreeMap<String, u64>,
    added: BTreeMap<String, Vec<u8>>,
}

/// An open file of an [`Overlay`].
#[derive(Debug)]
pub(super) enum OverlayFile<F> {
    /// A file of the storage, up to a length.
    Stored(F, Option<u64>),
    /// An added file.
    Added(Vec<u8>),
}

impl<'a, S: Storage> Overlay<'a, S> {
    pub(super) fn new(storage: &'a mut S) -> Overlay<'a, S> {
        let (hidden, cut, added) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Overlay { storage, hidden, cut, added }
    }

    /// Hides a file.
    pub(super) fn hide(&mut self, name: &str) {
        self.added.remove(name);
        self.hidden.insert(name.to_owned());
    }

    /// Cuts a file at an offset.
    pub(super) fn cut(&mut self, name: &str, offset: u64) {
        self.cut.insert(name.to_owned(), offset);
    }

    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, content: Vec<u8>) {
        self.added.insert(name.to_owned(), content);
    }

    /// Returns the names of all files, hidden ones included.
    pub(super) fn list_all(&self) -> io::Result<Vec<String>> {
        let mut names = self.storage.list()?;
        names.extend(self.added.keys().cloned());
        Ok(names)
    }
}

impl<S: Storage> Storage for Overlay<'_, S> {
    type File = OverlayFile<S::File>;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.list_all()?;
        names.retain(|name| !self.hidden.contains(name));
        Ok(names)
    }

    fn create(&mut self, _: &str, _: u64) -> io::Result<Self::File> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        match self.added.get(name) {
            Some(content) => Ok(OverlayFile::Added(content.clone())),
            None if self.hidden.contains(name) => Err(io::ErrorKind::NotFound.into()),
            None => Ok(OverlayFile::Stored(self.storage.open(name)?, self.cut.get(name).copied())),
        }
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn random_id(&mut self) -> u64 {
        self.storage.random_id()
    }
}

impl<F: ReadAt> ReadAt for OverlayFile<F> {
    fn size(&self) -> io::Result<u64> {
        match self {
            OverlayFile::Stored(file, length) => Ok(file.size()?.min(length.unwrap_or(u64::MAX))),
            OverlayFile::Added(content) => Ok(content.len() as u64),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            OverlayFile::Stored(file, length) => {
                let left = length.unwrap_or(u64::MAX).saturating_sub(offset);
                let bytes_left = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                file.read_at(offset, &mut bytes[..bytes_left])
            }
            OverlayFile::Added(content) => {
                let content = content.get(offset as usize..).unwrap_or_default();
                let read = content.len().min(bytes.len());
                bytes[..read].copy_from_slice(&content[..read]);
                Ok(read)
            }
        }
    }
}

impl<F: ReadAt> StorageFile for OverlayFile<F> {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
