//! The index of a full chunk: where a crowd that comes back at once finds the events of each user.

use super::chunk::Chunk;
use super::record::Record;
use crate::protocol::{EventKind, UserId};

/// The events of a chunk by their users, and the lines of its broadcasts.
///
/// It takes 12 bytes per event, another 12 per follow, and 12 and its line per broadcast.
#[derive(Debug)]
pub(in crate::engine) struct Index {
    first: u64,
    /// In order.
    postings: Box<[Posting]>,
    broadcasts: Box<[Broadcast]>,
    /// The lines of the broadcasts, each ended by CRLF.
    text: Box<[u8]>,
}

/// The place of an event in its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Place {
    /// The sequence, less the first one of the chunk.
    delta: u32,
    offset: u16,
}

/// What a user has to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum Role {
    /// It receives a follow or a private message.
    Recipient,
    /// It is the author of a status update.
    Author,
    /// It follows another user from the event on, or not any more.
    Follower,
}

/// A user of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    /// The key of the user, which it may share with others.
    user: u32,
    role: Role,
    /// The fields of the [`Place`], which alone has padding.
    delta: u32,
    offset: u16,
}

impl Posting {
    fn place(&self) -> Place {
        Place { delta: self.delta, offset: self.offset }
    }
}

/// A broadcast.
#[derive(Clone, Copy, Debug)]
struct Broadcast {
    place: Place,
    /// The end of its line in the text.
    end: u32,
}

/// Consecutive broadcasts, with no other broadcast between them.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Broadcasts<'a> {
    index: &'a Index,
    start: usize,
    end: usize,
}

/// Maps most users to keys of their own.
fn key_of(UserId(id): UserId) -> u32 {
    (id ^ (id >> 32)) as u32
}

impl Index {
    /// The longest chunk, in bytes, because places have 16 bits.
    pub(super) const MAX_CHUNK_BYTES: usize = 1 << 16;

    /// Indexes a chunk. Takes about 40 ns per event.
    pub(super) fn of(chunk: &Chunk) -> Index {
        let mut postings = Vec::with_capacity(chunk.events() as usize);
        let (mut broadcasts, mut text) = (Vec::new(), Vec::new());
        for (offset, record) in chunk.records() {
            let delta = (record.sequence - chunk.first()) as u32;
            let place = Place { delta, offset: offset as u16 };
            let mut post = |user, role| {
                let Place { delta, offset } = place;
                postings.push(Posting { user: key_of(user), role, delta, offset });
            };
            match record.kind() {
                EventKind::Broadcast => {
                    text.extend_from_slice(record.wire_line().as_bytes());
                    broadcasts.push(Broadcast { place, end: text.len() as u32 });
                }
                EventKind::PrivateMessage { to, .. } => post(to, Role::Recipient),
                EventKind::StatusUpdate { from } => post(from, Role::Author),
                EventKind::Follow { followed, .. } => post(followed, Role::Recipient),
                EventKind::Unfollow { .. } => {}
            }
            if let Some((follower, _)) = record.changed_follow() {
                post(follower, Role::Follower);
            }
        }
        postings.sort_unstable();
        Index {
            first: chunk.first(),
            postings: postings.into_boxed_slice(),
            broadcasts: broadcasts.into_boxed_slice(),
            text: text.into_boxed_slice(),
        }
    }

    /// Returns the memory of the index, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Index>()
            + size_of_val(&*self.postings)
            + size_of_val(&*self.broadcasts)
            + self.text.len()
    }

    /// Iterates in order over the places of the events in which a user has a role, and perhaps of others.
    pub(in crate::engine) fn places(
        &self,
        user: UserId,
        role: Role,
    ) -> impl Iterator<Item = Place> + '_ {
        let user = key_of(user);
        let start =
            self.postings.partition_point(|posting| (posting.user, posting.role) < (user, role));
        self.postings[start..]
            .iter()
            .take_while(move |posting| (posting.user, posting.role) == (user, role))
            .map(Posting::place)
    }

    /// Returns the event at a place.
    pub(in crate::engine) fn record<'a>(
        &self,
        chunk: &'a Chunk,
        place: Place,
    ) -> Option<Record<'a>> {
        Some(chunk.record(place.offset(), self.sequence(place))?.0)
    }

    /// Returns the sequence of the event at a place.
    pub(in crate::engine) fn sequence(&self, place: Place) -> u64 {
        self.first + u64::from(place.delta)
    }

    /// Returns the broadcasts of a range of sequences.
    pub(in crate::engine) fn broadcasts(&self, from: u64, before: u64) -> Broadcasts<'_> {
        let index_of = |sequence| {
            self.broadcasts.partition_point(|broadcast| self.sequence(broadcast.place) < sequence)
        };
        Broadcasts { index: self, start: index_of(from), end: index_of(before) }
    }
}

impl Place {
    /// Returns where the record starts.
    pub(in crate::engine) fn offset(self) -> usize {
        self.offset.into()
    }
}

impl<'a> Broadcasts<'a> {
    /// Returns the number of broadcasts.
    pub(in crate::engine) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Splits them after the first `count`, or all.
    pub(in crate::engine) fn split_at(self, count: usize) -> (Broadcasts<'a>, Broadcasts<'a>) {
        let at = (self.start + count).min(self.end);
        (Broadcasts { end: at, ..self }, Broadcasts { start: at, ..self })
    }

    /// Returns their lines, each ended by CRLF.
    pub(in crate::engine) fn text(&self) -> &'a [u8] {
        let end_of = |count: usize| match count {
            0 => 0,
            count => self.index.broadcasts[count - 1].end as usize,
        };
        &self.index.text[end_of(self.start)..end_of(self.end)]
    }

    /// Returns the place of the first one.
    pub(in crate::engine) fn first(&self) -> Option<Place> {
        self.index.broadcasts[self.start..self.end].first().map(|broadcast| broadcast.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_small() {
        assert_eq!((size_of::<Posting>(), size_of::<Broadcast>()), (12, 12));
    }
}
