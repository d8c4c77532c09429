//! Who follows whom, and which of them are connected.

use super::id_set::IdSet;
use super::key_set::KeySet;
use super::paged_slab::PagedSlab;
use super::user_index::UserIndex;
use crate::protocol::UserId;

/// Where the deliveries for one connected user go: a name that the owner of the connections chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(pub u32);

/// A user that somebody follows, that follows somebody, or that is connected: one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct User {
    id: UserId,
    /// Where to reach the user; `None` while not connected.
    recipient: Option<Recipient>,
    /// How many users follow this one.
    followers: u32,
    /// Keys of the users that this one follows.
    following: KeySet,
    /// The recipients of those followers that are connected: all that a status update looks at.
    connected_followers: IdSet,
}

/// The follower graph, together with who of its users is connected.
///
/// What a status update costs depends on the *connected* followers alone. Follow and unfollow take
/// amortised constant time whoever is concerned; connecting and disconnecting take time in
/// proportion to the users that the one concerned follows. A user that is neither connected nor
/// part of a follow takes no memory.
///
/// Holds less than 2³² users. A user costs 64 bytes, and 4 to 12 to be found by its id; up to five
/// follows of a user cost nothing more, others 4 to 16 bytes each. That makes about 15 bytes a follow,
/// the users included, in a graph of a million users with ten follows each, and about 160 where each
/// follow names two users whom no other names. The table of ids below 2²⁰ has 4 MiB, of which only the
/// pages in use are resident.
///
/// What is unfollowed is freed: lists and tables become smaller with what they hold, and users are
/// kept in pages of 2,048, of which each is freed once it is empty.
#[derive(Debug, Default)]
pub struct FollowerGraph {
    users: PagedSlab<User>,
    /// Keys into `users`.
    index: UserIndex,
}

impl FollowerGraph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> FollowerGraph {
        FollowerGraph::default()
    }

    /// From now on `follower` follows `followed`; nothing changes if so before.
    pub fn follow(&mut self, follower: UserId, followed: UserId) {
        let follower_key = self.key_or_insert(follower);
        let followed_key = self.key_or_insert(followed);
        let follower = &mut self.users[follower_key as usize];
        if !follower.following.insert(followed_key) {
            return;
        }
        let recipient = follower.recipient;
        let followed = &mut self.users[followed_key as usize];
        followed.followers += 1;
        if let Some(recipient) = recipient {
            followed.connected_followers.insert(recipient.0);
        }
    }

    /// From now on `follower` does not follow `followed`; nothing changes if so before.
    pub fn unfollow(&mut self, follower: UserId, followed: UserId) {
        let (Some(follower_key), Some(followed_key)) = (self.key(follower), self.key(followed))
        else {
            return;
        };
        let follower = &mut self.users[follower_key as usize];
        if !follower.following.remove(followed_key) {
            return;
        }
        let recipient = follower.recipient;
        let followed = &mut self.users[followed_key as usize];
        followed.followers -= 1;
        if let Some(recipient) = recipient {
            followed.connected_followers.remove(recipient.0);
        }
        self.forget_if_unused(follower_key);
        if followed_key != follower_key {
            self.forget_if_unused(followed_key);
        }
    }

    /// The user is reached at `recipient` from now on. Returns where it was reached before.
    ///
    /// A recipient belongs to one user at a time.
    pub fn connect(&mut self, user: UserId, recipient: Recipient) -> Option<Recipient> {
        let key = self.key_or_insert(user);
        let replaced = self.users[key as usize].recipient.replace(recipient);
        self.move_follower(key, replaced, Some(recipient));
        replaced
    }

    /// The user is not reached at `recipient` any more; nothing changes if it is not now.
    pub fn disconnect(&mut self, user: UserId, recipient: Recipient) {
        let Some(key) = self.key(user) else { return };
        if self.users[key as usize].recipient != Some(recipient) {
            return;
        }
        self.users[key as usize].recipient = None;
        self.move_follower(key, Some(recipient), None);
        self.forget_if_unused(key);
    }

    /// Where the user is reached, if connected.
    #[inline]
    #[must_use]
    pub fn recipient(&self, user: UserId) -> Option<Recipient> {
        self.users[self.key(user)? as usize].recipient
    }

    /// Where the connected followers of a user are reached, each once, as the numbers inside
    /// their [`Recipient`]s.
    #[inline]
    #[must_use]
    pub fn connected_followers(&self, user: UserId) -> &[u32] {
        match self.key(user) {
            Some(key) => self.users[key as usize].connected_followers.as_slice(),
            None => &[],
        }
    }

    /// How many users take memory.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Forgets every follow. Who is connected stays so.
    pub fn clear_follows(&mut self) {
        let before = std::mem::take(self);
        for user in before.users.into_values() {
            if let Some(recipient) = user.recipient {
                self.connect(user.id, recipient);
            }
        }
    }

    /// Lets everybody whom `key` follows know that its recipient changed.
    fn move_follower(&mut self, key: u32, from: Option<Recipient>, to: Option<Recipient>) {
        // Taken out for the walk, since a user may follow itself.
        let following = std::mem::take(&mut self.users[key as usize].following);
        for followed in following.iter() {
            let connected = &mut self.users[followed as usize].connected_followers;
            if let Some(from) = from {
                connected.remove(from.0);
            }
            if let Some(to) = to {
                connected.insert(to.0);
            }
        }
        self.users[key as usize].following = following;
    }

    #[inline]
    fn key(&self, id: UserId) -> Option<u32> {
        self.index.get(id, |key| self.users[key as usize].id)
    }

    #[inline]
    fn key_or_insert(&mut self, id: UserId) -> u32 {
        self.key(id).unwrap_or_else(|| self.insert(id))
    }

    #[cold]
    fn insert(&mut self, id: UserId) -> u32 {
        let key = self.users.insert(User {
            id,
            recipient: None,
            followers: 0,
            following: KeySet::default(),
            connected_followers: IdSet::default(),
        });
        self.index.insert(id, key, |key| self.users[key as usize].id);
        key
    }

    /// Frees what a user takes that nothing refers to any more.
    fn forget_if_unused(&mut self, key: u32) {
        let user = &self.users[key as usize];
        if user.recipient.is_some() || user.followers > 0 || !user.following.is_empty() {
            return;
        }
        self.index.remove(user.id, |key| self.users[key as usize].id);
        self.users.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const A: UserId = UserId(1);
    const B: UserId = UserId(2);
    const C: UserId = UserId(3);

    fn followers(graph: &FollowerGraph, user: UserId) -> Vec<u32> {
        let mut followers = graph.connected_followers(user).to_vec();
        followers.sort_unstable();
        followers
    }

    #[test]
    fn a_follow_counts_whoever_is_connected_and_when() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, B);
        assert!(followers(&graph, B).is_empty(), "nobody is connected");
        assert_eq!(graph.connect(A, Recipient(10)), None);
        assert_eq!(followers(&graph, B), [10]);
        graph.connect(C, Recipient(30));
        graph.follow(C, B);
        assert_eq!(followers(&graph, B), [10, 30]);
        graph.disconnect(A, Recipient(10));
        assert_eq!(followers(&graph, B), [30]);
        graph.connect(A, Recipient(11));
        assert_eq!(followers(&graph, B), [11, 30]);
    }

    #[test]
    fn follows_are_idempotent() {
        let mut graph = FollowerGraph::new();
        graph.connect(A, Recipient(10));
        graph.follow(A, B);
        graph.follow(A, B);
        graph.unfollow(A, B);
        assert!(followers(&graph, B).is_empty());
        graph.unfollow(A, B);
        graph.unfollow(C, A);
        graph.follow(A, B);
        assert_eq!(followers(&graph, B), [10]);
    }

    #[test]
    fn one_may_follow_oneself() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, A);
        graph.connect(A, Recipient(10));
        assert_eq!(followers(&graph, A), [10]);
        graph.connect(A, Recipient(11));
        assert_eq!(followers(&graph, A), [11]);
        graph.disconnect(A, Recipient(11));
        graph.unfollow(A, A);
        assert_eq!(graph.users(), 0);
    }

    #[test]
    fn the_newer_connection_replaces_the_older() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, B);
        graph.connect(A, Recipient(10));
        assert_eq!(graph.connect(A, Recipient(20)), Some(Recipient(10)));
        assert_eq!((graph.recipient(A), followers(&graph, B)), (Some(Recipient(20)), vec![20]));
        graph.disconnect(A, Recipient(10));
        assert_eq!(graph.recipient(A), Some(Recipient(20)), "the older one is gone already");
    }

    #[test]
    fn users_without_connection_and_follows_take_no_memory() {
        let mut graph = FollowerGraph::new();
        for id in 0..1000 {
            graph.connect(UserId(id), Recipient(7));
            graph.disconnect(UserId(id), Recipient(7));
            graph.follow(UserId(id), UserId(id + 1));
            graph.unfollow(UserId(id), UserId(id + 1));
        }
        assert_eq!(graph.users(), 0);
        graph.follow(A, B);
        assert_eq!(graph.users(), 2);
    }

    #[test]
    fn a_user_takes_a_cache_line() {
        assert_eq!(PagedSlab::<User>::ENTRY_BYTES, 64);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Follow(u64, u64),
        Unfollow(u64, u64),
        Connect(u64),
        Disconnect(u64),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let user = 0..50_u64;
        let pair = (0..6_u64, user.clone());
        let step = prop_oneof![
            40 => pair.clone().prop_map(|(a, b)| Step::Follow(a, b)),
            20 => pair.clone().prop_map(|(a, b)| Step::Unfollow(a, b)),
            20 => pair.clone().prop_map(|(a, b)| Step::Follow(b, a)),
            10 => pair.prop_map(|(a, b)| Step::Unfollow(b, a)),
            10 => user.clone().prop_map(Step::Connect),
            10 => user.prop_map(Step::Disconnect),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..500)
    }

    proptest! {
        #[test]
        fn it_does_what_plain_sets_do(steps in steps()) {
            let mut graph = FollowerGraph::new();
            let mut follows: BTreeSet<(u64, u64)> = BTreeSet::new();
            let mut connected: BTreeMap<u64, u32> = BTreeMap::new();
            for (next_recipient, step) in (0..).zip(steps) {
                match step {
                    Step::Follow(a, b) => {
                        graph.follow(UserId(a), UserId(b));
                        follows.insert((a, b));
                    }
                    Step::Unfollow(a, b) => {
                        graph.unfollow(UserId(a), UserId(b));
                        follows.remove(&(a, b));
                    }
                    Step::Connect(a) => {
                        let replaced = graph.connect(UserId(a), Recipient(next_recipient));
                        prop_assert_eq!(replaced.map(|r| r.0), connected.insert(a, next_recipient));
                    }
                    Step::Disconnect(a) => {
                        let recipient = connected.remove(&a).unwrap_or(u32::MAX);
                        graph.disconnect(UserId(a), Recipient(recipient));
                    }
                    Step::Clear => {
                        graph.clear_follows();
                        follows.clear();
                    }
                }
            }
            let mut named: BTreeSet<u64> = connected.keys().copied().collect();
            named.extend(follows.iter().flat_map(|&(a, b)| [a, b]));
            prop_assert_eq!(graph.users(), named.len());
            for user in 0..50 {
                let mut expected: Vec<u32> = follows
                    .iter()
                    .filter(|&&(_, followed)| followed == user)
                    .filter_map(|(follower, _)| connected.get(follower).copied())
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(followers(&graph, UserId(user)), expected);
                let recipient = connected.get(&user).map(|&r| Recipient(r));
                prop_assert_eq!(graph.recipient(UserId(user)), recipient);
            }
        }
    }
}
