//! Which events were applied in a turn, and who is to get them.

use eventserver::hub::CloseReason;

use super::super::event::Action;
use super::super::kernel::SocketId;
use super::super::sequencer::{Counts, Sequencer};
use super::{Model, TurnSnapshot};

/// What ends every line that a client gets.
const TERMINATOR: &[u8] = b"\r\n";

/// What the order was found to have done in a turn.
struct SequencerRun {
    sequencer: Sequencer,
    was_reset: bool,
}

impl Model {
    /// Finds out what was applied in this turn, and gives it to whom it is for.
    ///
    /// The sources may have been served in any order; one that explains the counters must exist.
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
        let Some(SequencerRun { sequencer, was_reset }) = found else {
            panic!("{seen:?} is not what the lines lead to, from {:?} on", self.sequencer.counts())
        };
        if sequencer.counts() != self.sequencer.counts() {
            // Whatever has held up the order is over.
            self.total_stall = None;
            self.clients.values_mut().for_each(|client| client.stall = None);
        }
        self.sequencer = sequencer;
        let applied = self.sequencer.take_applied();
        assert!(!was_paused || applied.is_empty(), "a pause ends applying");
        for (line, action) in applied {
            self.deliver(&line, action, closed);
        }
        if was_reset {
            self.follows.clear();
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
            sequencer.reset();
            return (sequencer.counts() == *seen)
                .then_some(SequencerRun { sequencer, was_reset: true });
        }
        if !sequencer.run_to(sources, seen, &snapshot.lines_received) {
            self.check_skip(&sequencer, seen);
            sequencer.skip_gap();
            return (sequencer.counts() == *seen)
                .then_some(SequencerRun { sequencer, was_reset: false });
        }
        // With several sources only a full queue ends a turn's work, not a budget; a void needs no room.
        let is_through = match sequencer.due() {
            Some(event) => event.is_some(),
            None => sequencer.sources_with_lines().is_empty(),
        };
        (is_through || sources.len() < 2).then_some(SequencerRun { sequencer, was_reset: false })
    }

    /// Whether the last source that had sent a line is among those closed in this turn, before
    /// which everything that was read is applied.
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

    /// A gap is given up after its time, once all sources have been read dry.
    fn check_skip(&self, sequencer: &Sequencer, seen: &Counts) {
        if seen.lost == sequencer.counts().lost {
            return;
        }
        let Some((_, since)) = self.gap.filter(|&(missing, _)| missing == sequencer.awaited())
        else {
            panic!("{} was given up at once: {seen:?}", sequencer.awaited())
        };
        let Some(timeout) = self.limits.gap_timeout else { panic!("a gap was given up: {seen:?}") };
        assert!(self.now >= since + timeout, "a gap that came at {since} was given up too early");
        let mut sources = self.open_sources();
        let are_drained =
            sources.all(|(id, source)| source.is_drained || sequencer.is_out_of_window(id));
        assert!(are_drained, "a source may bring it yet");
        assert!(!self.is_draining(), "a stop gives no gap up");
    }

    fn deliver(&mut self, line: &[u8], action: Action, closed: &[SocketId]) {
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
                self.follows.insert((follower, followed));
            }
            Action::Unfollow { follower, followed } => {
                self.follows.remove(&(follower, followed));
            }
            Action::Broadcast | Action::PrivateMessage { .. } | Action::StatusUpdate { .. } => {}
        }
    }

    /// The connections of those whom an event is for.
    pub(super) fn recipients(&self, action: Action) -> Vec<SocketId> {
        let users = self.users.iter();
        let concerned = users.filter(|&(&user, _)| match action {
            Action::Follow { followed, .. } => user == followed,
            Action::Unfollow { .. } => false,
            Action::Broadcast => true,
            Action::PrivateMessage { to } => user == to,
            Action::StatusUpdate { from } => self.follows.contains(&(user, from)),
        });
        concerned.map(|(_, &id)| id).collect()
    }

    /// Only what a socket refused counts against the limits, and no socket takes more in the turn
    /// in which it refused; so what it took in the whole turn is what it had taken by now, or more
    /// than there was.
    fn check_client_limit(&mut self, id: SocketId, size: u64) {
        let (limit, pauses) = (self.limits.client_queue, self.limits.pauses);
        let client = self.client(id);
        if client.expected_close.is_none() && !client.is_broken && client.is_full_for(size, limit) {
            assert!(!pauses, "{size} bytes do not fit behind the {} of {id}", client.queued());
            client.expected_close = Some(CloseReason::QueueFull);
        }
    }

    /// Where all queues together are full, those with the longest are disconnected until there is
    /// room. Of equal ones it may be any.
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
                "client {longest} with {} bytes is disconnected, though another has {most:?}",
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
        // Bytes for a client that is closed in this turn may have come too late for it.
        let is_certain = !client.is_broken && !closed.contains(&id);
        self.deliveries.0 += u64::from(is_certain);
    }

    fn check_total_limit(&self, size: u64) {
        let queued = self.queued_by_open();
        let fits = size == 0 || queued == 0 || queued + size <= self.limits.total_queue;
        assert!(fits, "{size} bytes for all do not fit behind {queued}");
    }
}

/// Every order of these few.
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
