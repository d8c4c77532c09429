//! Writing snapshots and removing what they make superfluous.

use super::chain::{Chain, Replay, read_stamp};
use super::error::Error;
use super::names::{SPARE, SegmentName, SnapshotName};
use super::record::Header;
use super::recovery::Recovery;
use super::snapshot::{SnapshotPoint, write_snapshot};
use super::storage::{ReadAt, Storage};

/// The number of snapshots that are kept.
const KEPT_SNAPSHOTS: usize = 2;

/// The number of segments after which a snapshot is due, whatever their size. Each restart adds a segment.
const MAX_SEGMENTS: usize = 64;

/// Returns whether a snapshot is due after `segments` segments of `bytes` since the snapshot `last`.
fn is_snapshot_due<S: Storage>(
    storage: &S,
    segments: usize,
    bytes: u64,
    last: Option<SnapshotName>,
) -> bool {
    segments >= MAX_SEGMENTS
        || bytes >= last.map_or(0, |last| file_bytes(storage, &last.to_string()))
}

/// The result of [`maintain`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The new snapshot and its length in bytes.
    pub snapshot: Option<(SnapshotName, u64)>,
    /// The files that were removed or kept for recycling.
    pub removed: Vec<String>,
}

/// Pauses after each record that is replayed.
struct Pauses<'a, P>(&'a mut P);

impl<P: FnMut()> Replay for Pauses<'_, P> {
    fn on_record(&mut self, _: &Header, _: &[u8]) {
        (self.0)();
    }
}

/// Writes a snapshot if enough was written since the last one, and removes segments and snapshots that are
/// no longer needed. Runs beside a [`Writer`](super::Writer) of the same directory, because it only uses
/// segments that are complete and stamped with their state hash.
///
/// The state is built from the last snapshot and the segments after it, and is written only if it has the
/// hash that the running server has stamped. A snapshot is due once the segments since the last one are as
/// large as that one, or 64, so that writing snapshots at most doubles what is written.
///
/// `retain_bytes` is the size of the segments kept before the newest snapshot. Those after the second newest
/// one are always kept, because the newest one may turn out damaged.
///
/// `pause` is called after each record that is read or written, which takes at most about a millisecond, so that
/// the work can give way to more urgent work.
///
/// # Errors
///
/// The journal is corrupt, or the storage refused. What is superfluous is removed even if a full disk refuses the
/// snapshot.
pub fn maintain<S: Storage>(
    storage: &mut S,
    retain_bytes: u64,
    mut pause: impl FnMut(),
) -> Result<Maintained, Error> {
    let chain = Chain::load(storage)?;
    match build_snapshot(storage, &chain, &mut pause) {
        Err(error) if error.is_corruption() => Err(error),
        snapshot => {
            let removed = remove_superfluous(storage, retain_bytes)?;
            Ok(Maintained { snapshot: snapshot?, removed })
        }
    }
}

/// Writes a snapshot of a state that was just recovered and [completed](Recovery::complete), if that took a
/// replay of `min_bytes` and a snapshot is due. So each start has a bounded amount to replay, even if no life
/// of the server is long enough for [`maintain`].
///
/// The snapshot is of the end of the newest segment. That segment is continued by an empty one first,
/// because a snapshot without a segment after it means that segments are missing.
///
/// # Errors
///
/// The storage refused. The journal can be continued all the same.
pub fn snapshot_recovered<S: Storage>(
    storage: &mut S,
    recovery: &mut Recovery,
    min_bytes: u64,
) -> Result<Option<(SnapshotName, u64)>, Error> {
    let Recovery { segments, bytes, newest_snapshot, .. } = *recovery;
    let is_long = bytes >= min_bytes || segments >= MAX_SEGMENTS;
    let Some(end) = recovery.position.previous.filter(|_| is_long && segments > 0) else {
        return Ok(None);
    };
    if !is_snapshot_due(storage, segments, bytes, newest_snapshot) {
        return Ok(None);
    }
    recovery.append_empty_segment(storage)?;
    let point = SnapshotPoint { generation: end.generation, id: end.id };
    write_snapshot(storage, &recovery.state, point, || {}).map(Some)
}

fn build_snapshot<S: Storage>(
    storage: &mut S,
    chain: &Chain,
    pause: &mut impl FnMut(),
) -> Result<Option<(SnapshotName, u64)>, Error> {
    let last = chain.snapshots.first();
    let is_newer = |name: SegmentName| last.is_none_or(|last| name.generation > last.generation);
    let Some(target) = (1..chain.segments.len()).find(|&index| {
        let name = chain.segments[index].name;
        let end = chain.stated_end(index);
        is_newer(name) && end.is_some_and(|end| read_stamp(storage, name, end).is_some())
    }) else {
        return Ok(None);
    };
    let newer = (target..chain.segments.len()).filter(|&at| is_newer(chain.segments[at].name));
    let ends: Vec<u64> =
        newer.filter_map(|at| chain.stated_end(at)).map(|end| end.offset).collect();
    let bytes: u64 = ends.iter().sum();
    if !is_snapshot_due(storage, ends.len(), bytes, last.copied()) {
        return Ok(None);
    }
    let base = chain.load_base(storage, |_, _| pause())?;
    let mut state = base.state;
    for index in (target..base.segments).rev() {
        // Compares the hash of the state with the one at the segment's end.
        chain.replay(storage, index, &mut state, &mut Pauses(pause))?;
    }
    let SegmentName { generation, id, .. } = chain.segments[target].name;
    write_snapshot(storage, &state, SnapshotPoint { generation, id }, pause).map(Some)
}

fn file_bytes<S: Storage>(storage: &S, name: &str) -> u64 {
    storage.open(name).and_then(|file| file.size()).unwrap_or(0)
}

/// Removes all but the newest snapshots, and the oldest segments that are neither needed nor retained.
fn remove_superfluous<S: Storage>(
    storage: &mut S,
    retain_bytes: u64,
) -> Result<Vec<String>, Error> {
    let names = storage.list().map_err(Error::io("list", "the directory of the journal"))?;
    let mut snapshots: Vec<SnapshotName> =
        names.iter().filter_map(|name| SnapshotName::parse(name)).collect();
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    let mut removed = Vec::new();
    for name in snapshots.iter().skip(KEPT_SNAPSHOTS).map(SnapshotName::to_string) {
        storage.remove(&name).map_err(Error::io("remove", &name))?;
        removed.push(name);
    }
    let [newest, older, ..] = snapshots[..] else { return Ok(removed) };
    let mut segments: Vec<SegmentName> =
        names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.retain(|name| name.generation <= newest.generation);
    segments.sort_unstable();
    let sizes: Vec<u64> =
        segments.iter().map(|name| file_bytes(storage, &name.to_string())).collect();
    let mut total: u64 = sizes.iter().sum();
    let mut has_spare = names.iter().any(|name| name == SPARE);
    for (name, bytes) in segments.iter().zip(sizes) {
        if total <= retain_bytes || name.generation > older.generation {
            break;
        }
        let name = name.to_string();
        let freed = match std::mem::replace(&mut has_spare, true) {
            true => storage.remove(&name),
            false => storage.rename(&name, SPARE),
        };
        freed.map_err(Error::io("remove", &name))?;
        total -= bytes;
        removed.push(name);
    }
    // A spare file must not reappear under its old name with new content.
    storage.sync().map_err(Error::io("sync", "the directory of the journal"))?;
    Ok(removed)
}
