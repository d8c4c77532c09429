//! What happened so far, in one line.

use std::fmt;

use crate::engine::Counters;
use crate::hub::close_reason::CloseReason;

/// A count for each reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloseCounts([u64; CloseReason::COUNT]);

impl CloseCounts {
    pub(crate) fn count(&mut self, reason: CloseReason) {
        self.0[reason as usize] += 1;
    }
}

/// The reasons that occurred, and how often.
impl fmt::Display for CloseCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = CloseReason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0);
        let Some((reason, count)) = counts.next() else { return f.write_str("none") };
        write!(f, "{reason} {count}")?;
        counts.try_for_each(|(reason, count)| write!(f, ", {reason} {count}"))
    }
}

/// Counts that the engine and the deliveries do not keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HubCounters {
    /// Lines that are no event.
    pub(crate) malformed: u64,
    /// Last lines of sources that had no terminator.
    pub(crate) unterminated: u64,
    /// Connections to the event port, those turned away included.
    pub(crate) sources_accepted: u64,
    /// Connections to the client port, those turned away included.
    pub(crate) clients_accepted: u64,
    /// Times that accepting had to rest.
    pub(crate) accept_errors: u64,
    /// Clients closed, those turned away included, by reason.
    pub(crate) clients_closed: CloseCounts,
    /// Sources closed, those turned away included, by reason.
    pub(crate) sources_closed: CloseCounts,
}

/// Everything counted since the start, as one line of text.
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
    /// Events and sequences, as the engine counted them.
    #[must_use]
    pub fn engine(&self) -> &Counters {
        &self.engine
    }

    /// Lines that are no event.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.counters.malformed
    }

    /// Last lines of sources that had no terminator.
    #[must_use]
    pub fn unterminated(&self) -> u64 {
        self.counters.unterminated
    }

    /// The sequence whose turn it is.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.awaited
    }

    /// Sequences that wait for their turn, void ones included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buffered_events
    }

    /// Lines queued for clients.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.lines_queued
    }

    /// Bytes that clients' sockets have taken.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Clients connected, registered or not.
    #[must_use]
    pub fn clients_connected(&self) -> usize {
        self.clients_connected
    }

    /// Clients closed for `reason`.
    #[must_use]
    pub fn clients_closed(&self, reason: CloseReason) -> u64 {
        self.counters.clients_closed.0[reason as usize]
    }

    /// Sources closed for `reason`.
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
