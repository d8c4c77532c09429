//! Cutting a corrupt journal at the first bad batch.

use super::error::{Corruption, Error};
use super::names::{SegmentName, SnapshotName, UNFINISHED_SEGMENT};
use super::overlay::Overlay;
use super::reader::{RecordReader, Step, find_later_records};
use super::record::{Kind, read_u128};
use super::recovery::{Recovery, copy_range};
use super::segment::{SegmentEnd, SegmentStart};
use super::snapshot::{SnapshotPoint, read_snapshot};
use super::state::State;
use super::storage::{ReadAt, Storage, StorageFile, write_once};

/// The suffix of files that no longer belong to the journal.
const SET_ASIDE_SUFFIX: &str = ".set-aside";

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// The file is renamed, with the suffix `.set-aside`.
    SetAside {
        /// The name of the file.
        file: String,
    },
    /// All from an offset on is moved to a file of its own, whose name has the suffix `.cut-OFFSET`.
    Cut {
        /// The name of the segment.
        file: String,
        /// The offset, in bytes.
        offset: u64,
        /// The number of bytes.
        bytes: u64,
    },
    /// An empty segment is created that continues a snapshot, all segments after which are lost.
    Continue {
        /// The name of the snapshot.
        snapshot: String,
        /// The name of the segment.
        segment: String,
        /// The content of the segment.
        content: Vec<u8>,
    },
}

/// What has to be done to a corrupt journal, so that a server starts from it.
#[derive(Debug)]
pub struct Repair {
    /// What is wrong, in the order in which it was found.
    pub found: Vec<Corruption>,
    /// The steps, in the order in which they are taken.
    pub steps: Vec<RepairStep>,
    /// The number of lines that are lost, at most: those in batches whose headers are still valid.
    pub lost_lines: u64,
    /// The sequence after the last one that is lost. `None` if no valid header tells of a lost one.
    pub lost_before: Option<u64>,
    /// The awaited sequence after the repair.
    pub awaited: u64,
}

/// Returns what has to be done to a journal, and changes nothing. `None` if a server starts from it as it
/// is.
///
/// # Errors
///
/// Nothing can be restored, because neither a snapshot nor the first segment is intact. The directory cannot
/// be read, or has another version of the format.
pub fn plan_repair<S: Storage>(storage: &mut S) -> Result<Option<Repair>, Error> {
    let mut planner = Planner {
        overlay: Overlay::new(storage),
        repair: Repair {
            found: Vec::new(),
            steps: Vec::new(),
            lost_lines: 0,
            lost_before: None,
            awaited: 0,
        },
    };
    loop {
        match Recovery::read_recorded(&planner.overlay, |_| {}) {
            Ok(recovery) => {
                let repair = Repair { awaited: recovery.state.awaited, ..planner.repair };
                return Ok(Some(repair).filter(|repair| !repair.found.is_empty()));
            }
            Err(Error::Corrupt(corruption)) => planner.remove(corruption)?,
            Err(error) => return Err(error),
        }
    }
}

impl Repair {
    /// Takes the steps. Nothing is deleted. An interrupted call can be repeated, with a new plan.
    ///
    /// # Errors
    ///
    /// The storage refused.
    pub fn apply<S: Storage>(&self, storage: &mut S) -> Result<(), Error> {
        for step in &self.steps {
            apply_step(storage, step)?;
        }
        storage.sync().map_err(Error::io("sync", "the directory of the journal"))?;
        // Completes the newest segment with the state hash.
        Recovery::read_recorded(storage, |_| {})?.complete(storage)
    }
}

impl RepairStep {
    /// Returns the name of the file that keeps what the step removes, if it removes something.
    #[must_use]
    pub fn kept_in(&self) -> Option<String> {
        match self {
            RepairStep::SetAside { file } => Some(format!("{file}{SET_ASIDE_SUFFIX}")),
            RepairStep::Cut { file, offset, .. } => Some(format!("{file}.cut-{offset}")),
            RepairStep::Continue { .. } => None,
        }
    }
}

fn apply_step<S: Storage>(storage: &mut S, step: &RepairStep) -> Result<(), Error> {
    let kept_in = step.kept_in().unwrap_or_default();
    match step {
        RepairStep::SetAside { file } => {
            storage.rename(file, &kept_in).map_err(Error::io("rename", file))
        }
        RepairStep::Cut { file, offset, bytes } => {
            copy_range(storage, file, *offset..offset + bytes, &kept_in)?;
            let cut = storage.open(file).and_then(|mut open| {
                open.truncate(*offset)?;
                open.sync()
            });
            cut.map_err(Error::io("cut", file))
        }
        RepairStep::Continue { segment, content, .. } => {
            let written = storage.create(UNFINISHED_SEGMENT, 0).and_then(|mut file| {
                write_once(&mut file, 0, content)?;
                file.sync()?;
                storage.rename(UNFINISHED_SEGMENT, segment)
            });
            written.map_err(Error::io("create", segment))
        }
    }
}

struct Planner<'a, S: Storage> {
    overlay: Overlay<'a, S>,
    repair: Repair,
}

impl<S: Storage> Planner<'_, S> {
    /// Plans to remove a corruption and everything after it.
    fn remove(&mut self, corruption: Corruption) -> Result<(), Error> {
        let (file, offset) = (corruption.file.clone(), corruption.offset);
        if let Some(name) = SnapshotName::parse(&file) {
            self.repair.found.push(corruption);
            return self.continue_snapshot(name);
        }
        let Some(bad) = SegmentName::parse(&file) else { return Err(Error::Corrupt(corruption)) };
        let names =
            self.overlay.list().map_err(Error::io("list", "the directory of the journal"))?;
        let mut segments: Vec<SegmentName> =
            names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        segments.sort_unstable();
        let snapshots: Vec<SnapshotName> =
            names.iter().filter_map(|name| SnapshotName::parse(name)).collect();
        let has_base = segments.iter().any(|name| name.generation < bad.generation)
            || snapshots.iter().any(|name| name.generation < bad.generation);
        if offset == 0 && !has_base {
            return Err(Error::Corrupt(corruption));
        }
        self.repair.found.push(corruption);
        for name in segments.iter().rev().filter(|name| name.generation > bad.generation) {
            self.count_lost(&name.to_string(), name.id, 0)?;
            self.set_aside(name.to_string());
        }
        for name in snapshots.iter().filter(|name| name.generation >= bad.generation) {
            self.set_aside(name.to_string());
        }
        self.count_lost(&file, bad.id, offset)?;
        match offset {
            0 => self.set_aside(file),
            _ => self.cut(file, offset)?,
        }
        Ok(())
    }

    fn set_aside(&mut self, file: String) {
        self.overlay.hide(&file);
        self.repair.steps.push(RepairStep::SetAside { file });
    }

    fn cut(&mut self, file: String, offset: u64) -> Result<(), Error> {
        let length = self.overlay.open(&file).and_then(|file| file.size());
        let length = length.map_err(Error::io("read", &file))?;
        self.overlay.cut(&file, offset);
        let bytes = length.saturating_sub(offset);
        self.repair.steps.push(RepairStep::Cut { file, offset, bytes });
        Ok(())
    }

    /// Counts the lines of the valid headers of a segment from an offset on.
    fn count_lost(&mut self, file: &str, id: u64, offset: u64) -> Result<(), Error> {
        let found = self.overlay.open(file).and_then(|file| find_later_records(&file, offset, id));
        let found = found.map_err(Error::io("read", file))?;
        self.repair.lost_lines += found.lines;
        self.repair.lost_before = self.repair.lost_before.max(found.next);
        Ok(())
    }

    /// Plans an empty segment after a snapshot whose segments are lost. A damaged snapshot is set aside.
    fn continue_snapshot(&mut self, name: SnapshotName) -> Result<(), Error> {
        let text = name.to_string();
        let file = self.overlay.open(&text).map_err(Error::io("open", &text))?;
        let Ok((state, point)) = read_snapshot(&file, name, |_| {}) else {
            self.set_aside(text);
            return Ok(());
        };
        let previous = self.end_of_segment(point, &state)?;
        let segment = SegmentName {
            generation: self.next_generation(name)?,
            first: state.awaited,
            id: self.overlay.random_id(),
        };
        let start = SegmentStart {
            name: segment,
            first_sequence: state.first_sequence,
            previous: Some(previous),
        };
        let mut content = Vec::new();
        start.append_with_link(&mut content, state.stream);
        let segment = segment.to_string();
        self.overlay.add(&segment, content.clone());
        self.repair.steps.push(RepairStep::Continue { snapshot: text, segment, content });
        Ok(())
    }

    fn next_generation(&self, snapshot: SnapshotName) -> Result<u64, Error> {
        let names =
            self.overlay.list_all().map_err(Error::io("list", "the directory of the journal"))?;
        let generations = names.iter().filter_map(|name| SegmentName::parse(name));
        let last = generations.map(|name| name.generation).max().unwrap_or(0);
        Ok(last.max(snapshot.generation) + 1)
    }

    /// Returns the end of the segment of a snapshot. A segment that does not lead to the snapshot is set
    /// aside, and the snapshot replaces it.
    fn end_of_segment(&mut self, point: SnapshotPoint, state: &State) -> Result<SegmentEnd, Error> {
        let SnapshotPoint { generation, id } = point;
        let unknown = SegmentEnd { generation, id, offset: 0, checksum: 0 };
        let names =
            self.overlay.list().map_err(Error::io("list", "the directory of the journal"))?;
        let is_segment = |name: &SegmentName| (name.generation, name.id) == (generation, id);
        let Some(name) = names.iter().filter_map(|name| SegmentName::parse(name)).find(is_segment)
        else {
            return Ok(unknown);
        };
        let name = name.to_string();
        let file = self.overlay.open(&name).map_err(Error::io("open", &name))?;
        let mut records = RecordReader::starting_at(&file, id, 0, 0);
        loop {
            let (offset, checksum) = (records.offset(), records.checksum());
            match records.next_record().map_err(Error::io("read", &name))? {
                Step::Record(header, payload) if header.kind == Kind::SegmentEnd => {
                    if read_u128(payload, 0) == state.hash().0 {
                        return Ok(SegmentEnd { generation, id, offset, checksum });
                    }
                    break;
                }
                Step::Record(..) => {}
                Step::End | Step::Bad(_) => break,
            }
        }
        self.set_aside(name);
        Ok(unknown)
    }
}
