//! An engine in memory, with a replica that lags behind.

use std::collections::BTreeMap;
use std::time::Duration;

use eventserver::cluster::{
    Appended, EngineError, Found, Position, SnapshotPointer, StreamEngine, StreamInfo,
};

/// What an engine keeps.
#[derive(Clone, Debug, Default)]
struct Content {
    /// `None` before the stream is created.
    end: Option<Position>,
    entries: BTreeMap<Position, Vec<u8>>,
    chunks: BTreeMap<(u64, u32), Vec<u8>>,
    snapshot: Option<SnapshotPointer>,
    settled: Option<u64>,
}

/// An engine that may lose what its replica lacks.
#[derive(Debug, Default)]
pub(crate) struct MemoryEngine {
    content: Content,
    replica: Content,
    /// The number of failovers and restarts. Connections from before are broken.
    pub(crate) epoch: u64,
    /// Whether no call succeeds.
    pub(crate) is_down: bool,
    /// Whether nothing may be written.
    pub(crate) is_read_only: bool,
    /// The number of calls until one fails.
    pub(crate) fail_in: Option<u64>,
    /// The maximum number of entries that a read returns.
    read_entries: usize,
}

impl MemoryEngine {
    /// Creates an engine whose reads return at most this many entries.
    pub(crate) fn new(read_entries: usize) -> MemoryEngine {
        MemoryEngine { read_entries, ..MemoryEngine::default() }
    }

    /// Brings the replica up to date.
    pub(crate) fn replicate(&mut self) {
        self.replica = self.content.clone();
    }

    /// Makes the replica the engine. What it lacks is lost.
    pub(crate) fn fail_over(&mut self) {
        self.content = self.replica.clone();
        self.epoch += 1;
    }

    /// Restarts the engine without a loss.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
    }

    /// Returns the end of the stream that a failover would leave.
    pub(crate) fn replicated_end(&self) -> Option<Position> {
        self.replica.end
    }

    /// Returns the end of the stream.
    pub(crate) fn end(&self) -> Option<Position> {
        self.content.end
    }

    fn call(&mut self) -> Result<(), EngineError> {
        if let Some(left) = &mut self.fail_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fail_in = None;
                return Err(EngineError::passing("failed"));
            }
        }
        match self.is_down {
            true => Err(EngineError::passing("down")),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.call()?;
        match self.is_read_only {
            true => Err(EngineError::passing("read-only")),
            false => Ok(()),
        }
    }
}

impl StreamEngine for MemoryEngine {
    fn info(&mut self) -> Result<Option<StreamInfo>, EngineError> {
        self.call()?;
        let oldest = self.content.entries.keys().next().copied();
        let (epoch, is_settled) = (self.epoch, self.content.settled == Some(self.epoch));
        Ok(self.content.end.map(|end| StreamInfo { end, oldest, epoch, is_settled }))
    }

    fn entry_at(&mut self, position: Position) -> Result<Option<Vec<u8>>, EngineError> {
        self.call()?;
        Ok(self.content.entries.get(&position).cloned())
    }

    fn append(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError> {
        self.write()?;
        match self.content.end {
            None => Ok(Appended::Missing),
            Some(end) if position <= end => Ok(Appended::Covered),
            Some(_) => {
                self.content.end = Some(position);
                self.content.entries.insert(position, entry.to_vec());
                Ok(Appended::Accepted)
            }
        }
    }

    fn create(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError> {
        self.write()?;
        if self.content.end.is_none() {
            self.content.end = Some(position);
            self.content.entries.insert(position, entry.to_vec());
            return Ok(Appended::Accepted);
        }
        self.append(position, entry)
    }

    fn read(&mut self, after: Option<Position>, _: Duration) -> Result<Found, EngineError> {
        self.call()?;
        let entries = self.content.entries.iter();
        let entries = entries.filter(|(at, _)| after.is_none_or(|after| **at > after));
        let entries = entries.take(self.read_entries).map(|(&at, it)| (at, it.clone())).collect();
        let snapshot = self.content.snapshot.map(|pointer| pointer.position);
        Ok(Found { entries, snapshot })
    }

    fn settle(&mut self, epoch: u64, is_complete: bool) -> Result<(), EngineError> {
        self.write()?;
        self.content.settled = is_complete.then_some(epoch);
        Ok(())
    }

    fn trim(&mut self, before: Position) -> Result<(), EngineError> {
        self.write()?;
        self.content.entries.retain(|&at, _| at >= before);
        Ok(())
    }

    fn lock_snapshots(&mut self, _: u64, _: Duration) -> Result<bool, EngineError> {
        self.write().map(|()| true)
    }

    fn unlock_snapshots(&mut self, _: u64) -> Result<(), EngineError> {
        self.write()
    }

    fn put_chunk(&mut self, id: u64, index: u32, bytes: &[u8]) -> Result<(), EngineError> {
        self.write()?;
        self.content.chunks.insert((id, index), bytes.to_vec());
        Ok(())
    }

    fn chunk(&mut self, id: u64, index: u32) -> Result<Option<Vec<u8>>, EngineError> {
        self.call()?;
        Ok(self.content.chunks.get(&(id, index)).cloned())
    }

    fn publish(&mut self, pointer: &SnapshotPointer) -> Result<(), EngineError> {
        self.write()?;
        self.content.snapshot = Some(*pointer);
        self.content.chunks.retain(|&(id, _), _| id == pointer.id);
        Ok(())
    }

    fn newest_snapshot(&mut self) -> Result<Option<SnapshotPointer>, EngineError> {
        self.call()?;
        Ok(self.content.snapshot)
    }
}
