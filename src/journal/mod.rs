//! The journal: ordered batches in files, from which a restart restores the state.
//!
//! Pure: files are behind the [`Storage`] trait, so that tests run the same code on simulated disks. No
//! threads, no clock, no log.
//!
#![doc = include_str!("FORMAT.md")]

mod chain;
mod dump;
mod error;
mod inspection;
mod maintenance;
mod names;
mod overlay;
mod reader;
mod record;
mod recovery;
mod repair;
mod segment;
mod snapshot;
mod state;
mod storage;
mod stream;
mod writer;

pub use chain::Replay;
pub use dump::{DumpError, Dumped, dump};
pub use error::{Corruption, Error};
pub use inspection::{Checked, Inspection, SegmentReport, SnapshotReport, Start, Totals, inspect};
pub use maintenance::{Maintained, maintain, snapshot_recovered};
pub use names::{SegmentName, SnapshotName};
pub use reader::{BadRecord, RecordReader, Step};
pub(crate) use record::append_record;
pub use record::{FORMAT_VERSION, HEADER_BYTES, Header, HeaderError, Kind, MAX_PAYLOAD_BYTES};
pub use recovery::{Notice, Recovery, TornTail};
pub use repair::{Repair, RepairStep, plan_repair};
pub use segment::{SegmentEnd, SegmentStart};
pub(crate) use snapshot::write_records;
pub use snapshot::{SnapshotError, SnapshotPoint, read_snapshot, write_snapshot};
pub use state::State;
pub use storage::{ReadAt, Storage, StorageFile};
pub(crate) use stream::lines_from;
pub use stream::{
    EntryPayload, StreamEntry, StreamLink, StreamPart, begin_at, begin_with, read_entries,
};
pub use writer::{CommitPoint, Position, SEGMENT_BYTES, Writer, is_disk_full};
