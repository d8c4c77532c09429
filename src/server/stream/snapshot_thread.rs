//! The thread that publishes snapshots and trims the stream.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::random;
use super::redis_engine::RedisEngine;
use super::threads::Shared;
use crate::cluster::{Position, Published, RestoreError, SnapshotPointer, StreamEngine, publish};

/// The time between two looks at the size of the stream.
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts the thread. It publishes a snapshot when the entries after the last one take half of `max_bytes`.
pub(super) fn start(
    shared: &Arc<Shared>,
    engine: RedisEngine,
    first_sequence: u64,
    max_bytes: u64,
    published: Option<SnapshotPointer>,
) -> io::Result<()> {
    let mut thread = SnapshotThread {
        shared: Arc::clone(shared),
        engine,
        first_sequence,
        max_bytes,
        published: published.map_or(Position(first_sequence), |snapshot| snapshot.position),
    };
    thread::Builder::new().name("stream snapshots".to_owned()).spawn(move || thread.run())?;
    Ok(())
}

struct SnapshotThread {
    shared: Arc<Shared>,
    engine: RedisEngine,
    first_sequence: u64,
    max_bytes: u64,
    /// The position of the newest snapshot that is known.
    published: Position,
}

impl SnapshotThread {
    fn run(&mut self) {
        while !self.shared.is_stopped() {
            thread::sleep(INTERVAL);
            if self.is_due()
                && let Err(error) = self.publish()
            {
                log::error!("stream: no snapshot: {error}");
            }
        }
    }

    fn is_due(&self) -> bool {
        let replica = self.shared.replica();
        replica.trouble().is_none() && replica.bytes_after(self.published) >= self.max_bytes / 2
    }

    fn publish(&mut self) -> Result<(), RestoreError> {
        // Another server may have published one in the meantime.
        if let Some(newest) = self.engine.newest_snapshot()? {
            self.published = newest.position;
            if !self.is_due() {
                return Ok(());
            }
        }
        if let Some(published) = publish(&mut self.engine, self.first_sequence, random())? {
            let Published { position, bytes, trimmed_before } = published;
            self.published = position;
            log::info!("stream: published a snapshot at sequence {position}, {bytes} bytes");
            if let Some(before) = trimmed_before {
                log::info!("stream: removed the entries before sequence {before}");
            }
        }
        Ok(())
    }
}
