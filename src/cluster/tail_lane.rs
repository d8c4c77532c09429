//! The connection that reads: it follows the end of the stream.

use std::time::Duration;

use super::backoff::Backoff;
use super::engine::{EngineError, Position, StreamInfo};
use super::replica::{Next, RECHECK, Refusal, Replica, Request, Response, Trouble};

/// What the connection knows of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing, because it is new.
    #[default]
    Unknown,
    /// The stream reaches at least as far as this server has read.
    Reaches(StreamInfo),
    /// The entries that this server has kept are compared with the stream, in order, because the engine may
    /// have lost some and others may have replaced them.
    Auditing {
        /// The last entry that was compared.
        after: Position,
        epoch: u64,
        /// The entry of another server that made it necessary.
        excuses: Option<Position>,
    },
    /// It contains what this server has read.
    Reading,
    /// Nothing new came for a while.
    Checking,
}

/// The state of the connection.
#[derive(Debug, Default)]
pub struct TailLane {
    phase: Phase,
    /// The epoch of the engine in which the stream contained what this server had read.
    epoch: Option<u64>,
    /// The entry that was not found in the stream, which may just have been trimmed.
    missed: Option<Position>,
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

    /// Creates the state for a server that has read the stream in this epoch of the engine.
    pub(super) fn new(epoch: u64) -> TailLane {
        TailLane { epoch: Some(epoch), ..TailLane::default() }
    }

    /// Returns whether the stream was found to contain what was read, in this epoch of the engine.
    pub(super) fn has_verified(&self, epoch: Option<u64>) -> bool {
        let is_reading = matches!(self.phase, Phase::Reading | Phase::Checking);
        let is_stuck =
            self.trouble.as_ref().is_some_and(|it| !matches!(it, Trouble::Unreachable(_)));
        self.epoch == epoch && (is_reading || self.is_unreachable()) && !is_stuck
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
            Phase::Auditing { after, .. } => Next::Call(Request::Read(after)),
            // Woken when something is taken.
            Phase::Reading if self.is_full() => Next::Wait,
            Phase::Reading => Next::Call(Request::Read(self.position())),
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
            (Request::Read(_), Response::Entries(entries))
                if matches!(self.tail.phase, Phase::Auditing { .. }) =>
            {
                self.on_audit(entries, now);
            }
            (Request::Read(_), Response::Entries(entries)) => self.on_read(entries, now),
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
                self.tail.retry(now + RECHECK, None);
            }
        }
    }

    fn on_read(&mut self, entries: Vec<(Position, Vec<u8>)>, now: Duration) {
        self.tail.backoff = Backoff::default();
        if entries.is_empty() {
            self.tail.phase = Phase::Checking;
        }
        for (position, bytes) in entries {
            match self.accept(position, bytes, self.tail.excused) {
                Ok(()) => {}
                Err(Refusal::Trouble(trouble)) => {
                    self.tail.retry(now + RECHECK, Some(trouble));
                    return;
                }
                Err(Refusal::Contradiction) => {
                    let epoch = self.tail.epoch.unwrap_or_default();
                    self.audit(epoch, Some(position));
                    return;
                }
            }
        }
    }

    fn on_newest_found(&mut self, position: Position, found: Option<Vec<u8>>, now: Duration) {
        let Phase::Reaches(info) = self.tail.phase else { return };
        match self.verify(position, found, info) {
            Ok(()) if self.tail.epoch == Some(info.epoch) => self.start_reading(info.epoch),
            Ok(()) => self.audit(info.epoch, None),
            Err(Trouble::Diverged { .. })
                if self.tail.missed.replace(position) != Some(position) =>
            {
                self.tail.phase = Phase::Unknown;
            }
            Err(trouble) => self.tail.retry(now + RECHECK, Some(trouble)),
        }
    }

    fn start_reading(&mut self, epoch: u64) {
        self.tail.epoch = Some(epoch);
        self.tail.trouble = None;
        self.tail.missed = None;
        if self.append.epoch() != Some(epoch) {
            self.append.doubt();
        }
        self.tail.phase = Phase::Reading;
    }

    /// Compares the entries that this server has kept with the stream.
    fn audit(&mut self, epoch: u64, excuses: Option<Position>) {
        // The oldest one with what is before it: a server may have appended the same batch again after others.
        let after = self.retained.oldest().map_or(self.position(), |oldest| {
            let before = self.history.predecessor(oldest.next);
            before.map_or(oldest.next, |before| before.link.position)
        });
        match after < self.position() {
            true => self.tail.phase = Phase::Auditing { after, epoch, excuses },
            false => self.end_audit(epoch, excuses),
        }
    }

    fn end_audit(&mut self, epoch: u64, excuses: Option<Position>) {
        self.tail.excused = self.tail.excused.max(excuses);
        self.start_reading(epoch);
    }

    fn on_audit(&mut self, entries: Vec<(Position, Vec<u8>)>, now: Duration) {
        let Phase::Auditing { mut after, epoch, excuses } = self.tail.phase else { return };
        if entries.is_empty() {
            self.tail.retry(now + RECHECK, None);
            return;
        }
        for (position, bytes) in entries {
            let Some(expected) = self.history.successor(after).copied() else { break };
            if position > self.position() {
                // The newest entry is gone.
                self.tail.phase = Phase::Unknown;
                return;
            }
            // The entries between may have been trimmed. If others had replaced them, theirs would be there.
            if self.matches(position, bytes) != Some(true) {
                let trouble = self.replaced(expected.link.position, position);
                self.tail.retry(now + RECHECK, Some(trouble));
                return;
            }
            after = position;
        }
        match after < self.position() {
            true => self.tail.phase = Phase::Auditing { after, epoch, excuses },
            false => self.end_audit(epoch, excuses),
        }
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
            reason: format!(
                "the engine has lost the entry at {position}, which this server has applied, and others \
                 have appended something else"
            ),
        }
    }
}
