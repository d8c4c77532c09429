//! What happened so far, in one line.

use std::fmt;

use super::close_reason::CloseReason;
use crate::engine::Counters;

/// Counts that the engine and the deliveries do not keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Lines that are no event.
    pub(crate) malformed: u64,
    /// Last lines of sources that had no terminator.
    pub(crate) unterminated: u64,
    /// Connections to the event port, those turned away included.
    pub(crate) sources_ever: u64,
    /// Connections to the client port, those turned away included.
    pub(crate) clients_ever: u64,
    /// Times that accepting had to rest.
    pub(crate) accept_failures: u64,
    /// Connections closed, by reason.
    pub(crate) closed: [u64; CloseReason::COUNT],
}

/// Everything counted since the start, as one line of text.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    pub(crate) engine: Counters,
    pub(crate) tally: Tally,
    pub(crate) deliveries: u64,
    pub(crate) bytes_written: u64,
    pub(crate) clients_now: usize,
    pub(crate) sources_now: usize,
    pub(crate) queued_now: u64,
    pub(crate) awaited: u64,
    pub(crate) waiting_now: usize,
    pub(crate) highest_occupancy: usize,
    pub(crate) users: usize,
}

impl Totals {
    /// Events and sequences, as the engine counted them.
    #[must_use]
    pub fn engine(&self) -> &Counters {
        &self.engine
    }

    /// Lines that are no event.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.tally.malformed
    }

    /// Lines queued for clients.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Clients connected, registered or not.
    #[must_use]
    pub fn clients_now(&self) -> usize {
        self.clients_now
    }

    /// Connections closed for `reason`.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.tally.closed[reason as usize]
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { engine, tally, .. } = self;
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
            tally.malformed,
            engine.void,
            engine.duplicate,
            engine.late,
            engine.lost,
            tally.unterminated,
        )?;
        write!(
            f,
            "; deliveries {}, bytes {}, queued now {}",
            self.deliveries, self.bytes_written, self.queued_now,
        )?;
        write!(
            f,
            "; clients now {}, ever {}; sources now {}, ever {}; accept failures {}",
            self.clients_now,
            tally.clients_ever,
            self.sources_now,
            tally.sources_ever,
            tally.accept_failures,
        )?;
        f.write_str("; closed by reason:")?;
        for (reason, count) in CloseReason::ALL.into_iter().zip(tally.closed) {
            write!(f, " {reason} {count}")?;
        }
        write!(
            f,
            "; awaited sequence {}, waiting {}, highest reorder occupancy {}; users known {}",
            self.awaited, self.waiting_now, self.highest_occupancy, self.users,
        )
    }
}
