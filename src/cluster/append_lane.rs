//! The connection that appends: it repairs the stream after a loss, then appends own batches.

use std::time::Duration;

use super::backoff::Backoff;
use super::engine::{Appended, EngineError, Position, StreamInfo};
use super::entry::Entry;
use super::replica::{GRACE, Next, RECHECK, Replica, Request, Response, Trouble};

/// What the connection knows of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing, because it is new.
    #[default]
    Unknown,
    /// The stream ends before what this server has read. It may end with other entries.
    Cut(Position),
    /// The stream ends with this entry, which this server has read, or does not exist. What follows is to be
    /// appended again.
    Lost(Option<Position>),
    /// The stream reaches as far as this server has read, but may lack what others have. The time that they
    /// need counts from the first write that the engine accepts.
    Probing(u64),
    /// The others have that time.
    Holding,
    /// The others have had it.
    Settling(u64),
    /// The stream reaches as far as this server has read.
    Ready,
}

/// The state of the connection.
#[derive(Debug, Default)]
pub struct AppendLane {
    phase: Phase,
    /// The number of own batches that the engine has accepted or refused as covered.
    sent: usize,
    /// What this server had read when it asked for the end of the stream.
    asked_at: Position,
    epoch: Option<u64>,
    /// Whether the stream was found to lack entries.
    is_repairing: bool,
    /// Whether the others need time before something new is appended.
    must_hold: bool,
    /// Until when nothing new is appended.
    hold_until: Duration,
    backoff: Backoff,
    retry_at: Duration,
    trouble: Option<Trouble>,
}

impl AppendLane {
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Notes that the oldest own batch was removed.
    pub(super) fn on_removed(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }

    /// Looks at the stream again before anything else is appended.
    pub(super) fn doubt(&mut self) {
        match self.phase {
            Phase::Probing(_) | Phase::Holding | Phase::Settling(_) | Phase::Ready => {
                self.phase = Phase::Unknown;
            }
            Phase::Unknown | Phase::Cut(_) | Phase::Lost(_) => {}
        }
    }

    fn on_success(&mut self) {
        self.backoff = Backoff::default();
        self.trouble = None;
    }

    fn retry(&mut self, at: Duration, trouble: Option<Trouble>) {
        self.phase = Phase::Unknown;
        self.sent = 0;
        self.retry_at = at;
        self.trouble = trouble;
    }
}

impl Replica {
    /// Returns what the appending connection does next.
    pub fn next_append(&mut self, now: Duration) -> Next {
        if now < self.append.retry_at {
            return Next::WaitUntil(self.append.retry_at);
        }
        match self.append.phase {
            Phase::Unknown => self.ask_for_end(),
            Phase::Cut(end) => Next::Call(Request::EntryAt(end)),
            Phase::Lost(end) => self.next_repair(end, now),
            Phase::Holding if now < self.append.hold_until => {
                Next::WaitUntil(self.append.hold_until)
            }
            // Others may have repaired the stream in the meantime.
            Phase::Holding => self.ask_for_end(),
            Phase::Probing(epoch) => Next::Call(Request::Settle(epoch, false)),
            Phase::Settling(epoch) => Next::Call(Request::Settle(epoch, true)),
            // The other connection has to see first that the stream contains what this server has read.
            Phase::Ready if !self.tail.has_verified(self.append.epoch) => {
                Next::WaitUntil(now + RECHECK)
            }
            Phase::Ready => {
                let next = self.encoded(self.append.sent);
                next.map_or(Next::Wait, |entry| Next::Call(Request::Append(entry)))
            }
        }
    }

    fn ask_for_end(&mut self) -> Next {
        self.append.asked_at = self.position();
        Next::Call(Request::Info)
    }

    /// Returns the call that appends the next entry again that the stream has lost.
    fn next_repair(&mut self, end: Option<Position>, now: Duration) -> Next {
        let is_missing = |next: Position| end.is_none_or(|end| next > end);
        let entry = self.retained.iter().find(|entry| is_missing(entry.next));
        // Where it begins does not tell: entries before it that are not kept may have covered its first part.
        let applied_after = |entry: &Entry| self.history.predecessor(entry.next);
        match (entry, end) {
            (Some(entry), None) if entry.first == entry.next.0 => {
                Next::Call(Request::Create(entry.clone()))
            }
            (Some(entry), Some(end))
                if applied_after(entry).is_some_and(|known| known.link.position == end) =>
            {
                Next::Call(Request::Append(entry.clone()))
            }
            (entry, end) => {
                let awaited = self.position().0;
                let kept = entry.map_or(awaited, |entry| {
                    applied_after(entry).map_or(entry.first, |known| known.link.position.0)
                });
                let trouble = match end {
                    None => Trouble::Missing { awaited },
                    Some(Position(first)) => Trouble::Lost { first, kept },
                };
                self.append.retry(now + RECHECK, Some(trouble));
                Next::WaitUntil(self.append.retry_at)
            }
        }
    }

    /// Takes the answer to a call of the appending connection.
    pub fn on_appended(
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
                // The others may have been without a connection for as long as this one.
                self.append.must_hold = true;
                let at = now + self.append.backoff.next_delay(random);
                self.append.retry(at, Some(Trouble::Unreachable(error.0)));
                return;
            }
        };
        match (request, response) {
            (Request::Info, Response::Info(None)) => {
                self.append.is_repairing = true;
                self.append.phase = Phase::Lost(None);
            }
            (Request::Info, Response::Info(Some(info))) => self.on_append_info(info, now),
            (&Request::EntryAt(position), Response::EntryAt(found)) => {
                self.on_end_found(position, found, now);
            }
            (&Request::Settle(epoch, true), Response::Settled)
                if self.append.phase == Phase::Settling(epoch) =>
            {
                self.append.phase = Phase::Ready;
            }
            (&Request::Settle(epoch, false), Response::Settled)
                if self.append.phase == Phase::Probing(epoch) =>
            {
                self.append.must_hold = false;
                self.append.hold_until = now + GRACE;
                self.append.phase = Phase::Holding;
            }
            (Request::Append(entry) | Request::Create(entry), Response::Appended(appended)) => {
                self.on_append_result(entry.next, appended);
            }
            _ => {}
        }
    }

    fn on_append_info(&mut self, info: StreamInfo, now: Duration) {
        self.end = self.end.max(info.end);
        let is_new_epoch = self.append.epoch.replace(info.epoch) != Some(info.epoch);
        self.append.must_hold = (self.append.must_hold || is_new_epoch) && !info.is_settled;
        if info.end < self.append.asked_at {
            self.append.is_repairing = true;
            self.append.phase = Phase::Cut(info.end);
            return;
        }
        self.append.sent = 0;
        // An engine that is read-only or full answers, but what is to be appended is refused.
        if self.pending.is_empty() || !matches!(self.append.trouble, Some(Trouble::Unreachable(_)))
        {
            self.append.on_success();
        }
        // Others may have more of what was lost.
        let must_hold = self.append.must_hold || std::mem::take(&mut self.append.is_repairing);
        self.append.phase = match info.is_settled {
            _ if must_hold => Phase::Probing(info.epoch),
            _ if now < self.append.hold_until => Phase::Holding,
            true => Phase::Ready,
            false => Phase::Settling(info.epoch),
        };
    }

    /// Takes the last entry of a stream that ends before what this server has read.
    fn on_end_found(&mut self, end: Position, found: Option<Vec<u8>>, now: Duration) {
        match found.map(|found| self.matches(end, found)) {
            Some(Some(true)) => self.append.phase = Phase::Lost(Some(end)),
            Some(Some(false)) => {
                let trouble = self.replaced(end, end);
                self.append.retry(now + RECHECK, Some(trouble));
            }
            // The entry was trimmed, or is older than what this server remembers.
            None | Some(None) => {
                let kept = self.retained.front().map_or(self.position().0, |entry| entry.first);
                let trouble = match self.history.is_recent(end) {
                    true => self.replaced(end, end),
                    false => Trouble::Lost { first: end.0, kept },
                };
                self.append.retry(now + RECHECK, Some(trouble));
            }
        }
    }

    fn on_append_result(&mut self, next: Position, appended: Appended) {
        if appended != Appended::Missing {
            self.append.on_success();
        }
        match (self.append.phase, appended) {
            (_, Appended::Missing) => self.append.retry(Duration::ZERO, None),
            (Phase::Lost(_), Appended::Accepted) => {
                self.status.repaired_entries += 1;
                // What follows is appended again, then the stream is looked at once more.
                self.append.phase = match next < self.position() {
                    true => Phase::Lost(Some(next)),
                    false => Phase::Unknown,
                };
            }
            (Phase::Lost(_), Appended::Covered) => self.append.phase = Phase::Unknown,
            (Phase::Ready, Appended::Accepted) => {
                self.end = self.end.max(next);
                self.on_sent(next);
            }
            (Phase::Ready, Appended::Covered) => {
                self.status.covered_batches += 1;
                self.on_sent(next);
            }
            _ => {}
        }
    }

    /// Returns the last own batch that was accepted or covered and not read back.
    pub(super) fn last_sent(&self) -> Option<Position> {
        let last = self.append.sent.checked_sub(1)?;
        self.pending.get(last).map(|pending| Position(pending.next))
    }

    /// Notes that an own batch needs not be appended again, unless the connection is lost.
    fn on_sent(&mut self, next: Position) {
        // It may have been read back in the meantime, and be removed.
        let sent = self.pending.iter().take_while(|pending| pending.next <= next.0).count();
        self.append.sent = sent;
    }
}
