//! The connection that reads: it follows the end of the stream.

use std::time::Duration;

use super::audit::{Audit, Verdict};
use super::backoff::Backoff;
use super::engine::{EngineError, Found, Position, SnapshotPointer, StreamInfo};
use super::history::Link;
use super::replica::{Next, RECHECK, Refusal, Replica, Request, Response, Trouble};

/// What the connection knows of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing, because it is new.
    #[default]
    Unknown,
    /// The stream reaches at least as far as this server has read.
    Reaches(StreamInfo),
    /// It contains the newest entry that this server has read, in this epoch of the engine. Others may have
    /// replaced what is before, and the newest snapshot tells where to begin to compare.
    Anchoring(u64),
    /// What this server has read is compared with the stream.
    Auditing(Audit, Cause),
    /// It contains what this server has read.
    Reading,
    /// Nothing new came for a while.
    Checking,
}

/// Why a server compares what it has read with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The engine may have lost entries, and others may have replaced them.
    Epoch {
        epoch: u64,
        /// The position of the snapshot with which it is compared.
        snapshot: Option<Position>,
    },
    /// The entry at this position names a base that this server has not read.
    Contradiction(Position),
}

/// The state of the connection.
#[derive(Debug, Default)]
pub struct TailLane {
    phase: Phase,
    /// The epoch of the engine in which the stream contained what this server had read.
    epoch: Option<u64>,
    /// The last place up to which that was found in this epoch.
    proven: Link,
    /// Whether it is uncertain that the stream contains what this server has read.
    is_in_doubt: bool,
    /// The newest snapshot that a read has shown. The stream may be trimmed up to there.
    snapshot: Option<Position>,
    /// The entry that was not found in the stream, which may just have been trimmed.
    missed: Option<Position>,
    /// What this server had read, and the snapshot, when they did not fit together. The entries between may just
    /// have been trimmed.
    mismatch: Option<(Position, Option<Position>)>,
    /// The epoch in which the stream did not contain what this server has read, and what is wrong.
    refuted: Option<(u64, Trouble)>,
    /// The last entry that may name a base which contradicts what was read: its server has diverged.
    excused: Option<Position>,
    backoff: Backoff,
    retry_at: Duration,
    trouble: Option<Trouble>,
}

impl TailLane {
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Returns the epoch of the engine in which the stream contained what was read.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Creates the state for a server that has read the stream up to a link in this epoch of the engine.
    pub(super) fn new(epoch: u64, proven: Link) -> TailLane {
        TailLane { epoch: Some(epoch), proven, ..TailLane::default() }
    }

    /// Returns whether the stream was found to contain what was read, in this epoch of the engine.
    pub(super) fn has_verified(&self, epoch: Option<u64>) -> bool {
        let is_reading = matches!(self.phase, Phase::Reading | Phase::Checking);
        let is_stuck =
            self.trouble.as_ref().is_some_and(|it| !matches!(it, Trouble::Unreachable(_)));
        self.epoch == epoch && (is_reading || self.is_unreachable()) && !is_stuck
    }

    /// Returns whether it is uncertain that the stream contains what was read.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    fn is_unreachable(&self) -> bool {
        matches!(self.trouble, Some(Trouble::Unreachable(_)))
    }

    fn retry(&mut self, at: Duration, trouble: Option<Trouble>) {
        self.phase = Phase::Unknown;
        self.retry_at = at;
        self.trouble = trouble;
    }
}

impl Replica {
    /// Returns what the reading connection does next.
    pub fn next_tail(&mut self, now: Duration) -> Next {
        if now < self.tail.retry_at {
            return Next::WaitUntil(self.tail.retry_at);
        }
        match self.tail.phase {
            Phase::Unknown | Phase::Checking => Next::Call(Request::Info),
            Phase::Reaches(_) => Next::Call(Request::EntryAt(self.position())),
            Phase::Anchoring(_) => Next::Call(Request::NewestSnapshot),
            Phase::Auditing(audit, _) => Next::Call(Request::Read(audit.after())),
            // Woken when something is taken.
            Phase::Reading if self.is_full() => Next::Wait,
            Phase::Reading => Next::Call(Request::Read(self.read_after())),
        }
    }

    /// Returns the position to read after. Where the stream may be trimmed, that of the newest entry is read
    /// once more: as long as it is there, nothing after it was trimmed.
    fn read_after(&self) -> Option<Position> {
        let position = self.position();
        match self.tail.snapshot > Some(position) {
            true => position.before(),
            false => Some(position),
        }
    }

    /// Takes the answer to a call of the reading connection.
    pub fn on_tail(
        &mut self,
        request: &Request,
        response: Result<Response, EngineError>,
        now: Duration,
        random: u64,
    ) {
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                self.status.errors += 1;
                let at = now + self.tail.backoff.next_delay(random);
                self.tail.retry(at, Some(Trouble::Unreachable(error.reason)));
                return;
            }
        };
        match (request, response) {
            (Request::Info, Response::Info(info)) => self.on_tail_info(info, now),
            (&Request::EntryAt(position), Response::EntryAt(found)) => {
                self.on_newest_found(position, found, now);
            }
            (Request::NewestSnapshot, Response::Snapshot(pointer)) => {
                self.on_newest_snapshot(pointer, now);
            }
            (&Request::Read(after), Response::Found(found)) => match self.tail.phase {
                Phase::Auditing(mut audit, cause) => {
                    let verdict = audit.take(found.entries, &self.history);
                    self.on_verdict(audit, cause, verdict, now);
                }
                _ => self.on_read(after, found, now),
            },
            _ => {}
        }
    }

    fn on_tail_info(&mut self, info: Option<StreamInfo>, now: Duration) {
        let position = self.position();
        let is_new = self.tail.phase == Phase::Unknown;
        match info {
            Some(info) if info.end >= position => {
                self.end = self.end.max(info.end);
                // What was accepted may be lost.
                if self.last_sent().is_some_and(|sent| sent > info.end) {
                    self.append.doubt();
                }
                self.tail.phase = match !is_new && self.tail.epoch == Some(info.epoch) {
                    true => Phase::Reading,
                    false => Phase::Reaches(info),
                };
            }
            // The other connection appends again what is missing.
            _ => {
                self.append.doubt();
                self.tail.is_in_doubt = true;
                self.tail.retry(now + RECHECK, None);
            }
        }
    }

    fn on_read(&mut self, after: Option<Position>, found: Found, now: Duration) {
        self.tail.backoff = Backoff::default();
        let Found { entries, snapshot } = found;
        self.tail.snapshot = snapshot;
        let position = self.position();
        match after < Some(position) {
            // It may have been trimmed, with what came after it.
            true if entries.first().is_none_or(|&(oldest, _)| oldest != position) => {
                self.tail.phase = Phase::Unknown;
                return;
            }
            true => {}
            // What was read may lack entries that were trimmed, and then begin before what is awaited.
            false if snapshot > Some(position) => return,
            false if entries.is_empty() => self.tail.phase = Phase::Checking,
            false => {}
        }
        for (position, bytes) in entries {
            match self.accept(position, bytes, self.tail.excused) {
                Ok(()) => {}
                Err(Refusal::Trouble(trouble)) => {
                    self.tail.retry(now + RECHECK, Some(trouble));
                    return;
                }
                Err(Refusal::Contradiction) => {
                    let audit = Audit::between(&self.history, self.tail.proven);
                    self.begin_audit(audit, Cause::Contradiction(position), now);
                    return;
                }
            }
        }
    }

    fn on_newest_found(&mut self, position: Position, found: Option<Vec<u8>>, now: Duration) {
        let Phase::Reaches(info) = self.tail.phase else { return };
        match (self.verify(position, found, info), &self.tail.refuted) {
            (Ok(()), _) if self.tail.epoch == Some(info.epoch) => self.start_reading(info.epoch),
            // What an engine has lost does not come back before its epoch changes.
            (Ok(()), Some((epoch, trouble))) if *epoch == info.epoch => {
                let trouble = trouble.clone();
                self.tail.retry(now + RECHECK, Some(trouble));
            }
            (Ok(()), _) => {
                self.tail.is_in_doubt = true;
                self.tail.phase = Phase::Anchoring(info.epoch);
            }
            (Err(Trouble::Diverged { .. }), _)
                if self.tail.missed.replace(position) != Some(position) =>
            {
                self.tail.phase = Phase::Unknown;
            }
            (Err(trouble), _) => self.tail.retry(now + RECHECK, Some(trouble)),
        }
    }

    fn start_reading(&mut self, epoch: u64) {
        self.tail.epoch = Some(epoch);
        self.tail.trouble = None;
        self.tail.missed = None;
        self.tail.is_in_doubt = false;
        if self.append.epoch() != Some(epoch) {
            self.append.doubt();
        }
        self.tail.phase = Phase::Reading;
    }

    /// Compares what this server has read with the stream, from the newest snapshot on, or from the start.
    fn on_newest_snapshot(&mut self, pointer: Option<SnapshotPointer>, now: Duration) {
        let Phase::Anchoring(epoch) = self.tail.phase else { return };
        let certain = pointer.map(|it| Link { position: it.position, chain: it.chain });
        let snapshot = certain.map(|certain| certain.position);
        let audit = Audit::between(&self.history, certain.unwrap_or_default());
        self.begin_audit(audit, Cause::Epoch { epoch, snapshot }, now);
    }

    fn begin_audit(&mut self, mut audit: Audit, cause: Cause, now: Duration) {
        self.tail.is_in_doubt = true;
        let verdict = audit.judge(&self.history);
        self.on_verdict(audit, cause, verdict, now);
    }

    fn on_verdict(&mut self, audit: Audit, cause: Cause, verdict: Verdict, now: Duration) {
        match (verdict, cause) {
            (Verdict::Open, _) => self.tail.phase = Phase::Auditing(audit, cause),
            (Verdict::Right, Cause::Epoch { epoch, .. }) => {
                self.on_proven();
                self.start_reading(epoch);
            }
            // The other server is the one that has diverged.
            (Verdict::Right, Cause::Contradiction(position)) => {
                self.on_proven();
                self.tail.excused = self.tail.excused.max(Some(position));
                self.tail.phase = Phase::Reading;
            }
            // Entries between may have been trimmed, or the stream was replaced in the same epoch.
            (Verdict::Wrong { .. }, Cause::Contradiction(_)) => {
                self.tail.epoch = None;
                self.tail.phase = Phase::Unknown;
            }
            (Verdict::Wrong { agreed, at }, Cause::Epoch { epoch, snapshot }) => {
                let mismatch = Some((self.position(), snapshot));
                if std::mem::replace(&mut self.tail.mismatch, mismatch) != mismatch {
                    self.tail.phase = Phase::Unknown;
                    return;
                }
                let trouble = self.replaced_between(agreed, at);
                self.tail.refuted = Some((epoch, trouble.clone()));
                self.tail.retry(now + RECHECK, Some(trouble));
            }
        }
    }

    fn on_proven(&mut self) {
        self.tail.proven = self.history.newest().link;
        self.tail.mismatch = None;
        self.tail.refuted = None;
        self.tail.is_in_doubt = false;
    }

    /// Checks that the stream contains the newest entry that this server has read.
    fn verify(
        &self,
        position: Position,
        found: Option<Vec<u8>>,
        info: StreamInfo,
    ) -> Result<(), Trouble> {
        let Some(found) = found else {
            let next = info.oldest.unwrap_or(info.end).0;
            return match info {
                StreamInfo { oldest: Some(oldest), .. } if position < oldest => {
                    Err(Trouble::Trimmed { first: position.0, next })
                }
                // The stream was emptied by trimming, and nothing was appended since.
                StreamInfo { oldest: None, end, .. } if end == position => Ok(()),
                _ => Err(self.replaced(position, info.end)),
            };
        };
        match self.matches(position, found) {
            Some(true) => Ok(()),
            _ => Err(self.replaced(position, info.end)),
        }
    }

    pub(super) fn replaced(&self, position: Position, end: Position) -> Trouble {
        let first = self.retained.iter().find(|entry| entry.next == position);
        Trouble::Diverged {
            first: first.map_or(position.0, |entry| entry.first),
            next: end.0.max(position.0),
            reason: replaced(&format!("the entry at {position}")),
        }
    }

    /// Returns the trouble of a stream that contains something else than this server has read, somewhere between
    /// two positions.
    fn replaced_between(&self, agreed: Position, at: Position) -> Trouble {
        let next = at.min(self.position()).0;
        Trouble::Diverged { first: agreed.0, next, reason: replaced("entries there") }
    }
}

/// Returns what has happened to what an engine has lost.
fn replaced(lost: &str) -> String {
    format!(
        "the engine has lost {lost}, which this server has applied, and others have appended something else"
    )
}
