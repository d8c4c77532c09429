//! Names of files.

use std::fmt;

/// The file that is recycled as the next segment.
pub(super) const SPARE: &str = "spare.segment";

/// The segment that is being created.
pub(super) const UNFINISHED_SEGMENT: &str = "segment.unfinished";

/// The snapshot that is being written.
pub(super) const UNFINISHED_SNAPSHOT: &str = "snapshot.unfinished";

/// The empty file that marks all segments and snapshots beside it as superseded by a journal that is being begun.
pub(super) const SUPERSEDED: &str = "superseded.unfinished";

const SEGMENT_SUFFIX: &str = ".segment";
const SNAPSHOT_SUFFIX: &str = ".snapshot";

/// The name of a segment: its generation, the sequence awaited at its start, and its random ID. Names sort by
/// generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Counts the segments ever created. It rises where the sequence falls back in a reset.
    pub generation: u64,
    /// The sequence awaited at the start.
    pub first: u64,
    /// The random ID that all records of the segment contain.
    pub id: u64,
}

/// The name of a snapshot: the generation of the segment at whose end it was taken, and the sequence awaited
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// The generation of the last segment that it includes.
    pub generation: u64,
    /// The sequence awaited at the end of that segment.
    pub awaited: u64,
}

impl SegmentName {
    /// Parses a file name. Returns `None` if it is not the name of a segment.
    #[must_use]
    pub fn parse(name: &str) -> Option<SegmentName> {
        let mut parts = name.strip_suffix(SEGMENT_SUFFIX)?.split('-');
        let parsed = SegmentName {
            generation: parts.next()?.parse().ok()?,
            first: parts.next()?.parse().ok()?,
            id: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        // Each segment has one name.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentName { generation, first, id } = self;
        write!(f, "{generation:010}-{first:020}-{id:016x}{SEGMENT_SUFFIX}")
    }
}

impl SnapshotName {
    /// Parses a file name. Returns `None` if it is not the name of a snapshot.
    #[must_use]
    pub fn parse(name: &str) -> Option<SnapshotName> {
        let (generation, awaited) = name.strip_suffix(SNAPSHOT_SUFFIX)?.split_once('-')?;
        let parsed =
            SnapshotName { generation: generation.parse().ok()?, awaited: awaited.parse().ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotName { generation, awaited } = self;
        write!(f, "{generation:010}-{awaited:020}{SNAPSHOT_SUFFIX}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_roundtrip() {
        let name = SegmentName { generation: 7, first: 123, id: 0xABC };
        assert_eq!(name.to_string(), "0000000007-00000000000000000123-0000000000000abc.segment");
        for name in [name, SegmentName { generation: u64::MAX, first: u64::MAX, id: u64::MAX }] {
            assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        }
        let name = SnapshotName { generation: 7, awaited: 123 };
        assert_eq!(name.to_string(), "0000000007-00000000000000000123.snapshot");
        assert_eq!(SnapshotName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn other_files_are_neither() {
        for name in [
            "",
            SPARE,
            UNFINISHED_SEGMENT,
            UNFINISHED_SNAPSHOT,
            "lock",
            "7-123-abc.segment",
            "0000000007-00000000000000000123-0000000000000ABC.segment",
            "0000000007-00000000000000000123-0000000000000abc.segment.cut-64",
            "0000000007-00000000000000000123.segment",
            "+000000007-00000000000000000123.snapshot",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
            assert_eq!(SnapshotName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_sort_by_generation() {
        let low = SegmentName { generation: 9, first: 5000, id: 1 };
        let high = SegmentName { generation: 10, first: 1, id: 0 };
        assert!(low < high && low.to_string() < high.to_string());
    }
}
