//! Checks of a turn's end, and of an idle server.

use super::super::kernel::{Kernel, SocketId};
use super::super::socket::Side;
use super::{LINGER_TIMEOUT, Model, Stall, TurnSnapshot};

/// Returns the low watermark below which an event of `size` bytes is retried.
fn low_watermark(limit: u64, size: u64) -> u64 {
    (limit / 2).min(limit.saturating_sub(size))
}

impl Model {
    /// Checks that every client whose ID line was in the kernel when a source was read is
    /// registered or closed, or was refused with its listener.
    pub(super) fn check_registered(&self, whole_id_lines: &[SocketId], kernel: &Kernel) {
        for id in whole_id_lines {
            let is_outside = self.is_backing_off(Side::Client);
            let is_settled = match self.clients.get(id) {
                Some(client) => client.user.is_some() || client.expected_close.is_some(),
                None => {
                    self.closed_clients.contains_key(id)
                        || is_outside
                        || kernel.sockets[*id].is_reset
                        || kernel.sockets[*id].is_closed
                }
            };
            assert!(is_settled, "client {id} had sent its ID before a source was read");
        }
    }

    fn is_backing_off(&self, side: Side) -> bool {
        self.backoff_until[side as usize].is_some_and(|until| self.now < until)
    }

    /// Returns the clients for which the next event does not fit, its size, and its number of
    /// recipients.
    pub(super) fn full_clients(&self) -> (Vec<SocketId>, u64, usize) {
        let Some(Some((line, action))) = self.sequencer.due() else { return (Vec::new(), 0, 0) };
        let size = line.len() as u64 + 2;
        let recipients = self.recipients(*action);
        let limit = self.limits.client_queue;
        let is_full = |id: &&SocketId| self.clients[id].is_full_for(size, limit);
        (recipients.iter().filter(is_full).copied().collect(), size, recipients.len())
    }

    /// Updates the stall of the total limit. Recipients that are about to be closed count too.
    pub(super) fn update_total_stall(&mut self, snapshot: &TurnSnapshot) {
        let (full, size, count) = self.full_clients();
        let (queued, limit) = (self.queued_total(), self.limits.total_queue);
        let added = size * count as u64;
        // The event may not have been tried again until the server sleeps.
        let is_stale = self.is_total_stall_stale;
        self.is_total_stall_stale &= !snapshot.is_idle;
        if let Some(stall) = self.total_stall.as_mut().filter(|_| is_stale) {
            stall.low_watermark = low_watermark(limit, added);
        }
        let mut stalls = self.users.values().filter_map(|id| {
            let client = &self.clients[id];
            client.stall.filter(|stall| client.queued() > stall.low_watermark)
        });
        let has_stalled = stalls.next().is_some();
        let is_own = has_stalled || (self.limits.pauses && !full.is_empty());
        // Bytes for a client that is not closed yet may count or not.
        let max = queued + self.clients.values().map(|client| client.bytes_not_queued).sum::<u64>();
        if self.limits.pauses && !is_own && added > 0 && max > 0 && max + added > limit {
            let low_watermark = low_watermark(limit, added);
            let is_certain = snapshot.is_idle && queued > 0 && queued + added > limit;
            // One pause may have ended and another begun within the turn.
            self.total_stall = self.total_stall.filter(|stall| queued > stall.low_watermark);
            merge_stall(
                &mut self.total_stall,
                Stall { since: self.now, low_watermark, is_certain },
            );
        }
    }

    /// Updates the stalls of the client limits, and the gap.
    pub(super) fn update_stalls(&mut self, snapshot: &TurnSnapshot) {
        let (full, size, _) = self.full_clients();
        let low_watermark = low_watermark(self.limits.client_queue, size);
        let latest = Stall { since: self.now, low_watermark, is_certain: snapshot.is_idle };
        let has_ready = self.sequencer.due().is_some();
        for (id, client) in &mut self.clients {
            let is_over = |stall: &Stall| !has_ready || client.queued() <= stall.low_watermark;
            client.stall = client.stall.filter(|stall| !is_over(stall));
            let is_blocking = has_ready && client.queued() > 0;
            client.blocking_since = is_blocking.then(|| client.blocking_since.unwrap_or(self.now));
            client.fills_alone &= client.queued() > 0;
            if self.limits.pauses && full.contains(id) {
                let is_certain = latest.is_certain && !client.fills_alone;
                merge_stall(&mut client.stall, Stall { is_certain, ..latest });
            }
        }
        let queued = self.queued_total();
        self.total_stall =
            self.total_stall.filter(|stall| has_ready && queued > stall.low_watermark);
        let missing = self.sequencer.awaited();
        let is_missing = self.sequencer.has_gap() && !self.is_draining();
        let known = self.gap.filter(|&(sequence, _)| sequence == missing);
        self.gap = is_missing.then(|| known.unwrap_or((missing, self.now)));
    }

    /// Checks what must hold while the server sleeps.
    pub(super) fn check_quiescent(&self, snapshot: &TurnSnapshot, kernel: &Kernel) {
        let is_waiting = self.sequencer.due().is_some();
        let is_given_up = self.limits.pauses || self.full_clients().0.is_empty();
        assert!(is_given_up, "a client with a full queue is still connected");
        let is_full = self.total_stall.is_some()
            || self.clients.values().any(|client| client.stall.is_some());
        assert!(!is_waiting || is_full, "an event waits, though it fits");
        assert!(
            is_waiting || self.sequencer.sources_with_lines().is_empty(),
            "lines are left unprocessed: {:?}",
            self.sequencer
        );
        self.check_no_missed_work(is_waiting, kernel);
        if !is_waiting {
            self.check_idle_sources(kernel);
        }
        self.check_wakeup(snapshot);
    }

    /// Checks that the server does not sleep with work left to do.
    fn check_no_missed_work(&self, is_paused: bool, kernel: &Kernel) {
        for (&id, client) in &self.clients {
            let socket = &kernel.sockets[id];
            let is_refused = client.queued() == 0 || socket.is_write_blocked;
            assert!(is_refused, "{} bytes for {id} could be written", client.queued());
            let is_heard = !socket.is_readable() || socket.edge || self.is_draining();
            assert!(is_heard, "input of client {id} is left unread");
            let has_all =
                client.replay.as_ref().is_none_or(|it| it.is_ahead(self.sequencer.awaited()));
            let is_done =
                self.is_draining() && client.queued() == 0 && has_all && self.is_all_applied();
            assert!(!is_done, "client {id} has received everything and is still connected");
        }
        for &id in self.lingering.keys() {
            let socket = &kernel.sockets[id];
            let is_heard = !socket.is_readable() || socket.edge;
            assert!(is_heard, "input of client {id}, which is shut down, is left unread");
        }
        for (id, source) in self.open_sources() {
            let socket = &kernel.sockets[id];
            let is_heard = !socket.is_readable() || socket.edge || source.end.is_some();
            let may_wait = is_paused || self.is_draining();
            assert!(is_heard || may_wait, "input of source {id} is left unread");
        }
        for side in [Side::Source, Side::Client] {
            // Sources over the limit wait until the lines of ended ones are applied.
            if side == Side::Source && is_paused && self.has_undecided_sources() {
                continue;
            }
            let is_known = kernel.has_reported_backlog(side) && !self.is_backing_off(side);
            assert!(!is_known, "a {side:?} in the backlog is not accepted");
        }
    }

    fn has_undecided_sources(&self) -> bool {
        self.open_sources().any(|(_, source)| !source.is_admitted)
    }

    fn check_idle_sources(&self, kernel: &Kernel) {
        for (id, source) in self.open_sources() {
            if !kernel.sockets[id].is_write_blocked && !self.is_draining() {
                source.answers.check_complete(self.sequencer.awaited());
            }
            let is_over =
                source.end.is_some() || self.sequencer.is_out_of_window(id) || self.is_draining();
            assert!(!is_over, "source {id} has ended and is still connected");
        }
        let is_drained = self.open_sources().all(|(_, source)| source.is_drained);
        if let (Some((missing, since)), Some(timeout)) = (self.gap, self.limits.gap_timeout) {
            let is_over = self.now >= since + timeout && is_drained;
            assert!(!is_over, "the gap at {missing}, open since {since}, is not skipped");
        }
    }

    /// Checks that the server wakes up for the first deadline.
    fn check_wakeup(&self, snapshot: &TurnSnapshot) {
        let unknown = self.clients.values().filter(|client| client.user.is_none());
        let identify = unknown.map(|client| client.since + self.limits.identify_timeout);
        let stalls = self.clients.values().filter_map(|client| client.stall);
        let stalls = stalls.filter(|stall| stall.is_certain);
        let stall = stalls.map(|stall| stall.since + self.limits.stall_timeout);
        let gap = self.gap.and_then(|(_, since)| Some(since + self.limits.gap_timeout?));
        let backoffs = self.backoff_until.into_iter().flatten().filter(|&until| self.now < until);
        let others = gap.into_iter().chain(self.drain_deadline).chain(backoffs);
        let lingering = self.lingering.values().map(|since| since + LINGER_TIMEOUT);
        let (timeout, awaited) = (self.limits.identify_timeout, self.sequencer.awaited());
        let resumes = self.clients.values().filter_map(|client| client.replay.as_ref());
        let ahead = resumes.filter_map(|replay| replay.due_at(awaited, timeout, self.now));
        let of = |what: &'static str| move |at: u64| (at, what);
        let clients = identify.map(of("identification")).chain(stall.map(of("stall")));
        let closed = lingering.map(of("lingering"));
        let others = ahead.map(of("resume")).chain(others.map(of("gap, shutdown or back-off")));
        let first = clients.chain(closed).chain(others).min();
        let wakes_in_time =
            first.is_none_or(|(first, _)| snapshot.wakes_at.is_some_and(|at| at <= first));
        assert!(wakes_in_time, "sleeps until {:?}, past {first:?}", snapshot.wakes_at);
    }
}

/// Keeps a stall that continues, which may become certain.
fn merge_stall(stall: &mut Option<Stall>, latest: Stall) {
    match stall {
        Some(known) if known.is_certain || !latest.is_certain => {}
        _ => *stall = Some(latest),
    }
}
