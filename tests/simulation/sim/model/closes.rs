//! Checks of the connections that a turn closed or should have closed.

use eventserver::hub::CloseReason;

use super::super::kernel::SocketId;
use super::{Client, LINGER_TIMEOUT, Model, TurnSnapshot};

impl Model {
    /// An event that waits for the total limit may have found a client's own queue full, too.
    pub(super) fn disconnect_full_clients(&mut self, closed: &[SocketId]) {
        if !self.limits.pauses {
            for id in self.full_clients().0.into_iter().filter(|id| closed.contains(id)) {
                self.client(id).expected_close.get_or_insert(CloseReason::QueueFull);
            }
        }
    }

    /// Adds clients to those closed in this turn whose close is put off: they must be closed without lingering, and
    /// the turn has closed as many as its budget. Checks that of those put off before no more are left than that.
    pub(super) fn put_off_closes(&mut self, closed: &mut Vec<SocketId>) {
        let is_exhausted = self.closes >= self.limits.closes;
        assert!(
            self.put_off.is_empty() || is_exhausted,
            "of {:?} more could be closed",
            self.put_off
        );
        if !is_exhausted {
            return;
        }
        let is_put_off = |(id, client): &(&SocketId, &Client)| {
            let is_late = self.now >= client.since + self.limits.identify_timeout;
            let has_expired = client.user.is_none() && (is_late || self.is_draining());
            let lingers = client.user.is_some() && !client.is_read_to_end && !client.is_broken;
            !closed.contains(id) && !lingers && (client.expected_close.is_some() || has_expired)
        };
        let put_off: Vec<SocketId> =
            self.clients.iter().filter(is_put_off).map(|(&id, _)| id).collect();
        self.put_off.extend(&put_off);
        closed.extend(put_off);
    }

    /// Records the connections closed in this turn; each must have a reason.
    pub(super) fn close(&mut self, closed: &[SocketId]) {
        for &id in closed {
            if self.sources.contains_key(&id) {
                let reason = self.close_source(id);
                self.sources_closed[reason as usize] += 1;
            } else {
                let reason = self.close_client(id);
                self.clients_closed[reason as usize] += 1;
            }
        }
    }

    fn close_source(&mut self, id: SocketId) -> CloseReason {
        let Some(source) = self.sources.remove(&id) else { panic!("{id} is no source") };
        if source.is_rejected {
            return CloseReason::TooManySources;
        }
        let has_lines = self.sequencer.sources_with_lines().contains(&id);
        let is_applied = self.sequencer.due().is_none() && !has_lines;
        assert!(
            is_applied || self.is_drain_over(),
            "source {id} is closed before its lines are applied"
        );
        let is_out_of_window = self.sequencer.is_out_of_window(id);
        self.unterminated += u64::from(source.has_tail() && !is_out_of_window);
        self.sequencer.forget(id);
        match source.end {
            _ if is_out_of_window => CloseReason::WindowExceeded,
            Some(reason) => reason,
            None if self.is_draining() => CloseReason::Stopped,
            None => panic!("source {id} is closed without a reason"),
        }
    }

    fn close_client(&mut self, id: SocketId) -> CloseReason {
        let Some(client) = self.clients.remove(&id) else { panic!("{id} is no client") };
        let reason = client.expected_close.unwrap_or_else(|| self.reason_to_close(id, &client));
        if matches!(reason, CloseReason::TakenOver | CloseReason::Stopped) {
            let is_flushed = client.queued() == 0 || self.refused.contains(&id);
            let is_excused = client.is_broken || client.may_have_ended;
            self.ended_takeovers += u64::from(client.may_have_ended);
            assert!(
                is_flushed || is_excused,
                "{id} is closed with {} bytes that could be written",
                client.queued()
            );
        }
        self.unregister(id);
        self.closed_clients.insert(id, (reason, client));
        reason
    }

    /// Returns the reason to close a client that neither ended nor failed.
    fn reason_to_close(&self, id: SocketId, client: &Client) -> CloseReason {
        if let Some(replay) = &client.replay {
            let is_ahead = replay.is_ahead(self.sequencer.awaited());
            assert!(
                self.is_draining() && (is_ahead || self.is_drain_over()),
                "client {id}, which resumes, is closed"
            );
            return if is_ahead { CloseReason::Stopped } else { CloseReason::DrainTimeout };
        }
        if client.user.is_none() {
            let is_late = self.now >= client.since + self.limits.identify_timeout;
            assert!(
                is_late || self.is_draining(),
                "client {id} is closed before the identify timeout"
            );
            return match self.is_draining() {
                true => CloseReason::Stopped,
                false => CloseReason::IdentifyTimeout,
            };
        }
        let is_stalled = client
            .blocking_since
            .is_some_and(|since| self.now >= since + self.limits.stall_timeout);
        let is_done = client.queued() == 0 && self.is_all_applied();
        match client.queued() {
            0 if self.is_draining() && (is_done || self.is_drain_over()) => CloseReason::Stopped,
            _ if self.is_drain_over() => CloseReason::DrainTimeout,
            _ if is_stalled => CloseReason::Stalled,
            // Bytes queued for a client whose write failed may have counted until the failure.
            1.. if !self.limits.pauses && self.has_write_failed => CloseReason::QueueFull,
            queued => panic!("client {id} is closed without a reason, {queued} bytes queued"),
        }
    }

    /// Checks that every connection that must close was closed in the same turn.
    pub(super) fn check_closed(&self, snapshot: &TurnSnapshot) {
        let now = snapshot.now;
        assert!(
            self.put_off.is_empty() || !(snapshot.is_idle || self.is_drain_over()),
            "the server sleeps or has stopped, and {:?} are still open",
            self.put_off
        );
        for (&id, client) in &self.clients {
            assert_eq!(client.expected_close, None, "client {id} is still open");
            let is_late = now >= client.since + self.limits.identify_timeout;
            assert!(client.user.is_some() || !is_late, "client {id} is past its identify timeout");
            let stall = client.stall.filter(|stall| stall.is_certain);
            if let Some(stall) = stall.filter(|stall| client.queued() > stall.low_watermark) {
                let is_over = now >= stall.since + self.limits.stall_timeout;
                assert!(
                    !is_over,
                    "client {id} is past its stall timeout, stalled since {}",
                    stall.since
                );
            }
            assert!(!self.is_drain_over(), "client {id} is open after the drain timeout");
        }
        for (id, since) in &self.lingering {
            let is_late = now >= since + LINGER_TIMEOUT || self.is_drain_over();
            assert!(!is_late, "client {id} is past its linger timeout");
        }
        for (id, source) in &self.sources {
            assert!(!source.is_rejected, "source {id} was rejected and is still open");
            assert!(!self.is_drain_over(), "source {id} is open after the drain timeout");
        }
    }

    pub(super) fn check_counters(&self, snapshot: &TurnSnapshot) {
        let totals = &snapshot.totals;
        let (least, most) = self.deliveries;
        assert!(
            (least..=most).contains(&totals.lines_queued()),
            "{} deliveries",
            totals.lines_queued()
        );
        assert_eq!(totals.clients_connected(), self.clients.len(), "clients connected");
        assert_eq!(totals.bytes_written(), self.bytes_written, "bytes written");
        assert_eq!(totals.unterminated(), self.unterminated, "unterminated lines");
        let merged = |closed: &dyn Fn(CloseReason) -> u64| {
            CloseReason::ALL.map(|reason| match reason {
                // Where both apply, either reason is valid. What is queued for a client that resumes is unknown.
                CloseReason::Stopped if self.limits.resume_events > 0 => 0,
                CloseReason::Stalled | CloseReason::TakenOver | CloseReason::TooManyFromAddress => {
                    0
                }
                CloseReason::TooManyClients => {
                    closed(CloseReason::TooManyClients) + closed(CloseReason::TooManyFromAddress)
                }
                CloseReason::ClosedByPeer => {
                    closed(CloseReason::TakenOver) + closed(CloseReason::ClosedByPeer)
                }
                CloseReason::DrainTimeout => {
                    let stopped = match self.limits.resume_events {
                        0 => 0,
                        _ => closed(CloseReason::Stopped),
                    };
                    closed(CloseReason::Stalled) + closed(CloseReason::DrainTimeout) + stopped
                }
                reason => closed(reason),
            })
        };
        let seen = merged(&|reason| totals.clients_closed(reason));
        let known = merged(&|reason| self.clients_closed[reason as usize]);
        assert_eq!(seen, known, "clients closed, by reason: {:?}", CloseReason::ALL);
        let most = self.clients_closed[CloseReason::TakenOver as usize];
        let taken_over = totals.clients_closed(CloseReason::TakenOver);
        assert!((most - self.ended_takeovers..=most).contains(&taken_over), "clients taken over");
        let seen = CloseReason::ALL.map(|reason| totals.sources_closed(reason));
        assert_eq!(seen, self.sources_closed, "sources closed, by reason: {:?}", CloseReason::ALL);
    }
}
