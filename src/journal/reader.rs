//! Reading the records of a file in order.

use std::{fmt, io};

use memchr::memmem;

use super::record::{HEADER_BYTES, Header, HeaderError, MAX_RECORD_PAYLOAD_BYTES};
use super::storage::{ReadAt, read_full};

/// The number of bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// The offset of the file ID in a header.
const FILE_ID_OFFSET: usize = 8;

/// Reads the records of a segment or a snapshot in order, and checks everything that a record says of
/// itself and of the previous one.
#[derive(Debug)]
pub struct RecordReader<'a, F> {
    file: &'a F,
    file_id: u64,
    /// The offset of the next record.
    offset: u64,
    /// The checksum of the previous header.
    checksum: u32,
    window: Vec<u8>,
    window_offset: u64,
}

/// The result of reading a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record and its payload.
    Record(Header, &'a [u8]),
    /// The file ends here, or continues with zeros.
    End,
    /// Something else than a valid record follows.
    Bad(BadRecord),
}

/// The reason why a record is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// The header is not valid.
    Header(HeaderError),
    /// The record belongs to another file.
    ForeignFile,
    /// The record does not continue the previous one.
    Chain,
    /// The payload is longer than any that is written.
    TooLong(u32),
    /// The file ends within the record.
    Incomplete,
    /// The checksum of the payload does not match.
    PayloadChecksum,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRecord::Header(error) => error.fmt(f),
            BadRecord::ForeignFile => f.write_str("the record belongs to another file"),
            BadRecord::Chain => f.write_str("the record does not continue the previous one"),
            BadRecord::TooLong(bytes) => write!(f, "{bytes} bytes of payload are too many"),
            BadRecord::Incomplete => f.write_str("the file ends within the record"),
            BadRecord::PayloadChecksum => f.write_str("the checksum of the payload does not match"),
        }
    }
}

impl<F: ReadAt> RecordReader<'_, F> {
    /// Creates a reader of the file with a random ID, which starts at an offset: after the record whose header
    /// has this checksum, or at the first record if both are 0.
    pub fn starting_at(file: &F, file_id: u64, offset: u64, checksum: u32) -> RecordReader<'_, F> {
        let window = Vec::new();
        RecordReader { file, file_id, offset, checksum, window, window_offset: offset }
    }

    /// Returns the offset of the next record.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the checksum of the header of the last record, 0 before the first.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Reads the next record. After [`Step::End`] and [`Step::Bad`] the reader stays where it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn next_record(&mut self) -> io::Result<Step<'_>> {
        let header = self.fetch(HEADER_BYTES)?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(Step::End);
        }
        let Some(header) = header.first_chunk() else {
            return Ok(Step::Bad(BadRecord::Incomplete));
        };
        let (header, checksum) = match Header::decode(header) {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Step::Bad(BadRecord::Header(error))),
        };
        if header.file_id != self.file_id {
            return Ok(Step::Bad(BadRecord::ForeignFile));
        }
        if header.previous != self.checksum {
            return Ok(Step::Bad(BadRecord::Chain));
        }
        if header.bytes as usize > MAX_RECORD_PAYLOAD_BYTES {
            return Ok(Step::Bad(BadRecord::TooLong(header.bytes)));
        }
        let record_bytes = HEADER_BYTES + header.bytes as usize;
        let is_intact = {
            let record = self.fetch(record_bytes)?;
            if record.len() < record_bytes {
                return Ok(Step::Bad(BadRecord::Incomplete));
            }
            crc32fast::hash(&record[HEADER_BYTES..]) == header.payload_checksum
        };
        if !is_intact {
            return Ok(Step::Bad(BadRecord::PayloadChecksum));
        }
        let start = (self.offset - self.window_offset) as usize;
        self.offset += record_bytes as u64;
        self.checksum = checksum;
        Ok(Step::Record(header, &self.window[start + HEADER_BYTES..start + record_bytes]))
    }

    /// Returns the next `bytes` bytes without consuming them, fewer at the end of the file.
    fn fetch(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let start = self.offset - self.window_offset;
        if start + bytes as u64 > self.window.len() as u64 {
            let left = self.file.size()?.saturating_sub(self.offset);
            self.window.resize(window_bytes(left).max(bytes), 0);
            let read = read_full(self.file, self.offset, &mut self.window)?;
            self.window.truncate(read);
            self.window_offset = self.offset;
        }
        let start = (self.offset - self.window_offset) as usize;
        let end = self.window.len().min(start + bytes);
        Ok(&self.window[start.min(end)..end])
    }
}

/// Returns the number of bytes to read at once if `left` are left.
fn window_bytes(left: u64) -> usize {
    WINDOW_BYTES.min(left as usize)
}

/// The valid headers of a file after an offset at which no valid record starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaterRecords {
    /// The end of the last record. 0 if there is none.
    pub(super) end: u64,
    /// The highest offset up to which one of them claims that the file was on the disk.
    pub(super) synced: u64,
    /// The first sequence of the first of them.
    pub(super) first: Option<u64>,
    /// The highest sequence that is awaited after one of them.
    pub(super) next: Option<u64>,
    /// The number of lines in their batches.
    pub(super) lines: u64,
}

/// Finds the valid headers with a file ID, at any offset from `from` on.
pub(super) fn find_later_records(
    file: &impl ReadAt,
    from: u64,
    file_id: u64,
) -> io::Result<LaterRecords> {
    let needle = file_id.to_le_bytes();
    let finder = memmem::Finder::new(&needle);
    let mut later = LaterRecords::default();
    let left = file.size()?.saturating_sub(from);
    // More than a header, so that each step makes progress.
    let mut window = vec![0; window_bytes(left).max(2 * HEADER_BYTES)];
    let mut offset = from;
    loop {
        let read = read_full(file, offset, &mut window)?;
        for at in finder.find_iter(&window[..read]) {
            let Some(start) = at.checked_sub(FILE_ID_OFFSET) else { continue };
            let Some(header) = window[start..read].first_chunk() else { continue };
            if let Ok((header, _)) = Header::decode(header) {
                later.end = later.end.max(offset + start as u64 + header.record_bytes());
                later.synced = later.synced.max(header.synced);
                later.first.get_or_insert(header.first);
                later.next = later.next.max(Some(header.next));
                later.lines += u64::from(header.count);
            }
        }
        if read < window.len() {
            return Ok(later);
        }
        // A header may span two windows.
        offset += (read - HEADER_BYTES + 1) as u64;
    }
}
