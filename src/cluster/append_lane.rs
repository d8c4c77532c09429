//! The connection that appends: it repairs the stream after a loss, then appends own batches.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::Backoff;
use super::engine::{Appended, EngineError, Position, StreamInfo};
use super::entry::Entry;
use super::replica::{GRACE, Next, RECHECK, Replica, Request, Response, Trouble};
use crate::journal::StreamPart;

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
    /// The entries after the end of the stream are to be read from the journal, because they are not kept in
    /// memory. If the entry there is older than what this server remembers, it is to be compared, too.
    Recalling {
        end: Option<Position>,
        /// The fingerprint of the entry at the end, if it is to be compared.
        found: Option<u64>,
    },
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

    /// Notes that nothing is left to be appended. Without it, that an append was refused tells nothing of the
    /// engine.
    pub(super) fn on_idle(&mut self) {
        if matches!(self.trouble, Some(Trouble::Unreachable(_))) {
            self.doubt();
        }
    }

    /// Looks at the stream again before anything else is appended.
    pub(super) fn doubt(&mut self) {
        match self.phase {
            Phase::Probing(_) | Phase::Holding | Phase::Settling(_) | Phase::Ready => {
                self.phase = Phase::Unknown;
            }
            Phase::Unknown | Phase::Cut(_) | Phase::Lost(_) | Phase::Recalling { .. } => {}
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
            Phase::Recalling { end, .. } => Next::Recall(end),
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
        let kept = self.retained.iter().find(|entry| is_missing(entry.next));
        // Where it begins does not tell: entries before it that are not kept may have covered its first part.
        let after = kept.and_then(|entry| self.history.predecessor(entry.next));
        let after = after.map(|known| known.link.position);
        match (kept, end) {
            (Some(entry), None) if entry.is_genesis() => {
                return Next::Call(Request::Create(entry.clone()));
            }
            (Some(entry), Some(end)) if after == Some(end) => {
                return Next::Call(Request::Append(entry.clone()));
            }
            _ => {}
        }
        let kept = kept.map_or(self.position().0, |entry| after.map_or(entry.first, |at| at.0));
        if let Some(next) = self.next_recalled(end) {
            return next;
        }
        if self.has_journal() {
            self.append.phase = Phase::Recalling { end, found: None };
            return Next::Recall(end);
        }
        let trouble = self.lost_since(end, kept);
        self.append.retry(now + RECHECK, Some(trouble));
        Next::WaitUntil(self.append.retry_at)
    }

    /// Returns the call that appends the next entry again that was read from the journal.
    fn next_recalled(&mut self, end: Option<Position>) -> Option<Next> {
        let is_before = |after: Position| end.is_some_and(|end| after < end);
        while self.recalled.front().is_some_and(|&(after, _)| is_before(after)) {
            self.recalled.pop_front();
        }
        let (after, entry) = self.recalled.front()?;
        Some(Next::Call(match end {
            None if entry.is_genesis() => Request::Create(entry.clone()),
            Some(end) if *after == end && !entry.is_genesis() => Request::Append(entry.clone()),
            _ => return None,
        }))
    }

    /// Takes what was read from the journal for [`Next::Recall`].
    pub fn on_recalled(&mut self, recalled: Result<StreamPart, String>, now: Duration) {
        let Phase::Recalling { end, found } = self.append.phase else { return };
        let part = match recalled {
            Ok(part) => part,
            Err(reason) => {
                self.append.retry(now + RECHECK, Some(Trouble::Journal(reason)));
                return;
            }
        };
        if let (Some(found), Some(known), Some(end)) = (found, part.after, end)
            && found != known
        {
            let trouble = self.replaced(end, end);
            self.append.retry(now + RECHECK, Some(trouble));
            return;
        }
        self.recalled = part
            .entries
            .into_iter()
            .map_while(|(after, next, bytes)| {
                let entry = Entry::decode(Position(next), bytes).ok()?;
                Some((Position(after), entry))
            })
            .collect();
        match self.next_recalled(end) {
            Some(_) => self.append.phase = Phase::Lost(end),
            None => {
                let trouble = self.lost_since(end, self.first_kept());
                self.append.retry(now + RECHECK, Some(trouble));
            }
        }
    }

    /// Returns the first sequence of the entries in memory.
    fn first_kept(&self) -> u64 {
        self.retained.oldest().map_or(self.position().0, |entry| entry.first)
    }

    /// Returns the trouble of a stream whose lost entries this server has not kept, except those from the
    /// sequence `kept` on.
    fn lost_since(&self, end: Option<Position>, kept: u64) -> Trouble {
        let awaited = self.position().0;
        end.map_or(Trouble::Missing { awaited }, |end| Trouble::Lost { first: end.0, kept })
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
                self.append.retry(at, Some(Trouble::Unreachable(error.reason)));
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
        let found =
            found.map(|found| Entry::decode(end, found).map(|entry| entry.fingerprint).ok());
        let known = self.history.find(end).map(|known| known.fingerprint);
        match (found, known) {
            (Some(found), Some(known)) if found == Some(known) => {
                self.append.phase = Phase::Lost(Some(end));
            }
            (Some(_), Some(_)) => {
                let trouble = self.replaced(end, end);
                self.append.retry(now + RECHECK, Some(trouble));
            }
            // It is older than what this server remembers.
            (Some(found), None) if self.has_journal() && !self.history.is_recent(end) => {
                let found = Some(found.unwrap_or_default());
                self.append.phase = Phase::Recalling { end: Some(end), found };
            }
            // The entry was trimmed, or is older than what this server remembers.
            _ => {
                let trouble = match self.history.is_recent(end) {
                    true => self.replaced(end, end),
                    false => self.lost_since(Some(end), self.first_kept()),
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
                    false => {
                        self.recalled = VecDeque::new();
                        Phase::Unknown
                    }
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
