//! The entries that were read, as fingerprints.

use std::collections::VecDeque;

use super::engine::Position;
use super::entry::Entry;
use super::replica::Trouble;

/// The number of newest entries whose links are kept. Entries name a base that their server had read a
/// moment before, so more are not needed. They take 2 MiB.
const MAX_LINKS: usize = 1 << 16;

/// A place in the stream with a fingerprint of everything before it. Servers with equal links have read equal
/// entries in the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The position of the last entry.
    pub position: Position,
    /// The chain of the fingerprints of all entries up to this one.
    pub chain: u64,
}

impl Link {
    /// Returns the link after an entry.
    #[must_use]
    pub fn then(self, position: Position, fingerprint: u64) -> Link {
        Link { position, chain: mix(self.chain.rotate_left(1) ^ fingerprint) }
    }
}

/// What a server remembers of an entry that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The link after the entry.
    pub link: Link,
    /// The fingerprint of the entry.
    pub fingerprint: u64,
    /// The bytes of all entries up to this one, since the server's start.
    pub bytes: u64,
}

/// The newest entries that a server has read. There is always one.
#[derive(Clone, Debug)]
pub struct History {
    newest: Remembered,
    older: VecDeque<Remembered>,
}

impl History {
    /// Creates the history of a server that starts after an entry.
    #[must_use]
    pub fn starting_at(link: Link, fingerprint: u64) -> History {
        History { newest: Remembered { link, fingerprint, bytes: 0 }, older: VecDeque::new() }
    }

    /// Returns the newest entry.
    #[must_use]
    pub fn newest(&self) -> &Remembered {
        &self.newest
    }

    /// Adds the next entry of the stream, which this server is about to apply.
    ///
    /// # Errors
    ///
    /// The entry does not begin where the last one ended, or before.
    pub fn admit(&mut self, entry: &Entry) -> Result<(), Trouble> {
        let (awaited, position) = (self.newest.link.position.0, entry.next);
        if entry.first > awaited {
            let reason = format!(
                "the entry at {position} begins with sequence {}, but {awaited} is awaited",
                entry.first
            );
            return Err(Trouble::Diverged { first: awaited, next: entry.first, reason });
        }
        self.push(position, entry.fingerprint, entry.bytes.len());
        Ok(())
    }

    fn push(&mut self, position: Position, fingerprint: u64, bytes: usize) {
        if self.older.len() == MAX_LINKS {
            self.older.pop_front();
        }
        self.older.push_back(self.newest);
        self.newest = Remembered {
            link: self.newest.link.then(position, fingerprint),
            fingerprint,
            bytes: self.newest.bytes + bytes as u64,
        };
    }

    /// Returns whether a link contradicts this history. One from before the history does not.
    #[must_use]
    pub fn contradicts(&self, link: Link) -> bool {
        if link == Link::default() || link == self.newest.link {
            return false;
        }
        self.is_recent(link.position)
            && self.find(link.position).is_none_or(|known| known.link != link)
    }

    /// Returns whether the entries around a position are remembered.
    #[must_use]
    pub fn is_recent(&self, position: Position) -> bool {
        self.older.front().unwrap_or(&self.newest).link.position <= position
    }

    /// Returns the entry at a position, if it is remembered.
    #[must_use]
    pub fn find(&self, position: Position) -> Option<&Remembered> {
        if position == self.newest.link.position {
            return Some(&self.newest);
        }
        let index = self.older.binary_search_by_key(&position, |known| known.link.position);
        index.ok().and_then(|index| self.older.get(index))
    }

    /// Returns the last entry before a position, if it is remembered.
    #[must_use]
    pub fn predecessor(&self, position: Position) -> Option<&Remembered> {
        let index = self.older.partition_point(|known| known.link.position < position);
        self.older.get(index.checked_sub(1)?)
    }

    /// Returns the number of bytes of the entries after a position, as far as they are remembered.
    #[must_use]
    pub fn bytes_after(&self, position: Position) -> u64 {
        let oldest = self.older.front().unwrap_or(&self.newest);
        let before = self.find(position).unwrap_or(oldest);
        self.newest.bytes - before.bytes
    }
}

/// The finalizer of `SplitMix64`: a bijection in which each input bit changes each output bit with a
/// probability of about one half.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
