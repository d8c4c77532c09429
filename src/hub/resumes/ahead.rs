//! Clients that claim to have sequences which are not applied yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;

/// A client and the number of its session.
type SessionKey = (ClientKey, u64);

/// Clients that wait until their sequence is awaited, or for a timeout.
#[derive(Debug)]
pub(super) struct AheadClients {
    /// The clients by the first sequence that they lack.
    by_sequence: BTreeSet<(u64, SessionKey)>,
    /// An entry is stale if the client does not wait for this sequence any more.
    timeouts: TimeoutQueue<Waiting>,
}

/// A client whose timeout runs.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    sequence: u64,
    session: SessionKey,
    /// Whether the timeout has expired once.
    is_extended: bool,
}

impl AheadClients {
    pub(super) fn new(timeout: Duration) -> AheadClients {
        AheadClients { by_sequence: BTreeSet::new(), timeouts: TimeoutQueue::new(timeout) }
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeouts.set_timeout(timeout);
    }

    pub(super) fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// Adds a client whose first missing sequence is `sequence`.
    pub(super) fn insert(&mut self, sequence: u64, session: SessionKey, now: Instant) {
        self.by_sequence.insert((sequence, session));
        self.timeouts.push(now, Waiting { sequence, session, is_extended: false });
    }

    pub(super) fn remove(&mut self, sequence: u64, session: SessionKey) {
        self.by_sequence.remove(&(sequence, session));
    }

    /// Returns whether the awaited sequence has reached that of a client.
    pub(super) fn is_any_reached(&self, awaited: u64) -> bool {
        self.by_sequence.first().is_some_and(|&(sequence, _)| sequence <= awaited)
    }

    /// Removes and returns the clients whose sequence the awaited one has reached.
    pub(super) fn take_reached(&mut self, awaited: u64) -> Vec<SessionKey> {
        let mut reached = Vec::new();
        while self.is_any_reached(awaited)
            && let Some((_, session)) = self.by_sequence.pop_first()
        {
            reached.push(session);
        }
        reached
    }

    /// Removes and returns the clients whose timeout has expired. Unless `is_final`, the timeout has to expire
    /// twice.
    pub(super) fn take_expired(&mut self, now: Instant, is_final: bool) -> Vec<SessionKey> {
        let AheadClients { by_sequence, timeouts } = self;
        let is_stale = |entry: &Waiting| !by_sequence.contains(&(entry.sequence, entry.session));
        let expired = timeouts.take_expired(now, is_stale);
        let mut sessions = Vec::new();
        for entry in expired {
            if is_final || entry.is_extended {
                by_sequence.remove(&(entry.sequence, entry.session));
                sessions.push(entry.session);
            } else {
                timeouts.push(now, Waiting { is_extended: true, ..entry });
            }
        }
        sessions
    }

    /// Returns when the next timeout may expire, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timeouts.next_deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_waits_for_its_sequence_or_the_timeout() {
        let start = Instant::now();
        let mut ahead = AheadClients::new(SECOND);
        let [a, b, c] = [1, 2, 3].map(|number| (ClientKey(7), number));
        for (sequence, session) in [(10, a), (12, b), (20, c)] {
            ahead.insert(sequence, session, start);
        }
        assert!(!ahead.is_any_reached(9) && ahead.take_reached(9).is_empty());
        assert_eq!(ahead.take_reached(12), [a, b]);
        assert_eq!((ahead.len(), ahead.next_deadline()), (1, Some(start + SECOND)));
        assert!(ahead.take_expired(start + SECOND, false).is_empty(), "it may be on its way");
        assert_eq!(ahead.next_deadline(), Some(start + 2 * SECOND));
        assert_eq!(ahead.take_expired(start + 2 * SECOND, false), [c]);
        assert_eq!((ahead.len(), ahead.next_deadline()), (0, None));
    }

    #[test]
    fn a_client_that_has_left_does_not_expire() {
        let start = Instant::now();
        let mut ahead = AheadClients::new(SECOND);
        let [a, b] = [1, 2].map(|number| (ClientKey(7), number));
        ahead.insert(10, a, start);
        ahead.remove(10, a);
        ahead.insert(10, b, start + SECOND);
        assert!(ahead.take_expired(start + SECOND, true).is_empty());
        assert_eq!(ahead.take_expired(start + 2 * SECOND, true), [b]);
    }
}
