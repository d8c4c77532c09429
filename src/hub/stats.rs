//! Counters and totals.

use std::fmt;

use crate::engine::Counters;
use crate::hub::close_reason::CloseReason;

/// The number of closed connections by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloseCounts([u64; CloseReason::COUNT]);

impl CloseCounts {
    pub(crate) fn count(&mut self, reason: CloseReason) {
        self.0[reason as usize] += 1;
    }
}

/// Formats the reasons that occurred with their counts.
impl fmt::Display for CloseCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = CloseReason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0);
        let Some((reason, count)) = counts.next() else { return f.write_str("none") };
        write!(f, "{reason} {count}")?;
        counts.try_for_each(|(reason, count)| write!(f, ", {reason} {count}"))
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
    /// Accept errors that started a back-off.
    pub(crate) accept_errors: u64,
    /// Clients closed, including rejected ones, by reason.
    pub(crate) clients_closed: CloseCounts,
    /// Sources closed, including rejected ones, by reason.
    pub(crate) sources_closed: CloseCounts,
}

/// A snapshot of all counters since the start. It displays as one line.
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
    pub(crate) max_len: usize,
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
    pub fn waiting(&self) -> usize {
        self.buffered_events
    }

    /// Returns the number of lines queued for clients.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
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

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { engine, counters, .. } = self;
        write!(
            f,
            "totals: events {} (follow {}, unfollow {}, broadcast {}, private {}, status {})",
            engine.applied(),
            engine.follows,
            engine.unfollows,
            engine.broadcasts,
            engine.private_messages,
            engine.status_updates,
        )?;
        write!(
            f,
            "; malformed {}, void {}, duplicate {}, late {}, lost {}, unterminated {}",
            counters.malformed,
            engine.void,
            engine.duplicate,
            engine.late,
            engine.lost,
            counters.unterminated,
        )?;
        write!(
            f,
            "; deliveries {}, bytes {}, queued now {}",
            self.lines_queued, self.bytes_written, self.queued_bytes,
        )?;
        write!(
            f,
            "; clients now {}, ever {}, closed ({})",
            self.clients_connected, counters.clients_accepted, counters.clients_closed,
        )?;
        write!(
            f,
            "; sources now {}, ever {}, closed ({}); accept failures {}",
            self.sources_connected,
            counters.sources_accepted,
            counters.sources_closed,
            counters.accept_errors,
        )?;
        write!(
            f,
            "; awaited sequence {}, waiting {}, highest reorder occupancy {}; users known {}",
            self.awaited, self.buffered_events, self.max_len, self.users,
        )
    }
}
