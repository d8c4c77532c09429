//! What must hold when a turn is over, and what more when nothing is left to do.

use super::super::kernel::{Kernel, SocketId};
use super::super::socket::Side;
use super::{Ending, LINGER_TIMEOUT, Model, Stall};

/// How far a full queue has to come down before an event of `size` bytes is tried again.
fn target(limit: u64, size: u64) -> u64 {
    (limit / 2).min(limit.saturating_sub(size))
}

impl Model {
    /// Every client whose id line was in the kernel when a source was read is registered, or gone.
    pub(super) fn check_registered(&self, whole_id_lines: &[SocketId], kernel: &Kernel) {
        for id in whole_id_lines {
            let is_outside = self.accepting_rests(Side::Client);
            let is_settled = match self.clients.get(id) {
                Some(client) => client.user.is_some() || client.fate.is_some(),
                None => self.gone.contains_key(id) || is_outside || kernel.sockets[*id].is_reset,
            };
            assert!(is_settled, "client {id} had identified itself before a source was read");
        }
    }

    fn accepting_rests(&self, side: Side) -> bool {
        self.backoff_until[side as usize].is_some_and(|until| self.now < until)
    }

    /// For whom the event that is due does not fit, its size, and how many it is for.
    pub(super) fn full_clients(&self) -> (Vec<SocketId>, u64, usize) {
        let Some(Some((line, deed))) = self.order.due() else { return (Vec::new(), 0, 0) };
        let size = line.len() as u64 + 2;
        let audience = self.audience(*deed);
        let limit = self.limits.client_queue;
        let is_full = |id: &&SocketId| self.clients[id].is_full_for(size, limit);
        (audience.iter().filter(is_full).copied().collect(), size, audience.len())
    }

    /// Keeps account of whether all queues together have to come down: for an event that is for
    /// clients about to be closed, too.
    pub(super) fn watch_total(&mut self, ending: &Ending) {
        let (full, size, count) = self.full_clients();
        let (queued, limit) = (self.queued_total(), self.limits.total_queue);
        let added = size * count as u64;
        let is_stale = std::mem::take(&mut self.is_total_stall_stale);
        if let Some(stall) = self.total_stall.as_mut().filter(|_| is_stale) {
            stall.target = target(limit, added);
        }
        let mut stalls = self.users.values().filter_map(|id| {
            let client = &self.clients[id];
            client.stall.filter(|stall| client.queued() > stall.target)
        });
        let has_stalled = stalls.next().is_some();
        let is_own = has_stalled || (self.limits.pauses && !full.is_empty());
        // Until a client is closed, what it would have got may count or not.
        let most = queued + self.clients.values().map(|client| client.forgone).sum::<u64>();
        if self.limits.pauses && !is_own && added > 0 && most > 0 && most + added > limit {
            let target = target(limit, added);
            let is_certain = ending.is_at_rest && queued > 0 && queued + added > limit;
            // A pause may have ended and another begun in one turn.
            self.total_stall = self.total_stall.filter(|stall| queued > stall.target);
            confirm(&mut self.total_stall, Stall { since: self.now, target, is_certain });
        }
    }

    /// Keeps account of the queues that have to come down, and of the gap.
    pub(super) fn watch_stalls(&mut self, ending: &Ending) {
        let (full, size, _) = self.full_clients();
        let target = target(self.limits.client_queue, size);
        let news = Stall { since: self.now, target, is_certain: ending.is_at_rest };
        let has_ready = self.order.due().is_some();
        for (id, client) in &mut self.clients {
            let is_over = |stall: &Stall| !has_ready || client.queued() <= stall.target;
            client.stall = client.stall.filter(|stall| !is_over(stall));
            let is_in_the_way = has_ready && client.queued() > 0;
            client.in_the_way_since =
                is_in_the_way.then(|| client.in_the_way_since.unwrap_or(self.now));
            if self.limits.pauses && full.contains(id) {
                confirm(&mut client.stall, news);
            }
        }
        let queued = self.queued_total();
        self.total_stall = self.total_stall.filter(|stall| has_ready && queued > stall.target);
        let missing = self.order.awaited();
        let is_missing = self.order.has_gap() && !self.is_draining();
        let known = self.gap.filter(|&(sequence, _)| sequence == missing);
        self.gap = is_missing.then(|| known.unwrap_or((missing, self.now)));
    }

    /// What must hold when the server sleeps.
    pub(super) fn check_rest(&self, ending: &Ending, kernel: &Kernel) {
        let is_waiting = self.order.due().is_some();
        let is_given_up = self.limits.pauses || self.full_clients().0.is_empty();
        assert!(is_given_up, "a client whose queue is full is still there");
        let is_full = self.total_stall.is_some()
            || self.clients.values().any(|client| client.stall.is_some());
        assert!(!is_waiting || is_full, "an event waits though it fits");
        assert!(
            is_waiting || self.order.sources_with_lines().is_empty(),
            "lines are left lying: {:?}",
            self.order
        );
        self.check_sleepers(is_waiting, kernel);
        if !is_waiting {
            self.check_sources_at_rest();
        }
        self.check_alarm(ending);
    }

    /// Nobody waits for the server while it waits for them.
    fn check_sleepers(&self, is_paused: bool, kernel: &Kernel) {
        for &id in self.lingering.keys() {
            let is_heard = !kernel.sockets[id].is_readable() || kernel.sockets[id].edge;
            assert!(is_heard, "the closed client {id} has sent something, and nobody reads it");
        }
        for (&id, client) in &self.clients {
            let socket = &kernel.sockets[id];
            let is_refused = client.queued() == 0 || socket.is_known_full;
            assert!(is_refused, "{} bytes for {id} could be written", client.queued());
            let is_heard = !socket.is_readable() || socket.edge || self.is_draining();
            assert!(is_heard, "client {id} has sent something, and nobody reads it");
            let is_done = self.is_draining() && client.queued() == 0 && self.is_all_applied();
            assert!(!is_done, "client {id} has got everything");
        }
        for (id, source) in self.open_sources() {
            let socket = &kernel.sockets[id];
            let is_heard = !socket.is_readable() || socket.edge || source.end.is_some();
            let may_wait = is_paused || self.is_draining();
            assert!(is_heard || may_wait, "source {id} has sent something, and nobody reads it");
        }
        for side in [Side::Source, Side::Client] {
            // Sources over the limit wait for the lines of those that have ended.
            if side == Side::Source && is_paused && self.has_undecided_sources() {
                continue;
            }
            let is_known = kernel.has_told_backlog(side) && !self.accepting_rests(side);
            assert!(!is_known, "a {side:?} waits, and nobody accepts it");
        }
    }

    fn has_undecided_sources(&self) -> bool {
        self.open_sources().any(|(_, source)| !source.is_admitted)
    }

    fn check_sources_at_rest(&self) {
        for (id, source) in self.open_sources() {
            let is_over = source.end.is_some() || self.order.is_too_far(id) || self.is_draining();
            assert!(!is_over, "source {id} has ended and is still there");
        }
        let is_dry = self.open_sources().all(|(_, source)| source.is_dry);
        if let (Some((missing, since)), Some(timeout)) = (self.gap, self.limits.gap_timeout) {
            let is_over = self.now >= since + timeout && is_dry;
            assert!(!is_over, "{missing} is missing since {since}");
        }
    }

    /// The server wakes up in time for everything that has a time.
    fn check_alarm(&self, ending: &Ending) {
        let unknown = self.clients.values().filter(|client| client.user.is_none());
        let identify = unknown.map(|client| client.since + self.limits.identify_timeout);
        let stalls = self.clients.values().filter_map(|client| client.stall);
        let stalls = stalls.filter(|stall| stall.is_certain);
        let stall = stalls.map(|stall| stall.since + self.limits.stall_timeout);
        let gap = self.gap.and_then(|(_, since)| Some(since + self.limits.gap_timeout?));
        let rests = self.backoff_until.into_iter().flatten().filter(|&until| self.now < until);
        let others = gap.into_iter().chain(self.drain_deadline).chain(rests);
        let lingering = self.lingering.values().map(|since| since + LINGER_TIMEOUT);
        let first = identify.chain(stall).chain(lingering).chain(others).min();
        let wakes_in_time = first.is_none_or(|first| ending.wakes_at.is_some_and(|at| at <= first));
        assert!(wakes_in_time, "sleeps until {:?}, past {first:?}", ending.wakes_at);
    }
}

/// A stall that goes on stays as it began, but may become certain.
fn confirm(stall: &mut Option<Stall>, news: Stall) {
    match stall {
        Some(known) if known.is_certain || !news.is_certain => {}
        _ => *stall = Some(news),
    }
}
