//! The follower graph.

use super::paged_slab::PagedSlab;
use super::recipient_table::{RecipientTable, Walk, WalkTask};
use super::sets::HybridSet;
use super::sets::SmallIndexSet;
use super::state_hash::{FollowSum, StateHash};
use super::user_index::UserIndex;
use crate::protocol::UserId;

/// The delivery address of a registered user: a small number, assigned while the user is registered and
/// for some time after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(pub u32);

/// A user that is registered or part of a follow: one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct User {
    id: UserId,
    /// The recipient of the user. `None` if the user is neither registered nor in any list.
    recipient: Option<Recipient>,
    /// Whether the user is registered. An unregistered user with a recipient may still be in lists.
    is_registered: bool,
    /// The number of followers.
    followers: u32,
    /// The keys of the followees.
    following: HybridSet,
    /// The list of the user: the recipients of all indexed followers. It may hold some that are no longer
    /// registered. A status update reads this list, and checks the unindexed users.
    indexed_followers: SmallIndexSet,
}

/// The follower graph and the registrations of its users.
///
/// The cost of a status update depends only on the *registered* followers. Follow and unfollow take
/// amortised constant time, and so do registering and unregistering, for any number of followees:
/// [`index_some`](Self::index_some) updates the lists of the followees later, a few at a time. Until then
/// each status update checks for every unindexed user whether it follows the author. A user that is neither
/// registered nor part of a follow takes no memory.
///
/// The graph holds less than 2³² users. A user takes 64 bytes, and 4 to 12 bytes in the index of ids. Up to
/// five follows per user take no further memory, others 4 to 16 bytes each. This makes about 15 bytes per
/// follow, users included, in a graph of a million users with ten follows each, and about 160 bytes if no
/// two follows share a user. The index of ids below 2²⁰ takes 4 MiB, of which only the pages in use are
/// resident.
///
/// Unfollows free memory: lists and tables shrink with their content, and each page of 2,048 users is freed
/// once it is empty.
#[derive(Debug, Default)]
pub struct FollowerGraph {
    users: PagedSlab<User>,
    /// The keys in `users`, by id.
    index: UserIndex,
    recipients: RecipientTable,
    follow_count: usize,
    /// The users before the last reset, which are freed a few at a time.
    retired: PagedSlab<User>,
    /// The sum over all follows, if it is kept up to date.
    sum: Option<FollowSum>,
}

/// The result of registering a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The recipient of the user.
    pub recipient: Recipient,
    /// Whether the user was already registered.
    pub was_registered: bool,
}

/// The followees of one user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followees<'a> {
    graph: &'a FollowerGraph,
    /// `None` if there are none.
    following: Option<&'a HybridSet>,
}

impl Followees<'_> {
    /// Returns the followees, unless they are more than `max`.
    pub(super) fn at_most(self, max: usize) -> Option<Vec<UserId>> {
        let Some(following) = self.following else { return Some(Vec::new()) };
        let keys = following.iter().take(max + 1);
        let ids: Vec<UserId> = keys.map(|key| self.graph.users[key as usize].id).collect();
        (ids.len() <= max).then_some(ids)
    }

    /// Returns whether the user follows `followed`.
    #[inline]
    pub(super) fn contains(self, followed: UserId) -> bool {
        self.following.is_some_and(|following| {
            self.graph.key(followed).is_some_and(|key| following.contains(key))
        })
    }
}

impl FollowerGraph {
    /// Creates an empty graph.
    #[must_use]
    pub fn new() -> FollowerGraph {
        FollowerGraph::default()
    }

    /// Creates an empty graph that keeps its [`state_hash`](Self::state_hash) up to date, which adds about
    /// 10 ns to each change of a follow.
    #[must_use]
    pub fn with_state_hash() -> FollowerGraph {
        FollowerGraph { sum: Some(FollowSum::default()), ..FollowerGraph::default() }
    }

    /// Returns the hash of the follows together with the awaited sequence. `None` unless the graph keeps it
    /// up to date.
    #[must_use]
    pub fn state_hash(&self, awaited: u64) -> Option<StateHash> {
        self.sum.map(|sum| sum.with_awaited(awaited))
    }

    /// Iterates over all follows as pairs of follower and followed, those of one follower in a row.
    pub fn follows(&self) -> impl Iterator<Item = (UserId, UserId)> {
        self.users.values().flat_map(|user| {
            let followees = user.following.iter();
            followees.map(|followed| (user.id, self.users[followed as usize].id))
        })
    }

    /// Adds a follow. Without effect if it exists.
    pub fn follow(&mut self, follower: UserId, followed: UserId) {
        self.try_follow(follower, followed);
    }

    /// Adds a follow. Returns whether it is new.
    #[inline]
    pub(crate) fn try_follow(&mut self, follower: UserId, followed: UserId) -> bool {
        let follower_key = self.key_or_insert(follower);
        let followed_key = self.key_or_insert(followed);
        if !self.update_followees(follower_key, |following| following.insert(followed_key)) {
            return false;
        }
        self.follow_count += 1;
        if let Some(sum) = &mut self.sum {
            sum.add(follower, followed);
        }
        let follower = &self.users[follower_key as usize];
        let recipient = follower.recipient.filter(|_| follower.is_registered);
        let followed = &mut self.users[followed_key as usize];
        followed.followers += 1;
        if let Some(recipient) = recipient {
            followed.indexed_followers.insert(recipient.0);
        }
        true
    }

    /// Removes a follow. Without effect if it does not exist.
    pub fn unfollow(&mut self, follower: UserId, followed: UserId) {
        self.try_unfollow(follower, followed);
    }

    /// Removes a follow. Returns whether it existed.
    #[inline]
    pub(crate) fn try_unfollow(&mut self, follower: UserId, followed: UserId) -> bool {
        let (Some(follower_key), Some(followed_key)) = (self.key(follower), self.key(followed))
        else {
            return false;
        };
        if !self.update_followees(follower_key, |following| following.remove(followed_key)) {
            return false;
        }
        self.follow_count -= 1;
        if let Some(sum) = &mut self.sum {
            sum.subtract(follower, followed);
        }
        let recipient = self.users[follower_key as usize].recipient;
        let followed = &mut self.users[followed_key as usize];
        followed.followers -= 1;
        if let Some(recipient) = recipient {
            followed.indexed_followers.remove(recipient.0);
        }
        self.remove_if_unreferenced(follower_key);
        if followed_key != follower_key {
            self.remove_if_unreferenced(followed_key);
        }
        true
    }

    /// Returns the followees of a user.
    #[must_use]
    pub(super) fn followees(&self, user: UserId) -> Followees<'_> {
        let following = self.key(user).map(|key| &self.users[key as usize].following);
        Followees { graph: self, following: following.filter(|following| !following.is_empty()) }
    }

    /// Changes the followees of a user, and restarts a walk over them that could miss a moved one.
    #[inline]
    fn update_followees(&mut self, key: u32, change: impl FnOnce(&mut HybridSet) -> bool) -> bool {
        let user = &mut self.users[key as usize];
        let Some(recipient) = user.recipient.filter(|_| !self.recipients.is_up_to_date()) else {
            return change(&mut user.following);
        };
        let form = user.following.form();
        let is_changed = change(&mut user.following);
        if user.following.form() != form {
            self.recipients.restart_walk(recipient);
        }
        is_changed
    }

    /// Registers a user. Events applied afterwards are delivered to the returned recipient.
    pub fn register(&mut self, user: UserId) -> Registration {
        let key = self.key_or_insert(user);
        let user = &mut self.users[key as usize];
        let was_registered = std::mem::replace(&mut user.is_registered, true);
        let has_follows = !user.following.is_empty();
        let recipient = match user.recipient {
            Some(recipient) => recipient,
            None => *user.recipient.insert(self.recipients.add(key)),
        };
        if !was_registered && has_follows {
            self.recipients.begin_indexing(recipient);
        } else if !was_registered {
            self.recipients.finish_unindexing(recipient);
        }
        Registration { recipient, was_registered }
    }

    /// Unregisters a user. Without effect if it is not registered.
    pub fn unregister(&mut self, user: UserId) {
        let Some(key) = self.key(user) else { return };
        let user = &mut self.users[key as usize];
        if !std::mem::replace(&mut user.is_registered, false) {
            return;
        }
        let has_follows = !user.following.is_empty();
        let Some(recipient) = user.recipient else { return };
        if has_follows {
            self.recipients.begin_unindexing(recipient);
        } else {
            self.free_recipient(key, recipient);
        }
    }

    /// Updates lists of followers, in about `steps` steps of constant time: one half adds registered users,
    /// the other removes unregistered ones. Then frees about as many users of a graph that was reset.
    pub fn index_some(&mut self, steps: usize) {
        self.retired.free_some(steps);
        for task in [WalkTask::Index, WalkTask::Unindex] {
            let mut left = steps.div_ceil(2);
            while left > 0
                && let Some(mut walk) = self.recipients.next_walk(task)
            {
                let Recipient(number) = walk.recipient;
                let is_complete = self.walk_followees(&mut walk, &mut left, |followers| {
                    match task {
                        WalkTask::Index => followers.insert(number),
                        WalkTask::Unindex => followers.remove(number),
                    };
                });
                match (is_complete, task) {
                    (false, _) => self.recipients.save_cursor(&walk),
                    (true, WalkTask::Index) => self.recipients.finish_indexing(walk.recipient),
                    (true, WalkTask::Unindex) => self.free_recipient(walk.user, walk.recipient),
                }
            }
        }
    }

    /// Returns whether [`index_some`](Self::index_some) has nothing left to do.
    #[must_use]
    pub fn is_index_complete(&self) -> bool {
        self.recipients.is_up_to_date() && self.retired.is_empty()
    }

    /// Returns the number of unindexed users, which each status update has to check.
    #[inline]
    #[must_use]
    pub fn unindexed_users(&self) -> usize {
        self.recipients.unindexed().len()
    }

    /// Visits the lists of the next followees of a walk. Returns whether the walk is complete.
    fn walk_followees(
        &mut self,
        walk: &mut Walk,
        steps: &mut usize,
        mut visit: impl FnMut(&mut SmallIndexSet),
    ) -> bool {
        // Taken out during the walk, because a user may follow itself.
        let following = std::mem::take(&mut self.users[walk.user as usize].following);
        let users = &mut self.users;
        let is_complete = following.walk(&mut walk.cursor, steps, |followed| {
            visit(&mut users[followed as usize].indexed_followers);
        });
        self.users[walk.user as usize].following = following;
        *steps = steps.saturating_sub(1);
        is_complete
    }

    fn free_recipient(&mut self, key: u32, recipient: Recipient) {
        self.users[key as usize].recipient = None;
        self.recipients.remove(recipient);
        self.remove_if_unreferenced(key);
    }

    /// Returns the recipient of a user, if it is registered.
    #[inline]
    #[must_use]
    pub fn recipient(&self, user: UserId) -> Option<Recipient> {
        let user = &self.users[self.key(user)? as usize];
        user.recipient.filter(|_| user.is_registered)
    }

    /// Returns the recipients of the indexed followers of a user, each once, as the numbers inside their
    /// [`Recipient`]s. Some may belong to users that are no longer registered. Unindexed followers may be
    /// missing: see [`append_unindexed_followers`](Self::append_unindexed_followers).
    #[inline]
    #[must_use]
    pub fn indexed_followers(&self, user: UserId) -> &[u32] {
        match self.key(user) {
            Some(key) => self.users[key as usize].indexed_followers.as_slice(),
            None => &[],
        }
    }

    /// Returns whether there are unindexed users.
    #[inline]
    pub(super) fn is_any_unindexed(&self) -> bool {
        self.recipients.is_any_unindexed()
    }

    /// Appends the recipients of registered followers that the
    /// [`indexed_followers`](Self::indexed_followers) lack.
    pub fn append_unindexed_followers(&self, user: UserId, recipients: &mut Vec<u32>) {
        let Some(key) = self.key(user) else { return };
        let indexed = &self.users[key as usize].indexed_followers;
        let missing = self.recipients.unindexed().filter(|&(recipient, follower)| {
            self.users[follower as usize].following.contains(key) && !indexed.contains(recipient)
        });
        recipients.extend(missing.map(|(recipient, _)| recipient));
    }

    /// Returns the number of stored users.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Returns the number of follows.
    #[must_use]
    pub fn follow_count(&self) -> usize {
        self.follow_count
    }

    /// Removes all follows. Registered users stay registered.
    ///
    /// Takes time linear in the number of recipients: [`index_some`](Self::index_some) frees the users
    /// later. What is left of those of an earlier reset is freed at once, so that memory stays bounded.
    pub fn clear_follows(&mut self) {
        let FollowerGraph { users, recipients, sum, .. } = std::mem::take(self);
        self.sum = sum.map(|_| FollowSum::default());
        let mut registered = Vec::new();
        for (recipient, key) in recipients.users() {
            let User { id, is_registered, .. } = users[key as usize];
            if is_registered {
                let key = self.insert(id);
                self.users[key as usize].recipient = Some(recipient);
                self.users[key as usize].is_registered = true;
                registered.push((recipient, key));
            }
        }
        self.recipients = recipients;
        self.recipients.reset(registered);
        self.retired = users;
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
            is_registered: false,
            followers: 0,
            following: HybridSet::default(),
            indexed_followers: SmallIndexSet::default(),
        });
        self.index.insert(id, key, |key| self.users[key as usize].id);
        key
    }

    /// Removes a user that is neither registered nor part of a follow nor in a list.
    fn remove_if_unreferenced(&mut self, key: u32) {
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

    /// Returns the registered followers of a user as a status update finds them.
    fn followers(graph: &FollowerGraph, user: UserId) -> Vec<u32> {
        let mut followers = graph.indexed_followers(user).to_vec();
        graph.append_unindexed_followers(user, &mut followers);
        let is_registered = |&number: &u32| {
            graph.users[graph.recipients.user(Recipient(number)) as usize].is_registered
        };
        followers.retain(is_registered);
        followers.sort_unstable();
        followers
    }

    fn register(graph: &mut FollowerGraph, user: UserId) -> u32 {
        graph.register(user).recipient.0
    }

    #[test]
    fn follows_and_registrations_may_come_in_any_order() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, B);
        assert!(followers(&graph, B).is_empty(), "no user is registered");
        let a = register(&mut graph, A);
        assert_eq!(followers(&graph, B), [a]);
        let c = register(&mut graph, C);
        graph.follow(C, B);
        assert_eq!(followers(&graph, B), [a, c]);
        graph.unregister(A);
        assert_eq!(followers(&graph, B), [c]);
        let a = register(&mut graph, A);
        assert_eq!(followers(&graph, B), [a, c]);
    }

    #[test]
    fn follows_are_idempotent() {
        let mut graph = FollowerGraph::new();
        let a = register(&mut graph, A);
        graph.follow(A, B);
        graph.follow(A, B);
        graph.unfollow(A, B);
        assert!(followers(&graph, B).is_empty());
        graph.unfollow(A, B);
        graph.unfollow(C, A);
        graph.follow(A, B);
        assert_eq!(followers(&graph, B), [a]);
    }

    #[test]
    fn a_user_may_follow_itself() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, A);
        let a = register(&mut graph, A);
        assert_eq!(followers(&graph, A), [a]);
        assert_eq!(
            graph.register(A),
            Registration { recipient: Recipient(a), was_registered: true }
        );
        assert_eq!(followers(&graph, A), [a]);
        graph.unregister(A);
        graph.unfollow(A, A);
        graph.index_some(10);
        assert_eq!(graph.users(), 0);
    }

    #[test]
    fn who_comes_back_following_nobody_is_reached_though_lists_were_being_cleared() {
        let mut graph = FollowerGraph::new();
        graph.follow(A, B);
        register(&mut graph, A);
        graph.index_some(10);
        graph.unregister(A);
        graph.unfollow(A, B);
        let a = register(&mut graph, A);
        graph.index_some(10);
        assert_eq!(graph.recipient(A), Some(Recipient(a)));
        graph.follow(A, B);
        assert_eq!(followers(&graph, B), [a]);
    }

    #[test]
    fn users_without_registration_and_follows_take_no_memory() {
        let mut graph = FollowerGraph::new();
        for id in 0..1000 {
            graph.register(UserId(id));
            graph.unregister(UserId(id));
            graph.follow(UserId(id), UserId(id + 1));
            graph.unfollow(UserId(id), UserId(id + 1));
        }
        assert_eq!(graph.users(), 0);
        graph.follow(A, B);
        assert_eq!(graph.users(), 2);
    }

    #[test]
    fn registration_takes_constant_time_for_any_number_of_followees() {
        let mut graph = FollowerGraph::new();
        (0..100_000).for_each(|id| graph.follow(A, UserId(1000 + id)));
        for _ in 0..10 {
            register(&mut graph, A);
            graph.index_some(1000);
            graph.unregister(A);
            graph.index_some(1000);
        }
        let indexed = |graph: &FollowerGraph| {
            (0..100_000).filter(|id| !graph.indexed_followers(UserId(1000 + id)).is_empty()).count()
        };
        assert!(indexed(&graph) <= 10 * 500, "at most one list per step is updated");
        let a = register(&mut graph, A);
        assert_eq!(followers(&graph, UserId(100_000)), [a], "unindexed, but a recipient");
        graph.index_some(usize::MAX);
        assert!(graph.is_index_complete());
        assert_eq!(indexed(&graph), 100_000);
        graph.unregister(A);
        graph.index_some(usize::MAX);
        assert_eq!(indexed(&graph), 0);
    }

    #[test]
    fn a_reset_frees_users_a_few_at_a_time() {
        const USERS: u64 = 100_000;
        const STEPS: usize = 8192;
        let mut graph = FollowerGraph::new();
        let a = register(&mut graph, A);
        (0..USERS).for_each(|id| graph.follow(UserId(1000 + id), A));
        (0..USERS).for_each(|id| graph.follow(A, UserId(1000 + id)));
        graph.clear_follows();
        assert_eq!((graph.users(), graph.follow_count()), (1, 0));
        assert_eq!(graph.retired.len() as u64, USERS + 1, "the reset visits registered users only");
        for step in 0.. {
            let before = graph.retired.len();
            graph.index_some(STEPS);
            assert!(before - graph.retired.len() <= STEPS);
            if graph.is_index_complete() {
                assert_eq!(step, USERS as usize / STEPS);
                break;
            }
        }
        graph.follow(A, B);
        assert_eq!(followers(&graph, B), [a]);
        graph.clear_follows();
        graph.follow(A, C);
        graph.clear_follows();
        assert_eq!(graph.retired.len(), 2, "those of one reset are kept at most");
    }

    #[test]
    fn a_status_update_of_a_celebrity_visits_connected_followers_only() {
        const FOLLOWERS: u64 = 100_000;
        let mut graph = FollowerGraph::new();
        (0..FOLLOWERS).for_each(|id| graph.follow(UserId(1000 + id), A));
        let registered: Vec<u32> =
            (0..10).map(|id| register(&mut graph, UserId(1000 + id * 7))).collect();
        graph.index_some(usize::MAX);
        assert_eq!(graph.indexed_followers(A).len(), registered.len());
        assert_eq!(followers(&graph, A), registered);
        // Follows and unfollows change one list each, whatever its length.
        for id in 0..FOLLOWERS {
            graph.unfollow(UserId(1000 + id), A);
        }
        assert_eq!((graph.users(), graph.indexed_followers(A).len()), (10, 0));
    }

    #[test]
    fn a_user_takes_a_cache_line() {
        assert_eq!(PagedSlab::<User>::ENTRY_BYTES, 64);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Follow(u64, u64),
        Unfollow(u64, u64),
        Register(u64),
        Unregister(u64),
        Index(usize),
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
            10 => user.clone().prop_map(Step::Register),
            10 => user.prop_map(Step::Unregister),
            10 => (1..20_usize).prop_map(Step::Index),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..500)
    }

    /// Steps of few users who follow many, so that most walks over their follows are cut short.
    fn steps_of_few() -> impl Strategy<Value = Vec<Step>> {
        let pair = (0..3_u64, 0..150_u64);
        let step = prop_oneof![
            8 => pair.clone().prop_map(|(a, b)| Step::Follow(a, b)),
            3 => pair.prop_map(|(a, b)| Step::Unfollow(a, b)),
            2 => (0..3_u64).prop_map(Step::Register),
            2 => (0..3_u64).prop_map(Step::Unregister),
            2 => (1..100_usize).prop_map(Step::Index),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn walks_that_are_cut_short_leave_exact_lists(
            steps in steps_of_few(),
            // The keys of the followed are dense, or so far from each other that a set of them takes
            // another form when it grows.
            stride in prop::sample::select(vec![1, 40]),
            initial in prop::sample::select(vec![0, 50, 110]),
        ) {
            const FIRST_FOLLOWED: u64 = 1000;
            let followed = |b: u64| UserId(FIRST_FOLLOWED + b * stride);
            let mut graph = FollowerGraph::new();
            for id in 0..150 * stride {
                graph.follow(UserId(10), UserId(FIRST_FOLLOWED + id));
            }
            let mut follows = BTreeSet::new();
            for (a, b) in (0..3).flat_map(|a| (0..initial).map(move |b| (a, b))) {
                graph.follow(UserId(a), followed(b));
                follows.insert((a, b));
            }
            for step in steps {
                match step {
                    Step::Follow(a, b) => {
                        graph.follow(UserId(a), followed(b));
                        follows.insert((a, b));
                    }
                    Step::Unfollow(a, b) => {
                        graph.unfollow(UserId(a), followed(b));
                        follows.remove(&(a, b));
                    }
                    Step::Register(a) => {
                        graph.register(UserId(a));
                    }
                    Step::Unregister(a) => graph.unregister(UserId(a)),
                    Step::Index(steps) => graph.index_some(steps),
                    Step::Clear => graph.clear_follows(),
                }
            }
            graph.index_some(usize::MAX);
            for b in 0..150 {
                let followers = (0..3).filter(|&a| follows.contains(&(a, b)));
                let numbers = followers.filter_map(|a| graph.recipient(UserId(a)));
                let expected: BTreeSet<u32> = numbers.map(|Recipient(number)| number).collect();
                let indexed = graph.indexed_followers(followed(b)).iter().copied();
                prop_assert_eq!(indexed.collect::<BTreeSet<u32>>(), expected);
            }
        }

        #[test]
        fn matches_btree_sets(steps in steps()) {
            let mut graph = FollowerGraph::with_state_hash();
            let mut follows: BTreeSet<(u64, u64)> = BTreeSet::new();
            let mut registered: BTreeMap<u64, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Follow(a, b) => {
                        graph.follow(UserId(a), UserId(b));
                        follows.insert((a, b));
                    }
                    Step::Unfollow(a, b) => {
                        graph.unfollow(UserId(a), UserId(b));
                        follows.remove(&(a, b));
                    }
                    Step::Register(a) => {
                        let Registration { recipient, was_registered } = graph.register(UserId(a));
                        let before = registered.insert(a, recipient.0);
                        prop_assert_eq!(was_registered, before.is_some());
                        prop_assert!(before.is_none_or(|before| before == recipient.0));
                    }
                    Step::Unregister(a) => {
                        registered.remove(&a);
                        graph.unregister(UserId(a));
                    }
                    Step::Index(steps) => graph.index_some(steps),
                    Step::Clear => {
                        graph.clear_follows();
                        follows.clear();
                    }
                }
                let numbers: BTreeSet<u32> = registered.values().copied().collect();
                prop_assert_eq!(numbers.len(), registered.len(), "each has a number of its own");
            }
            let pairs: BTreeSet<(u64, u64)> = graph.follows().map(|(a, b)| (a.0, b.0)).collect();
            prop_assert_eq!(&pairs, &follows);
            prop_assert_eq!(graph.follows().count(), follows.len());
            let mut copy = FollowerGraph::with_state_hash();
            follows.iter().for_each(|&(a, b)| copy.follow(UserId(a), UserId(b)));
            prop_assert_eq!(graph.state_hash(9), copy.state_hash(9));
            let expected = |user: u64| {
                let followers = follows.iter().filter(|&&(_, followed)| followed == user);
                let numbers = followers.filter_map(|(follower, _)| registered.get(follower));
                let mut numbers: Vec<u32> = numbers.copied().collect();
                numbers.sort_unstable();
                numbers
            };
            for user in 0..50 {
                prop_assert_eq!(followers(&graph, UserId(user)), expected(user));
                let recipient = registered.get(&user).map(|&r| Recipient(r));
                prop_assert_eq!(graph.recipient(UserId(user)), recipient);
            }
            graph.index_some(usize::MAX);
            prop_assert!(graph.is_index_complete());
            prop_assert_eq!(graph.recipients.len(), registered.len(), "no number is left in use");
            for user in 0..50 {
                let mut indexed = graph.indexed_followers(UserId(user)).to_vec();
                indexed.sort_unstable();
                prop_assert_eq!(indexed, expected(user), "nobody is missing, and nobody left over");
            }
            let mut named: BTreeSet<u64> = registered.keys().copied().collect();
            named.extend(follows.iter().flat_map(|&(a, b)| [a, b]));
            prop_assert_eq!(graph.users(), named.len());
        }
    }
}
