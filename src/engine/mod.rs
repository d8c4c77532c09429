//! The event engine: order and follower graph. Pure and deterministic: no I/O, no clock, no log, no
//! random source.
//!
//! Events are inserted in order of arrival and applied in order of sequence. Applying passes each line
//! and its recipients to a [`Sink`]:
//!
//! ```text
//! Event ─▶ ReorderBuffer ─in sequence─▶ FollowerGraph ─(recipients, line)─▶ Sink
//! ```
//!
//! A sink that is full refuses an event. The event then has no effect, and the next call of
//! [`Engine::apply_next`] offers it again.

mod graph;
mod history;
mod line_store;
mod log_entry;
mod paged_slab;
mod recipient_table;
mod reorder;
mod resume;
#[cfg(test)]
mod resume_tests;
mod retired_ring;
mod sets;
mod slot;
mod state_hash;
mod stream_status;
#[cfg(test)]
mod tests;
mod user_index;

use std::ops::Range;

pub use graph::{FollowerGraph, Recipient, Registration};
pub use history::History;
pub use log_entry::{Batch, LogEntry, Remainder};
pub use reorder::{Head, InsertOutcome, ReorderBuffer};
pub use resume::{Missed, Resume, ResumeProgress};
pub use state_hash::StateHash;
pub use stream_status::StreamStatus;

use crate::protocol::{
    CompactEvent, Decoded, Event, EventDecoder, EventKind, Line, Sequence, UserId,
};

/// The recipients of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<'a> {
    /// One registered user.
    One(Recipient),
    /// Several registered users, each once, as the numbers inside their [`Recipient`]s. Some may belong to
    /// users that are no longer registered. The sink skips these.
    Many(&'a [u32]),
    /// All registered users.
    All,
}

/// The error of a [`Sink`] whose capacity does not suffice: the line is queued for no recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A destination of deliveries.
pub trait Sink {
    /// Queues the line of an event for all recipients, or for none of them.
    ///
    /// # Errors
    ///
    /// The capacity does not suffice.
    fn offer(&mut self, recipients: Recipients<'_>, line: Line<'_>) -> Result<(), Full>;
}

/// The result of one step of [`Engine::apply_next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The awaited sequence was applied, and the next one is awaited.
    Applied,
    /// The sink is full.
    Blocked,
    /// The awaited sequence has not arrived.
    Idle,
}

/// The engine's counters since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Follow events applied.
    pub follows: u64,
    /// Unfollow events applied.
    pub unfollows: u64,
    /// Broadcasts applied.
    pub broadcasts: u64,
    /// Private messages applied.
    pub private_messages: u64,
    /// Status updates applied.
    pub status_updates: u64,
    /// Sequences used up by a malformed line.
    pub void: u64,
    /// Well-formed lines dropped because their sequence was already buffered.
    pub duplicate: u64,
    /// Well-formed lines dropped because their sequence was already applied or skipped.
    pub late: u64,
    /// Missing sequences that were skipped, and events that a reset discarded after a gap.
    pub lost: u64,
}

impl Counters {
    /// Returns the number of applied events, of all types.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.follows
            + self.unfollows
            + self.broadcasts
            + self.private_messages
            + self.status_updates
    }

    fn count(&mut self, kind: EventKind) {
        *match kind {
            EventKind::Follow { .. } => &mut self.follows,
            EventKind::Unfollow { .. } => &mut self.unfollows,
            EventKind::Broadcast => &mut self.broadcasts,
            EventKind::PrivateMessage { .. } => &mut self.private_messages,
            EventKind::StatusUpdate { .. } => &mut self.status_updates,
        } += 1;
    }
}

/// The reorder buffer and the follower graph of one stream.
#[derive(Debug)]
pub struct Engine {
    first: Sequence,
    reorder: ReorderBuffer,
    graph: FollowerGraph,
    counters: Counters,
    /// The newest applied events, if they are kept.
    history: Option<Box<History>>,
    /// The first applied sequence whose event may still have to be kept. The slots from there on are unchanged since
    /// it was applied.
    unkept: u64,
}

impl Engine {
    /// Creates an engine that awaits `first`, without registered users and follows.
    ///
    /// It rejects sequences that are `window` or more ahead of the awaited one.
    #[must_use]
    pub fn new(first: Sequence, window: u32) -> Engine {
        Engine {
            first,
            reorder: ReorderBuffer::new(first, window),
            graph: FollowerGraph::new(),
            counters: Counters::default(),
            history: None,
            unkept: first.get(),
        }
    }

    /// Creates an engine whose events are applied only once they are [committed](Self::commit). It continues
    /// a stream that starts at `first`, with the follows of `graph` and at the sequence `awaited`.
    #[must_use]
    pub fn with_log(first: Sequence, awaited: u64, graph: FollowerGraph, window: u32) -> Engine {
        let reorder = ReorderBuffer::with_log(awaited, window);
        Engine {
            first,
            reorder,
            graph,
            counters: Counters::default(),
            history: None,
            unkept: awaited,
        }
    }

    /// Keeps the events that are applied from now on in `history`, which ends before the awaited sequence.
    pub fn keep_history(&mut self, history: History) {
        self.history = Some(Box::new(history));
        self.unkept = self.awaited();
    }

    /// Adds the events that were applied to the [`history`](Self::history). It must be called after events were
    /// applied, and before others are inserted.
    #[inline]
    pub fn keep_applied(&mut self) {
        if self.keeps_history() {
            self.keep_before(self.awaited());
        }
    }

    /// Returns whether applied events are kept.
    #[inline]
    pub(crate) fn keeps_history(&self) -> bool {
        self.history.is_some()
    }

    /// Returns whether [`keep_applied`](Self::keep_applied) has nothing to do.
    pub(crate) fn has_kept_applied(&self) -> bool {
        self.history.is_none() || self.unkept == self.awaited()
    }

    /// Keeps the applied events before `end`.
    fn keep_before(&mut self, end: u64) {
        let Some(history) = &mut self.history else { return };
        let [first, second] = self.reorder.applied(self.unkept, end);
        history.push_applied(self.unkept, first);
        history.push_applied(self.unkept + first.len() as u64, second);
        self.unkept = end;
    }

    /// Returns the newest applied events, if they are kept, as of the last call of
    /// [`keep_applied`](Self::keep_applied).
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.history.as_deref()
    }

    /// Prepares for a log to which others append, too: see [`commit_other`](Self::commit_other).
    pub fn share_log(&mut self) {
        self.reorder.share_log();
    }

    /// Replaces what is buffered from `first` to before `next` by what others have committed there, and allows it
    /// to be applied. `lines` holds their lines in order, each ended by LF; sequences without a line are void.
    /// `decoder` has nothing left from before, and its lines are not limited.
    pub fn commit_other(
        &mut self,
        first: u64,
        next: u64,
        lines: &[u8],
        decoder: &mut EventDecoder,
    ) {
        self.keep_applied();
        decoder.buffer_mut().feed(lines);
        let reorder = &mut self.reorder;
        reorder.begin_replacing(next);
        let mut due = first;
        loop {
            decoder.decode_fast(usize::MAX, |event, line| {
                let sequence = event.sequence.get();
                let is_next = sequence == due && sequence < next;
                if is_next {
                    reorder.replace_fast(event, line);
                    due += 1;
                }
                is_next
            });
            match decoder.next_event() {
                Some(Decoded::Event(event, line)) => {
                    let sequence = event.sequence.get();
                    // Lines that are not in order were not written by a server of this kind. All servers
                    // skip them alike.
                    if (due..next).contains(&sequence) {
                        reorder.replace_with_voids(due..sequence);
                        reorder.replace(&event, line);
                        due = sequence + 1;
                    }
                }
                Some(Decoded::Malformed(..)) => {}
                None => break,
            }
        }
        reorder.replace_with_voids(due..next);
        reorder.end_replacing(next);
    }

    /// Appends consecutive buffered sequences to `batch`, at most `max` and until it is full: those that
    /// follow the ones appended before. They are final: a void among them is not replaced any more. Returns
    /// their number.
    pub fn stage(&mut self, batch: &mut Batch, max: usize) -> usize {
        self.reorder.stage(batch, max)
    }

    /// Allows the staged events before the sequence `next` to be applied.
    pub fn commit(&mut self, next: u64) {
        self.reorder.commit(next);
    }

    /// Frees memory that an idle engine does not need.
    pub fn trim(&mut self) {
        self.reorder.shrink_if_empty();
    }

    /// Frees about so many bytes of memory that is no longer used, of each kind.
    pub fn free_some(&mut self, bytes: usize) {
        self.reorder.free_some(bytes);
        if let Some(history) = &mut self.history {
            history.free_some(bytes);
        }
    }

    /// Returns whether [`free_some`](Self::free_some) has nothing left to do.
    #[must_use]
    pub fn is_freed(&self) -> bool {
        self.reorder.is_freed() && self.history.as_ref().is_none_or(|history| history.is_freed())
    }

    /// Returns whether [`stage`](Self::stage) has something to append.
    #[must_use]
    pub fn has_unstaged(&self) -> bool {
        self.reorder.has_unstaged()
    }

    /// Returns the number of sequences that are staged and not applied.
    #[must_use]
    pub fn unapplied(&self) -> u64 {
        self.reorder.unapplied()
    }

    /// Returns whether the awaited sequence has arrived, committed or not.
    #[inline]
    #[must_use]
    pub fn has_due(&self) -> bool {
        self.reorder.has_due()
    }

    /// Returns the first sequence of the stream, which a reset returns to.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// Returns the hash of the follows and the awaited sequence, if the graph keeps it up to date.
    #[must_use]
    pub fn state_hash(&self) -> Option<StateHash> {
        self.graph.state_hash(self.awaited())
    }

    /// Inserts an event that is new and not far ahead, the common case. Otherwise returns `false` without
    /// effect, and [`insert`](Self::insert) decides.
    #[inline(always)]
    pub fn try_insert_fast(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        debug_assert!(self.has_kept_applied());
        self.reorder.try_insert_fast(event, line)
    }

    /// Inserts an event and its line, in order of arrival. [`apply_next`](Self::apply_next) applies it.
    pub fn insert(&mut self, event: &Event, line: Line<'_>) -> InsertOutcome {
        debug_assert!(self.has_kept_applied());
        let outcome = self.reorder.insert(event, line);
        match outcome {
            InsertOutcome::Duplicate => self.counters.duplicate += 1,
            InsertOutcome::Late => self.counters.late += 1,
            InsertOutcome::Buffered | InsertOutcome::OutOfWindow => {}
        }
        outcome
    }

    /// Inserts a void: the sequence of a malformed line. An event with the same sequence that arrives in
    /// time replaces it.
    pub fn insert_void(&mut self, sequence: Sequence) -> InsertOutcome {
        debug_assert!(self.has_kept_applied());
        self.reorder.insert_void(sequence)
    }

    /// Applies the awaited event if it has arrived, or passes a void.
    #[inline]
    pub fn apply_next(&mut self, sink: &mut impl Sink) -> Progress {
        match self.history {
            None => self.apply_next_of::<false>(sink),
            Some(_) => self.apply_next_of::<true>(sink),
        }
    }

    /// The same where `KEEPS` is whether applied events are kept, so that it costs nothing if they are not.
    #[inline(always)]
    pub(crate) fn apply_next_of<const KEEPS: bool>(&mut self, sink: &mut impl Sink) -> Progress {
        match self.reorder.head() {
            Head::Missing => return Progress::Idle,
            Head::Void => {
                self.counters.void += 1;
                if KEEPS {
                    self.reorder.forget_head_line();
                }
            }
            Head::Event(kind, line) => {
                let Ok(effect) = apply(kind, line, &mut self.graph, sink) else {
                    return Progress::Blocked;
                };
                self.counters.count(kind);
                if KEEPS {
                    self.prepare_to_keep(effect);
                }
            }
        }
        if KEEPS && self.reorder.is_about_to_shrink() {
            self.keep_before(self.reorder.awaited() + 1);
        }
        self.reorder.advance();
        Progress::Applied
    }

    /// Prepares the slot of an event that is applied for [`keep_applied`](Self::keep_applied).
    // It asks the slot, not the line: a second use of that sends it through memory, which stalls for 5 ns.
    #[inline(always)]
    fn prepare_to_keep(&mut self, effect: Effect) {
        match effect {
            _ if self.reorder.has_long_head() => self.keep_long_line(effect),
            Effect::Delivered => {}
            Effect::Changed => self.reorder.set_head_changed(),
            Effect::Nothing => self.reorder.forget_head_line(),
        }
    }

    /// Keeps an event whose line is not in its slot, before it is removed.
    #[cold]
    fn keep_long_line(&mut self, effect: Effect) {
        let awaited = self.reorder.awaited();
        self.keep_before(awaited);
        if let (Some(history), Head::Event(_, line)) = (&mut self.history, self.reorder.head())
            && effect != Effect::Nothing
        {
            history.push(awaited, line.as_bytes(), effect == Effect::Changed);
        }
        self.unkept = awaited + 1;
    }

    /// Returns whether [`apply_next`](Self::apply_next) has something to apply.
    #[inline]
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.reorder.head() != Head::Missing
    }

    /// Registers a user: see [`FollowerGraph::register`].
    pub fn register(&mut self, user: UserId) -> Registration {
        self.graph.register(user)
    }

    /// Unregisters a user. Without effect if it is not registered.
    pub fn unregister(&mut self, user: UserId) {
        self.graph.unregister(user);
    }

    /// Returns how much unindexed users may add to the cost of one event, in events.
    #[inline]
    #[must_use]
    pub fn index_cost(&self) -> usize {
        self.graph.unindexed_users() / 16
    }

    /// Updates lists of followers: see [`FollowerGraph::index_some`].
    pub fn index_some(&mut self, steps: usize) {
        self.graph.index_some(steps);
    }

    /// Returns the awaited sequence: the next one to be applied. 2⁶⁴−1 after the largest sequence.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.reorder.awaited()
    }

    /// Returns the missing sequences before the first buffered one. Takes time linear in the length of the
    /// gap, unlike [`has_gap`](Self::has_gap).
    #[must_use]
    pub fn gap(&self) -> Option<Range<u64>> {
        self.reorder.gap()
    }

    /// Returns whether the awaited sequence is missing while later ones are buffered.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        !self.reorder.is_empty() && !self.has_due()
    }

    /// Skips the [`gap`](Self::gap), counts its sequences as lost, and returns them.
    pub fn skip_gap(&mut self) -> Option<Range<u64>> {
        self.keep_applied();
        let gap = self.reorder.skip_gap()?;
        self.unkept = self.awaited();
        self.counters.lost += gap.end - gap.start;
        Some(gap)
    }

    /// Resets order and graph. Registered users stay registered. Returns the number of buffered events,
    /// which are lost. [`free_some`](Self::free_some) frees their memory later.
    pub fn reset(&mut self) -> usize {
        let lost = self.reorder.reset(self.first);
        self.unkept = self.awaited();
        self.counters.lost += lost as u64;
        self.graph.clear_follows();
        if let Some(history) = &mut self.history {
            history.clear();
        }
        lost
    }

    /// Returns the counters. A reset does not change them.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the reorder buffer.
    #[must_use]
    pub fn reorder(&self) -> &ReorderBuffer {
        &self.reorder
    }

    /// Returns the follower graph.
    #[must_use]
    pub fn graph(&self) -> &FollowerGraph {
        &self.graph
    }
}

/// What an applied event did, besides being offered to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Delivered,
    /// It changed the graph.
    Changed,
    /// It is an unfollow that changed nothing: it had no recipient either.
    Nothing,
}

/// Offers an event to the sink and updates the graph unless the sink is full.
// inline(always): its callers are two copies of a loop, and a call costs 3 ns per event. Likewise below.
#[inline(always)]
fn apply(
    kind: EventKind,
    line: Line<'_>,
    graph: &mut FollowerGraph,
    sink: &mut impl Sink,
) -> Result<Effect, Full> {
    match kind {
        EventKind::Broadcast => sink.offer(Recipients::All, line)?,
        EventKind::PrivateMessage { to, .. } => offer_to_one(graph.recipient(to), line, sink)?,
        EventKind::StatusUpdate { from } if graph.is_any_unindexed() => {
            offer_to_unindexed_too(from, line, graph, sink)?;
        }
        EventKind::StatusUpdate { from } => {
            offer_to_several(graph.indexed_followers(from), line, sink)?;
        }
        EventKind::Follow { follower, followed } => {
            offer_to_one(graph.recipient(followed), line, sink)?;
            if graph.try_follow(follower, followed) {
                return Ok(Effect::Changed);
            }
        }
        EventKind::Unfollow { follower, followed } => {
            return Ok(match graph.try_unfollow(follower, followed) {
                true => Effect::Changed,
                false => Effect::Nothing,
            });
        }
    }
    Ok(Effect::Delivered)
}

#[inline(always)]
fn offer_to_several(recipients: &[u32], line: Line<'_>, sink: &mut impl Sink) -> Result<(), Full> {
    match recipients {
        [] => Ok(()),
        recipients => sink.offer(Recipients::Many(recipients), line),
    }
}

#[cold]
fn offer_to_unindexed_too(
    from: UserId,
    line: Line<'_>,
    graph: &FollowerGraph,
    sink: &mut impl Sink,
) -> Result<(), Full> {
    let mut followers = graph.indexed_followers(from).to_vec();
    graph.append_unindexed_followers(from, &mut followers);
    offer_to_several(&followers, line, sink)
}

#[inline(always)]
fn offer_to_one(
    recipient: Option<Recipient>,
    line: Line<'_>,
    sink: &mut impl Sink,
) -> Result<(), Full> {
    recipient.map_or(Ok(()), |recipient| sink.offer(Recipients::One(recipient), line))
}
