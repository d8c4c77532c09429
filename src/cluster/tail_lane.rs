//! The connection that reads: it follows the end of the stream.

use std::time::Duration;

use super::backoff::Backoff;
use super::engine::{EngineError, Position, StreamInfo};
use super::replica::{Next, RECHECK, Replica, Request, Response, Trouble};

/// What the connection knows of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing, because it is new.
    #[default]
    Unknown,
    /// The stream reaches at least as far as this server has read.
    Reaches(StreamInfo),
    /// It contains what this server has read.
    Reading,
    /// Nothing new came for a while.
    Checking,
}

/// The state of the connection.
#[derive(Debug, Default)]
pub struct TailLane {
    phase: Phase,
    epoch: Option<u64>,
    backoff: Backoff,
    retry_at: Duration,
    trouble: Option<Trouble>,
}

impl TailLane {
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Returns whether the stream contradicts what was read, so that nothing may be appended.
    pub(super) fn is_stuck(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !matches!(trouble, Trouble::Unreachable(_)))
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
                self.tail.retry(at, Some(Trouble::Unreachable(error.0)));
                return;
            }
        };
        match (request, response) {
            (Request::Info, Response::Info(info)) => self.on_tail_info(info, now),
            (&Request::EntryAt(position), Response::EntryAt(found)) => {
                let Phase::Reaches(info) = self.tail.phase else { return };
                match self.verify(position, found, info) {
                    Some(Ok(())) => {
                        self.tail.backoff = Backoff::default();
                        self.tail.trouble = None;
                        self.tail.phase = Phase::Reading;
                    }
                    Some(Err(trouble)) => self.tail.retry(now + RECHECK, Some(trouble)),
                    None => self.tail.phase = Phase::Unknown,
                }
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
                let is_known = !is_new && self.tail.epoch == Some(info.epoch);
                self.tail.epoch = Some(info.epoch);
                self.tail.phase = match is_known {
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
        if entries.is_empty() {
            self.tail.phase = Phase::Checking;
        }
        for (position, bytes) in entries {
            if let Err(trouble) = self.accept(position, bytes) {
                self.tail.retry(now + RECHECK, Some(trouble));
                return;
            }
        }
    }

    /// Returns whether the stream contains the newest entry that this server has read, or why not. `None`
    /// if that cannot be told any more.
    pub(super) fn verify(
        &self,
        position: Position,
        found: Option<Vec<u8>>,
        info: StreamInfo,
    ) -> Option<Result<(), Trouble>> {
        let is_trimmed = info.oldest.is_some_and(|oldest| position < oldest);
        let Some(found) = found else {
            let next = info.oldest.unwrap_or(info.end).0;
            return Some(match info {
                _ if is_trimmed => Err(Trouble::Trimmed { first: position.0, next }),
                // The stream was emptied by trimming, and nothing was appended since.
                StreamInfo { oldest: None, end, .. } if end == position => Ok(()),
                _ => Err(self.replaced(position, info.end)),
            });
        };
        match self.matches(position, found)? {
            true => Some(Ok(())),
            false => Some(Err(self.replaced(position, info.end))),
        }
    }

    fn replaced(&self, position: Position, end: Position) -> Trouble {
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
