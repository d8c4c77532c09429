//! Journals and snapshots of arbitrary bytes: reading them never panics, and a repaired journal stays as it is.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use eventserver::journal::{
    HEADER_BYTES, ReadAt, Recovery, SegmentName, SnapshotName, Storage, StorageFile, read_snapshot,
};

use super::input::FuzzInput;

/// A directory of one file.
#[derive(Clone)]
struct OneFile {
    name: String,
    content: Rc<RefCell<Vec<u8>>>,
}

impl Storage for OneFile {
    type File = OneFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(vec![self.name.clone()])
    }

    fn create(&mut self, _: &str, _: u64) -> io::Result<OneFile> {
        Ok(OneFile { name: String::new(), content: Rc::default() })
    }

    fn open(&self, _: &str) -> io::Result<OneFile> {
        Ok(self.clone())
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn random_id(&mut self) -> u64 {
        1
    }
}

impl ReadAt for OneFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.content.borrow().len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let content = self.content.borrow();
        let rest = content.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

impl StorageFile for OneFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content.borrow_mut();
        let end = offset as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.content.borrow_mut().truncate(bytes as usize);
        Ok(())
    }
}

/// Reads the bytes as the only segment of a journal and as a snapshot. The first byte decides whether the
/// checksums of headers and payloads are mended first, so that what follows them is reached.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    let is_mended = input.byte() % 2 == 0;
    let mut content = input.0.to_vec();
    if is_mended {
        mend(&mut content);
    }
    let id = number_at(&content, 8);
    let name =
        SegmentName { generation: number_at(&content, 64), first: number_at(&content, 16), id };
    check_segment(OneFile {
        name: name.to_string(),
        content: Rc::new(RefCell::new(content.clone())),
    });
    let name =
        SnapshotName { generation: number_at(&content, 64), awaited: number_at(&content, 24) };
    let file = OneFile { name: name.to_string(), content: Rc::new(RefCell::new(content)) };
    if let Ok((state, point)) = read_snapshot(&file, name, |_| {}) {
        assert_eq!((state.awaited, point.generation), (name.awaited, name.generation));
    }
}

fn check_segment(mut file: OneFile) {
    let first_sequence = number_at(&file.content.borrow(), 72);
    let Ok(recovery) = Recovery::read(&file, first_sequence, |_| {}) else { return };
    let Ok(()) = recovery.complete(&mut file) else { panic!("memory accepts everything") };
    let Ok(again) = Recovery::read(&file, first_sequence, |_| {}) else {
        panic!("a completed journal is valid")
    };
    assert_eq!(again.torn, None);
    assert_eq!(again.position, recovery.position);
    assert_eq!(again.state.hash(), recovery.state.hash());
}

/// Makes the headers valid, one after the other.
fn mend(content: &mut [u8]) {
    let (mut offset, mut previous) = (0, [0; 4]);
    while content.len() - offset >= HEADER_BYTES {
        let length = number_at(content, offset + 36) as u32 as usize % 300;
        let end = (offset + HEADER_BYTES + length).min(content.len());
        let id: [u8; 8] = number_at(content, 8).to_le_bytes();
        let (header, payload) = content[offset..end].split_at_mut(HEADER_BYTES);
        header[..6].copy_from_slice(b"EVJR\x01\x00");
        header[6] = 1 + header[6] % 7;
        header[8..16].copy_from_slice(&id);
        header[36..40].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[48..52].copy_from_slice(&crc32(payload).to_le_bytes());
        header[52..56].copy_from_slice(&previous);
        previous = crc32(&header[..60]).to_le_bytes();
        header[60..].copy_from_slice(&previous);
        offset = end;
    }
}

/// The CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// Returns the number at an offset, 0 beyond the end.
fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u64::from_le_bytes(chunk))
}
