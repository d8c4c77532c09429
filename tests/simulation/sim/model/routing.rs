//! The events that a turn applied, and their recipients.

use eventserver::hub::CloseReason;

use super::super::event::Action;
use super::super::kernel::SocketId;
use super::super::sequencer::{Counts, Line, Sequencer};
use super::{Model, TERMINATOR, TurnSnapshot};
use std::rc::Rc;

/// The sequencer's state after a turn.
struct SequencerRun {
    sequencer: Sequencer,
    /// The awaited sequence before a reset.
    reset_at: Option<u64>,
}

impl Model {
    /// Finds out what was applied in this turn, and delivers it to the recipients.
    ///
    /// The sources may have been read in any order; one order that explains the counters must
    /// exist.
    pub(super) fn advance_sequencer(
        &mut self,
        snapshot: &TurnSnapshot,
        closed: &[SocketId],
        was_paused: bool,
    ) {
        let seen = Counts::of(&snapshot.totals);
        let orders = permutations(&self.sequencer.sources_with_lines());
        let found =
            orders.iter().find_map(|sources| self.explain(sources, &seen, snapshot, closed));
        let Some(SequencerRun { sequencer, reset_at }) = found else {
            panic!("no order of the sources leads from {0:?} to {seen:?}", self.sequencer.counts())
        };
        if sequencer.counts() != self.sequencer.counts() {
            // Progress ends every stall.
            self.total_stall = None;
            self.clients.values_mut().for_each(|client| client.stall = None);
        }
        self.sequencer = sequencer;
        let applied = self.sequencer.take_applied();
        assert!(!was_paused || applied.is_empty(), "nothing is applied during a pause");
        for (sequence, line, action) in applied {
            self.deliver(sequence, &line, action, closed);
        }
        if let Some(awaited) = reset_at {
            self.follows = Rc::default();
            self.reset_replays(awaited);
        }
    }

    fn explain(
        &self,
        sources: &[SocketId],
        seen: &Counts,
        snapshot: &TurnSnapshot,
        closed: &[SocketId],
    ) -> Option<SequencerRun> {
        let mut sequencer = self.sequencer.clone();
        if self.is_reset_by(closed, sources) {
            sequencer.run(sources);
            let reset_at = Some(sequencer.awaited());
            sequencer.reset();
            return (sequencer.counts() == *seen).then_some(SequencerRun { sequencer, reset_at });
        }
        if !sequencer.run_to(sources, seen, &snapshot.lines_received) {
            self.check_skip(&sequencer, seen);
            sequencer.skip_gap();
            return (sequencer.counts() == *seen)
                .then_some(SequencerRun { sequencer, reset_at: None });
        }
        // With several sources only a full queue ends a turn's work, not a budget; a void needs no
        // queue space. Nothing is done in a turn that has not accepted all clients.
        let is_deferred = !snapshot.is_idle && sequencer.counts() == self.sequencer.counts();
        let is_through = match sequencer.due() {
            Some(event) => event.is_some(),
            None => sequencer.sources_with_lines().is_empty(),
        };
        (is_through || is_deferred || sources.len() < 2)
            .then_some(SequencerRun { sequencer, reset_at: None })
    }

    /// Returns whether the last source that had sent a line was closed in this turn. Everything
    /// read is applied before a reset.
    fn is_reset_by(&self, closed: &[SocketId], sources: &[SocketId]) -> bool {
        let has_sent = |id| self.sequencer.lines_of(id) > 0 || sources.contains(&id);
        let mut senders = self.open_sources().map(|(id, _)| id).filter(|&id| has_sent(id));
        let any = senders.by_ref().any(|id| closed.contains(&id));
        let others = self.open_sources().map(|(id, _)| id).filter(|&id| has_sent(id));
        self.limits.resets
            && !self.is_draining()
            && any
            && others.into_iter().all(|id| closed.contains(&id))
    }

    /// Checks that a gap is skipped only after its timeout, with all sources drained.
    fn check_skip(&self, sequencer: &Sequencer, seen: &Counts) {
        if seen.lost == sequencer.counts().lost {
            return;
        }
        let Some((_, since)) = self.gap.filter(|&(missing, _)| missing == sequencer.awaited())
        else {
            panic!("{} was skipped at once: {seen:?}", sequencer.awaited())
        };
        let Some(timeout) = self.limits.gap_timeout else {
            panic!("a gap was skipped without a gap timeout: {seen:?}")
        };
        assert!(self.now >= since + timeout, "the gap of {since} was skipped too early");
        let mut sources = self.open_sources();
        let are_drained =
            sources.all(|(id, source)| source.is_drained || sequencer.is_out_of_window(id));
        assert!(are_drained, "a source is not drained and may still deliver it");
        assert!(!self.is_draining(), "no gap is skipped during a shutdown");
    }

    fn deliver(&mut self, sequence: u64, line: &Line, action: Action, closed: &[SocketId]) {
        self.record(sequence, line, action);
        let recipients = self.recipients(action);
        let size = (line.len() + TERMINATOR.len()) as u64;
        for &id in &recipients {
            self.check_client_limit(id, size);
        }
        let is_open = |&&id: &&SocketId| self.clients[&id].expected_close.is_none();
        let added = size * recipients.iter().filter(is_open).count() as u64;
        if !self.limits.pauses && added > 0 {
            self.disconnect_longest_queues(added, closed);
        }
        self.check_total_limit(added);
        for &id in &recipients {
            self.deliver_to(id, line, size, closed);
        }
        self.deliveries.1 += recipients.len() as u64;
        match action {
            Action::Follow { follower, followed } => {
                Rc::make_mut(&mut self.follows).insert((follower, followed));
            }
            Action::Unfollow { follower, followed } => {
                Rc::make_mut(&mut self.follows).remove(&(follower, followed));
            }
            Action::Broadcast | Action::PrivateMessage { .. } | Action::StatusUpdate { .. } => {}
        }
    }

    /// Returns the connections that receive an event as a live one.
    pub(super) fn recipients(&self, action: Action) -> Vec<SocketId> {
        let users = self.users.iter();
        let concerned = users.filter(|&(&user, id)| {
            self.clients[id].replay.is_none() && action.concerns(user, &self.follows)
        });
        concerned.map(|(_, &id)| id).collect()
    }

    /// Checks the client limit. Only bytes that a socket refused count, and a socket that has
    /// refused accepts nothing more in the same turn. So what it accepted in the whole turn is what
    /// it had accepted by now, or more than there was.
    fn check_client_limit(&mut self, id: SocketId, size: u64) {
        let (limit, pauses) = (self.limits.client_queue, self.limits.pauses);
        let client = self.client(id);
        if client.expected_close.is_none() && !client.is_broken && client.is_full_for(size, limit) {
            assert!(
                !pauses,
                "{size} bytes do not fit after the {} queued for {id}",
                client.queued()
            );
            client.expected_close = Some(CloseReason::QueueFull);
        }
    }

    /// Disconnects the clients with the longest queues until the total limit is met. Among equal
    /// queues any may be chosen.
    fn disconnect_longest_queues(&mut self, added: u64, closed: &[SocketId]) {
        let limit = self.limits.total_queue;
        while self.queued_by_open() > 0 && self.queued_by_open() + added > limit {
            let open =
                || self.users.values().filter(|id| self.clients[id].expected_close.is_none());
            let queued = |id: &&SocketId| self.clients[id].queued();
            let Some(&longest) = open().filter(|id| closed.contains(id)).max_by_key(queued) else {
                return;
            };
            let most = open().filter(|id| !closed.contains(id)).map(|id| queued(&id)).max();
            assert!(
                self.has_write_failed
                    || most.is_none_or(|most| most <= self.clients[&longest].queued()),
                "client {longest} with {} bytes is disconnected, though another has {most:?} queued",
                self.clients[&longest].queued()
            );
            self.client(longest).expected_close = Some(CloseReason::QueueFull);
        }
    }

    fn queued_by_open(&self) -> u64 {
        let clients = self.users.values().map(|id| &self.clients[id]);
        clients.filter(|client| client.expected_close.is_none()).map(super::Client::queued).sum()
    }

    fn deliver_to(&mut self, id: SocketId, line: &[u8], size: u64, closed: &[SocketId]) {
        let client = self.client(id);
        if client.expected_close == Some(CloseReason::QueueFull) {
            client.bytes_not_queued += size;
            return;
        }
        client.expected.extend(line);
        client.expected.extend(TERMINATOR);
        // A client that is closed in this turn may have been closed before these bytes were queued.
        let is_certain = !client.is_broken && !closed.contains(&id);
        self.deliveries.0 += u64::from(is_certain);
    }

    fn check_total_limit(&self, size: u64) {
        let queued = self.queued_by_open();
        let fits = size == 0 || queued == 0 || queued + size <= self.limits.total_queue;
        assert!(fits, "{size} bytes do not fit after the {queued} queued in total");
    }
}

/// Returns all permutations.
fn permutations(sources: &[SocketId]) -> Vec<Vec<SocketId>> {
    let [first, others @ ..] = sources else { return vec![Vec::new()] };
    let mut orders = Vec::new();
    for order in permutations(others) {
        for index in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(index, *first);
            orders.push(longer);
        }
    }
    orders
}
