//! A simulated disk for a journal, which loses, tears and refuses as real ones do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use eventserver::journal::{ReadAt, Storage, StorageFile};

use super::prng::Prng;

/// The unit in which a disk writes, in bytes.
const SECTOR_BYTES: usize = 512;

/// How an operation of the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An input or output error. A sync with this fault forgets what it should have written.
    Error,
    /// The disk is full.
    Full,
    /// A write takes only a part. Other operations fail with an error.
    ShortWrite,
}

/// A disk that holds one directory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(Rc<RefCell<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    /// The directory as the operating system shows it.
    names: BTreeMap<String, usize>,
    /// The directory on the disk.
    durable_names: BTreeMap<String, usize>,
    /// Changes of the directory that are not on the disk.
    unsynced_names: Vec<NameChange>,
    /// The number of operations so far that can fail.
    operations: u64,
    /// The operation that fails, by its number.
    fault: Option<(u64, Fault)>,
    /// From this operation on all fail, because the process is about to end.
    dead_from: Option<u64>,
    /// The disk refuses to hold more bytes.
    capacity: Option<u64>,
    random_ids: u64,
    /// The number of questions whether a sync in the background has ended: every second time it has not.
    sync_polls: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// What was to be written when a sync in the background began.
#[derive(Debug)]
struct SyncedContent {
    sectors: BTreeMap<usize, Vec<u8>>,
    length: usize,
}

#[derive(Debug, Default)]
struct Inode {
    /// The content as the operating system shows it.
    cached: Vec<u8>,
    /// The content on the disk.
    durable: Vec<u8>,
    /// The sectors of `cached` that are to be written.
    dirty: BTreeSet<usize>,
    /// The content that a sync in the background writes, or the fault that it has.
    syncing: Option<Result<SyncedContent, Fault>>,
    /// Whether the length on the disk is to be changed.
    is_length_dirty: bool,
}

impl MemoryDisk {
    /// Lets the operation with a number fail, counted from now on.
    pub(crate) fn fail(&self, after: u64, fault: Fault) {
        let mut disk = self.0.borrow_mut();
        disk.fault = Some((disk.operations + after, fault));
    }

    /// Lets no operation fail any more.
    pub(crate) fn end_faults(&self) {
        let mut disk = self.0.borrow_mut();
        disk.fault = None;
        disk.dead_from = None;
    }

    /// Lets all operations fail from the one with a number on, counted from now on.
    pub(crate) fn die(&self, after: u64) {
        let mut disk = self.0.borrow_mut();
        disk.dead_from = Some(disk.operations + after);
    }

    /// Limits the bytes of all files together.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.0.borrow_mut().capacity = capacity;
    }

    /// Returns the number of operations so far that can fail.
    pub(crate) fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Ends the process: open files are gone, and everything written stays.
    pub(crate) fn end_process(&self) {
        self.end_faults();
        self.0.borrow_mut().inodes.iter_mut().for_each(Inode::abandon_sync);
    }

    /// Cuts the power: of everything that was not synced, any part is lost, in any order.
    pub(crate) fn cut_power(&self, random: &mut Prng) {
        self.end_process();
        let mut disk = self.0.borrow_mut();
        let kept = random.below(disk.unsynced_names.len() as u64 + 1) as usize;
        let changes: Vec<NameChange> = disk.unsynced_names.drain(..).take(kept).collect();
        for change in changes {
            change.apply(&mut disk.durable_names);
        }
        disk.names = disk.durable_names.clone();
        disk.inodes.iter_mut().for_each(|inode| inode.lose_some(random));
    }

    /// Returns the content of a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let disk = self.0.borrow();
        disk.inodes[disk.names[name]].cached.clone()
    }

    /// Replaces the content of a file, on the disk too.
    pub(crate) fn set_content(&self, name: &str, content: &[u8]) {
        let mut disk = self.0.borrow_mut();
        let inode = disk.names[name];
        disk.inodes[inode] =
            Inode { cached: content.to_vec(), durable: content.to_vec(), ..Inode::default() };
    }

    /// Returns a copy that shares nothing with this disk.
    pub(crate) fn copy(&self) -> MemoryDisk {
        let copy = MemoryDisk::default();
        for name in self.list().unwrap() {
            copy.clone().create(&name, 0).unwrap();
            copy.set_content(&name, &self.content(&name));
        }
        copy.clone().sync().unwrap();
        copy
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Link(name, inode) => drop(names.insert(name, inode)),
            NameChange::Unlink(name) => drop(names.remove(&name)),
            NameChange::Rename(from, to) => {
                let inode = names.remove(&from);
                names.extend(inode.map(|inode| (to, inode)));
            }
        }
    }
}

impl Disk {
    /// Counts an operation. Returns the fault that it has.
    fn operate(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        if self.dead_from.is_some_and(|from| number >= from) {
            return Some(Fault::Error);
        }
        self.fault.filter(|&(at, _)| at == number).map(|(_, fault)| fault)
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].cached.len() as u64).sum()
    }

    /// Returns whether `bytes` more do not fit.
    fn is_full_for(&self, bytes: u64) -> bool {
        self.capacity.is_some_and(|capacity| self.used_bytes() + bytes > capacity)
    }

    fn change(&mut self, change: NameChange) {
        self.unsynced_names.push(change.clone());
        change.apply(&mut self.names);
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Inode {
    fn write_dirty(&mut self) {
        if std::mem::take(&mut self.is_length_dirty) {
            self.durable.resize(self.cached.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.cached.len());
            if start < end {
                self.durable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
    }

    /// Begins a sync in the background. One that runs ends first: nobody waits for it, because its segment was
    /// given up and is recycled.
    fn start_sync(&mut self, fault: Option<Fault>) {
        self.end_sync();
        let dirty = std::mem::take(&mut self.dirty);
        let content = |sector: usize| {
            let start = sector * SECTOR_BYTES;
            self.cached[start.min(self.cached.len())..].chunks(SECTOR_BYTES).next()
        };
        let sectors = dirty.iter().filter_map(|&it| Some((it, content(it)?.to_vec()))).collect();
        let length = self.cached.len();
        self.syncing = Some(fault.map_or(Ok(SyncedContent { sectors, length }), Err));
    }

    /// Ends a sync in the background. What was written since it began is still to be written.
    fn end_sync(&mut self) -> Option<Result<(), Fault>> {
        let result = self.syncing.take()?.map(|SyncedContent { sectors, length }| {
            self.durable.resize(self.durable.len().max(length), 0);
            for (sector, content) in sectors {
                let start = sector * SECTOR_BYTES;
                self.durable[start..start + content.len()].copy_from_slice(&content);
            }
        });
        Some(result)
    }

    /// Ends a sync in the background before it has written anything.
    fn abandon_sync(&mut self) {
        if let Some(Ok(SyncedContent { sectors, .. })) = self.syncing.take() {
            self.dirty.extend(sectors.into_keys());
        }
    }

    /// Writes random parts of the dirty sectors to the disk, then shows what is there.
    fn lose_some(&mut self, random: &mut Prng) {
        if self.is_length_dirty && random.below(2) == 0 {
            self.durable.resize(self.cached.len(), 0);
        }
        for &sector in &self.dirty {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.cached.len()).min(self.durable.len());
            let kept = match random.below(4) {
                0 => 0,
                1 => random.below(SECTOR_BYTES as u64) as usize,
                _ => SECTOR_BYTES,
            };
            if start < end {
                let end = end.min(start + kept);
                self.durable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
        self.dirty.clear();
        self.is_length_dirty = false;
        self.cached.clone_from(&self.durable);
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => io::ErrorKind::StorageFull.into(),
        Fault::Error | Fault::ShortWrite => io::Error::other("simulated"),
    }
}

impl Storage for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn create(&mut self, name: &str, bytes: u64) -> io::Result<MemoryFile> {
        let mut disk = self.0.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        // Space is reserved where there is enough.
        let bytes = if disk.is_full_for(bytes) { 0 } else { bytes };
        let inode = disk.inodes.len();
        disk.inodes.push(Inode {
            cached: vec![0; bytes as usize],
            is_length_dirty: true,
            ..Inode::default()
        });
        disk.change(NameChange::Link(name.to_owned(), inode));
        Ok(MemoryFile { disk: Rc::clone(&self.0), inode })
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut disk = self.0.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        let inode = disk.inode(name)?;
        Ok(MemoryFile { disk: Rc::clone(&self.0), inode })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        disk.inode(from)?;
        disk.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        disk.inode(name)?;
        disk.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        disk.unsynced_names.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn random_id(&mut self) -> u64 {
        let mut disk = self.0.borrow_mut();
        disk.random_ids += 1;
        Prng::new(disk.random_ids).next() | 1
    }
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub(crate) struct MemoryFile {
    disk: Rc<RefCell<Disk>>,
    inode: usize,
}

impl ReadAt for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.borrow().inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        let content = &disk.inodes[self.inode].cached;
        let content = content.get(offset as usize..).unwrap_or(&[]);
        // Short reads are normal.
        let read = bytes.len().min(content.len()).min(3000);
        bytes[..read].copy_from_slice(&content[..read]);
        Ok(read)
    }
}

impl StorageFile for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.disk.borrow_mut();
        let length = disk.inodes[self.inode].cached.len() as u64;
        let added = (offset + bytes.len() as u64).saturating_sub(length);
        let written = match disk.operate() {
            Some(Fault::ShortWrite) => bytes.len() / 2,
            Some(fault) => return Err(error(fault)),
            None if disk.is_full_for(added) => return Err(error(Fault::Full)),
            None => bytes.len(),
        };
        let inode = &mut disk.inodes[self.inode];
        let (start, end) = (offset as usize, offset as usize + written);
        if end > inode.cached.len() {
            inode.cached.resize(end, 0);
            inode.is_length_dirty = true;
        }
        inode.cached[start..end].copy_from_slice(&bytes[..written]);
        inode.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(written)
    }

    fn start_sync(&mut self) -> bool {
        let mut disk = self.disk.borrow_mut();
        let fault = disk.operate();
        let inode = &mut disk.inodes[self.inode];
        inode.start_sync(fault);
        true
    }

    fn sync_result(&mut self, waits: bool) -> Option<io::Result<()>> {
        let mut disk = self.disk.borrow_mut();
        disk.sync_polls += 1;
        if !waits && disk.sync_polls.is_multiple_of(2) {
            return None;
        }
        let result = disk.inodes[self.inode].end_sync()?;
        Some(result.map_err(error))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.borrow_mut();
        let fault = disk.operate();
        let inode = &mut disk.inodes[self.inode];
        if let Some(fault) = fault {
            // The operating system counts the pages as written, and the next sync succeeds without them.
            inode.dirty.clear();
            return Err(error(fault));
        }
        inode.write_dirty();
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.borrow_mut();
        if let Some(fault) = disk.operate() {
            return Err(error(fault));
        }
        let inode = &mut disk.inodes[self.inode];
        inode.cached.truncate(bytes as usize);
        inode.is_length_dirty = true;
        Ok(())
    }
}
