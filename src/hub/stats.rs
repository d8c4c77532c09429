//! Counters and totals.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::engine::Counters;
use crate::hub::close_reason::CloseReason;

/// The number of closed connections by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloseCounts([u64; CloseReason::COUNT]);

impl CloseCounts {
    pub(crate) fn count(&mut self, reason: CloseReason) {
        self.0[reason as usize] += 1;
    }

    /// Returns the counts of all reasons.
    fn by_name(self) -> BTreeMap<&'static str, u64> {
        CloseReason::ALL.into_iter().map(CloseReason::name).zip(self.0).collect()
    }

    /// Formats the sum, and the count of each reason that occurred.
    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {name}={}", self.0.iter().sum::<u64>())?;
        let mut counts = CloseReason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0);
        counts.try_for_each(|(reason, count)| write!(f, " {name}.{reason}={count}"))
    }
}

/// Pauses for slow clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PauseClock {
    pub(crate) count: u64,
    /// The time of the pauses that are over.
    past: Duration,
    /// The start of the current pause.
    since: Option<Instant>,
}

impl PauseClock {
    /// Records the start or the end of a pause.
    pub(crate) fn set_paused(&mut self, is_paused: bool, now: Instant) {
        match self.since {
            None if is_paused => {
                self.count += 1;
                self.since = Some(now);
            }
            Some(since) if !is_paused => {
                self.past += now.duration_since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// Returns the time of the current pause.
    pub(crate) fn current(&self, now: Instant) -> Option<Duration> {
        Some(now.duration_since(self.since?))
    }

    /// Returns the time of all pauses.
    pub(crate) fn total(&self, now: Instant) -> Duration {
        self.past + self.current(now).unwrap_or_default()
    }
}

/// Counters of the hub, in addition to those of the engine and of the outbound queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HubCounters {
    /// Malformed lines.
    pub(crate) malformed: u64,
    /// Unterminated last lines of sources.
    pub(crate) unterminated: u64,
    /// Connections to the event port, including rejected ones.
    pub(crate) sources_accepted: u64,
    /// Connections to the client port, including rejected ones.
    pub(crate) clients_accepted: u64,
    /// Bytes read from sources.
    pub(crate) bytes_read: u64,
    pub(crate) pauses: PauseClock,
    /// Clients that have sent a sequence to resume after.
    pub(crate) resumes: u64,
    /// Those that got everything they had missed.
    pub(crate) resumes_completed: u64,
    /// Gaps that clients were told when they resumed.
    pub(crate) resume_gaps: u64,
    /// Lines sent to clients before live events continued them, gaps included.
    pub(crate) lines_replayed: u64,
    /// Accept errors that started a back-off.
    pub(crate) accept_errors: u64,
    /// Clients closed, including rejected ones, by reason.
    pub(crate) clients_closed: CloseCounts,
    /// Sources closed, including rejected ones, by reason.
    pub(crate) sources_closed: CloseCounts,
}

/// What operators see, besides the totals.
#[derive(Debug)]
pub(crate) struct Details {
    /// The settings in force.
    pub(crate) settings: Map<String, Value>,
    pub(crate) first_sequence: u64,
    pub(crate) max_clients: usize,
    pub(crate) max_sources: usize,
    /// Clients whose queue is full.
    pub(crate) full_queues: usize,
    pub(crate) follows: usize,
    /// The first missing sequence, and for how long it has been missing.
    pub(crate) gap: Option<(u64, Duration)>,
    /// The time of all pauses.
    pub(crate) paused: Duration,
    pub(crate) current_pause: Option<Duration>,
    /// Clients that have sent a sequence and do not get live events yet.
    pub(crate) resuming: usize,
    /// Events kept for clients that resume, and their memory in bytes.
    pub(crate) kept_events: u64,
    pub(crate) kept_bytes: u64,
}

/// A snapshot of all counters since the start, which displays as one line of totals.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    pub(crate) engine: Counters,
    pub(crate) counters: HubCounters,
    pub(crate) lines_queued: u64,
    pub(crate) bytes_written: u64,
    pub(crate) clients_connected: usize,
    pub(crate) sources_connected: usize,
    pub(crate) queued_bytes: u64,
    pub(crate) awaited: u64,
    pub(crate) buffered_events: usize,
    pub(crate) max_buffered_events: usize,
    pub(crate) users: usize,
}

impl Stats {
    /// Returns the counters of the engine.
    #[must_use]
    pub fn engine(&self) -> &Counters {
        &self.engine
    }

    /// Returns the number of malformed lines.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.counters.malformed
    }

    /// Returns the number of unterminated last lines of sources.
    #[must_use]
    pub fn unterminated(&self) -> u64 {
        self.counters.unterminated
    }

    /// Returns the awaited sequence.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.awaited
    }

    /// Returns the number of buffered sequences, including void ones.
    #[must_use]
    pub fn buffered_events(&self) -> usize {
        self.buffered_events
    }

    /// Returns the number of lines queued for clients.
    #[must_use]
    pub fn lines_queued(&self) -> u64 {
        self.lines_queued
    }

    /// Returns the number of bytes written to client sockets.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Returns the number of connected clients, registered or not.
    #[must_use]
    pub fn clients_connected(&self) -> usize {
        self.clients_connected
    }

    /// Returns the number of sources connected, without those over the limit.
    #[must_use]
    pub fn sources_connected(&self) -> usize {
        self.sources_connected
    }

    /// Returns the number of clients that have sent a sequence, and of those that got all that they had missed.
    #[must_use]
    pub fn resumes(&self) -> (u64, u64) {
        (self.counters.resumes, self.counters.resumes_completed)
    }

    /// Returns the number of gaps that clients were told when they resumed.
    #[must_use]
    pub fn resume_gaps(&self) -> u64 {
        self.counters.resume_gaps
    }

    /// Returns the number of clients closed for each reason.
    pub(crate) fn closed_clients(&self) -> BTreeMap<&'static str, u64> {
        self.counters.clients_closed.by_name()
    }

    /// Returns the number of sources closed for each reason.
    pub(crate) fn closed_sources(&self) -> BTreeMap<&'static str, u64> {
        self.counters.sources_closed.by_name()
    }

    /// Returns the number of clients closed for `reason`.
    #[must_use]
    pub fn clients_closed(&self, reason: CloseReason) -> u64 {
        self.counters.clients_closed.0[reason as usize]
    }

    /// Returns the number of sources closed for `reason`.
    #[must_use]
    pub fn sources_closed(&self, reason: CloseReason) -> u64 {
        self.counters.sources_closed.0[reason as usize]
    }
}

/// Formats the counters as pairs `name=value`, separated by spaces. Close reasons that have not
/// occurred are left out.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { engine, counters, .. } = self;
        write!(
            f,
            "totals: events={} follows={} unfollows={} broadcasts={} private_messages={} \
             status_updates={}",
            engine.applied(),
            engine.follows,
            engine.unfollows,
            engine.broadcasts,
            engine.private_messages,
            engine.status_updates,
        )?;
        write!(
            f,
            " malformed={} void={} duplicate={} late={} lost={} unterminated={}",
            counters.malformed,
            engine.void,
            engine.duplicate,
            engine.late,
            engine.lost,
            counters.unterminated,
        )?;
        write!(
            f,
            " awaited={} buffered_events={} max_buffered_events={} users={}",
            self.awaited, self.buffered_events, self.max_buffered_events, self.users,
        )?;
        write!(
            f,
            " lines_queued={} bytes_written={} queued_bytes={}",
            self.lines_queued, self.bytes_written, self.queued_bytes,
        )?;
        write!(
            f,
            " clients_connected={} clients_accepted={}",
            self.clients_connected, counters.clients_accepted,
        )?;
        counters.clients_closed.write("clients_closed", f)?;
        write!(
            f,
            " sources_connected={} sources_accepted={}",
            self.sources_connected, counters.sources_accepted,
        )?;
        counters.sources_closed.write("sources_closed", f)?;
        write!(
            f,
            " resumes={} resumes_completed={} resume_gaps={} lines_replayed={} accept_errors={}",
            counters.resumes,
            counters.resumes_completed,
            counters.resume_gaps,
            counters.lines_replayed,
            counters.accept_errors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_pauses_includes_the_current_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pauses = PauseClock::default();
        for (seconds, is_paused) in [(1, false), (2, true), (4, true), (5, false), (7, true)] {
            pauses.set_paused(is_paused, at(seconds));
        }
        assert_eq!((pauses.count, pauses.current(at(9))), (2, Some(Duration::from_secs(2))));
        assert_eq!(pauses.total(at(9)), Duration::from_secs(5));
        pauses.set_paused(false, at(10));
        assert_eq!((pauses.current(at(20)), pauses.total(at(20))), (None, Duration::from_secs(6)));
    }
}
