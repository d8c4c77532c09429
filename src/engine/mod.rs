//! What events mean. Pure and deterministic: no I/O, no clock, no log, no random source.
//!
//! Lines go in as they arrive; what is due goes out, in order, through a [`Sink`]:
//!
//! ```text
//! Event ─▶ ReorderBuffer ─in sequence─▶ FollowerGraph ─(audience, line)─▶ Sink
//! ```
//!
//! The sink may refuse an event for want of room. Then nothing of it has happened: it stays at the
//! head of the order until [`Engine::apply_next`] is called again.

mod graph;
mod line_store;
mod paged_slab;
mod recipient_table;
mod reorder;
mod sets;
mod slot;
#[cfg(test)]
mod tests;
mod user_index;

use std::ops::Range;

pub use graph::{FollowerGraph, Recipient, Registration};
pub use reorder::{Head, InsertOutcome, ReorderBuffer};

use crate::protocol::{CompactEvent, Event, EventKind, Line, Sequence, UserId};

/// Who is told of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<'a> {
    /// One connected user.
    One(Recipient),
    /// Several registered users, each once: the numbers inside their [`Recipient`]s. Numbers of users
    /// that are registered no more may be among them, to be passed over.
    Many(&'a [u32]),
    /// Everybody who is connected.
    All,
}

/// What a [`Sink`] did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// It is queued for every one of its audience.
    Taken,
    /// There is no room for it: it is queued for nobody.
    Refused,
}

/// Where deliveries go.
pub trait Sink {
    /// Takes an event's line for all of `audience`, or for none of it.
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Offer;
}

/// What became of the awaited sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its turn is over.
    Applied,
    /// The sink has no room for it.
    Blocked,
    /// It has not arrived.
    Idle,
}

/// What the engine has counted since it was made.
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
    /// Sequences whose turn passed with nothing but a malformed line.
    pub void: u64,
    /// Well-formed lines dropped since the same sequence waited already.
    pub duplicate: u64,
    /// Well-formed lines dropped since the turn of their sequence was over.
    pub late: u64,
    /// Sequences skipped as missing, and events thrown away behind a gap by a reset.
    pub lost: u64,
}

impl Counters {
    /// Events applied, of all types.
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

/// The order of events, and what each of them does.
#[derive(Debug)]
pub struct Engine {
    first: Sequence,
    reorder: ReorderBuffer,
    graph: FollowerGraph,
    counters: Counters,
}

impl Engine {
    /// An engine that awaits `first`, with nobody connected and nobody followed.
    ///
    /// A sequence `window` or more ahead of the awaited one is refused.
    #[must_use]
    pub fn new(first: Sequence, window: u32) -> Engine {
        Engine {
            first,
            reorder: ReorderBuffer::new(first, window),
            graph: FollowerGraph::new(),
            counters: Counters::default(),
        }
    }

    /// Takes an event that is new and not far ahead: what a well-behaved source sends. Else nothing
    /// happens, and [`receive`](Self::receive) decides.
    #[inline(always)]
    pub fn admit(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        self.reorder.admit(event, line)
    }

    /// Takes an event and its line as it arrived, until [`apply_next`](Self::apply_next) applies it.
    pub fn receive(&mut self, event: &Event, line: Line<'_>) -> InsertOutcome {
        let receipt = self.reorder.insert(event, line);
        match receipt {
            InsertOutcome::Duplicate => self.counters.duplicate += 1,
            InsertOutcome::Late => self.counters.late += 1,
            InsertOutcome::Buffered | InsertOutcome::OutOfWindow => {}
        }
        receipt
    }

    /// Takes the sequence of a malformed line: its turn is to pass without an event, unless an
    /// event with the same sequence comes before.
    pub fn insert_void(&mut self, sequence: Sequence) -> InsertOutcome {
        self.reorder.insert_void(sequence)
    }

    /// Applies the awaited event if it has arrived, or passes over a void.
    #[inline]
    pub fn apply_next(&mut self, sink: &mut impl Sink) -> Progress {
        match self.reorder.head() {
            Head::Missing => return Progress::Idle,
            Head::Void => self.counters.void += 1,
            Head::Event(kind, line) => {
                if apply(kind, line, &mut self.graph, sink) == Offer::Refused {
                    return Progress::Blocked;
                }
                self.counters.count(kind);
            }
        }
        self.reorder.advance();
        Progress::Applied
    }

    /// Whether [`apply_next`](Self::apply_next) has something to do.
    #[inline]
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.reorder.head() != Head::Missing
    }

    /// Registers a user: see [`FollowerGraph::register`].
    pub fn register(&mut self, user: UserId) -> Registration {
        self.graph.register(user)
    }

    /// Unregisters a user; nothing changes if it is not registered.
    pub fn unregister(&mut self, user: UserId) {
        self.graph.unregister(user);
    }

    /// What the users that are not indexed yet may add to the cost of an event, in events.
    #[inline]
    #[must_use]
    pub fn index_cost(&self) -> usize {
        self.graph.unindexed_users() / 16
    }

    /// Brings lists of followers up to date: see [`FollowerGraph::index_some`].
    pub fn index_some(&mut self, steps: usize) {
        self.graph.index_some(steps);
    }

    /// The sequence whose turn it is; 2⁶⁴−1 once every sequence is over.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.reorder.awaited()
    }

    /// The missing sequences that hold up what waits behind them. Costs time in proportion to
    /// their number; [`has_gap`](Self::has_gap) does not.
    #[must_use]
    pub fn gap(&self) -> Option<Range<u64>> {
        self.reorder.gap()
    }

    /// Whether something waits behind a missing sequence, which is the awaited one.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.reorder.occupied() > 0 && !self.has_ready()
    }

    /// Gives the missing sequences of the [`gap`](Self::gap) up as lost, and says which.
    pub fn skip_gap(&mut self) -> Option<Range<u64>> {
        let gap = self.reorder.skip_gap()?;
        self.counters.lost += gap.end - gap.start;
        Some(gap)
    }

    /// Starts the order and the graph anew; who is connected stays so. Returns how many events
    /// waited and are lost.
    pub fn reset(&mut self) -> usize {
        let lost = self.reorder.reset(self.first);
        self.counters.lost += lost as u64;
        self.graph.clear_follows();
        lost
    }

    /// What was counted so far; a reset does not change it.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The buffer of what waits, to look at.
    #[must_use]
    pub fn reorder(&self) -> &ReorderBuffer {
        &self.reorder
    }

    /// The follower graph, to look at.
    #[must_use]
    pub fn graph(&self) -> &FollowerGraph {
        &self.graph
    }
}

/// Offers an event to its audience and, once it is taken, does to the graph what it says.
#[inline]
fn apply(
    kind: EventKind,
    line: Line<'_>,
    graph: &mut FollowerGraph,
    sink: &mut impl Sink,
) -> Offer {
    match kind {
        EventKind::Broadcast => sink.offer(Recipients::All, line),
        EventKind::PrivateMessage { to, .. } => offer_to_one(graph.recipient(to), line, sink),
        EventKind::StatusUpdate { from } if graph.is_any_unindexed() => {
            offer_to_unindexed_too(from, line, graph, sink)
        }
        EventKind::StatusUpdate { from } => {
            offer_to_several(graph.indexed_followers(from), line, sink)
        }
        EventKind::Follow { follower, followed } => {
            let offer = offer_to_one(graph.recipient(followed), line, sink);
            if offer == Offer::Taken {
                graph.follow(follower, followed);
            }
            offer
        }
        EventKind::Unfollow { follower, followed } => {
            graph.unfollow(follower, followed);
            Offer::Taken
        }
    }
}

#[inline]
fn offer_to_several(recipients: &[u32], line: Line<'_>, sink: &mut impl Sink) -> Offer {
    match recipients {
        [] => Offer::Taken,
        recipients => sink.offer(Recipients::Many(recipients), line),
    }
}

#[cold]
fn offer_to_unindexed_too(
    from: UserId,
    line: Line<'_>,
    graph: &FollowerGraph,
    sink: &mut impl Sink,
) -> Offer {
    let mut followers = graph.indexed_followers(from).to_vec();
    graph.append_unindexed_followers(from, &mut followers);
    offer_to_several(&followers, line, sink)
}

#[inline]
fn offer_to_one(recipient: Option<Recipient>, line: Line<'_>, sink: &mut impl Sink) -> Offer {
    recipient.map_or(Offer::Taken, |recipient| sink.offer(Recipients::One(recipient), line))
}
