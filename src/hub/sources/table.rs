//! The table of sources.

use std::collections::VecDeque;

use slab::Slab;

use super::source::Source;
use crate::config::Config;
use crate::hub::token::SourceKey;

/// The maximum number of sources over the limit that await a decision at once. They use descriptors
/// of the reserve.
const MAX_UNDECIDED: usize = 4;

/// All sources: admitted ones in the order in which they are served next, and those over the limit
/// in order of arrival.
#[derive(Debug)]
pub(super) struct SourceTable<S> {
    table: Slab<Source<S>>,
    admitted: VecDeque<SourceKey>,
    undecided: VecDeque<SourceKey>,
    max_sources: usize,
}

/// The decision on a source over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The source was admitted.
    Admitted(SourceKey),
    /// The sources that count against the limit are alive: the caller has to remove this one.
    Rejected(SourceKey),
}

impl<S> SourceTable<S> {
    /// Creates a table that admits at most `max_sources` sources at once.
    pub(super) fn new(max_sources: usize) -> SourceTable<S> {
        SourceTable {
            table: Slab::new(),
            admitted: VecDeque::new(),
            undecided: VecDeque::new(),
            max_sources,
        }
    }

    /// Changes the limits. Sources that are admitted stay, even if they are more than the limit.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.max_sources = config.max_sources;
        for (_, source) in &mut self.table {
            source.set_max_line_bytes(config.max_line_bytes);
        }
    }

    /// Returns the key that the next source will get.
    pub(super) fn vacant_key(&self) -> SourceKey {
        SourceKey::new(self.table.vacant_key())
    }

    /// Adds a source, after those over the limit if there are any. Returns its key, and whether it
    /// is admitted.
    pub(super) fn insert(&mut self, source: Source<S>) -> (SourceKey, bool) {
        let key = SourceKey::new(self.table.insert(source));
        let is_admitted = self.undecided.is_empty() && self.has_capacity();
        let list = if is_admitted { &mut self.admitted } else { &mut self.undecided };
        list.push_back(key);
        (key, is_admitted)
    }

    /// Removes a source.
    pub(super) fn remove(&mut self, key: SourceKey) -> Option<Source<S>> {
        self.admitted.retain(|&other| other != key);
        self.undecided.retain(|&other| other != key);
        self.table.try_remove(key.index())
    }

    pub(super) fn get(&self, key: SourceKey) -> Option<&Source<S>> {
        self.table.get(key.index())
    }

    pub(super) fn get_mut(&mut self, key: SourceKey) -> Option<&mut Source<S>> {
        self.table.get_mut(key.index())
    }

    /// Returns the number of open sources, admitted or not.
    pub(super) fn open(&self) -> usize {
        self.table.len()
    }

    /// Returns the number of admitted sources.
    pub(super) fn len(&self) -> usize {
        self.admitted.len()
    }

    /// Returns the key of an admitted source by its index in the service order.
    pub(super) fn key_at(&self, index: usize) -> Option<SourceKey> {
        self.admitted.get(index).copied()
    }

    /// Iterates over the admitted sources.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Source<S>> {
        self.admitted.iter().filter_map(|&key| self.get(key))
    }

    /// Visits the admitted sources, the next one to be served first.
    pub(super) fn for_each_mut(&mut self, mut visit: impl FnMut(&mut Source<S>)) {
        for key in &self.admitted {
            if let Some(source) = self.table.get_mut(key.index()) {
                visit(source);
            }
        }
    }

    /// Returns the next source to serve, and moves it to the end of the service order.
    pub(super) fn next_to_apply(&mut self) -> Option<&mut Source<S>> {
        let key = self.admitted.pop_front()?;
        self.admitted.push_back(key);
        self.table.get_mut(key.index())
    }

    /// Returns whether one more connection may be accepted to await a decision.
    pub(super) fn may_accept(&self) -> bool {
        self.undecided.len() < MAX_UNDECIDED
    }

    /// Returns whether connections over the limit await a decision.
    pub(super) fn has_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Admits the first source over the limit if there is capacity by now, or rejects it once it is
    /// known that the sources that count against the limit are alive. A poll after it was accepted
    /// has reported every disconnect that preceded it; an ended source counts until its lines are
    /// decoded.
    pub(super) fn decide(&mut self) -> Option<Decision> {
        let key = *self.undecided.front()?;
        let alive = self.iter().filter(|source| !source.has_ended()).count();
        if self.has_capacity() {
            self.undecided.pop_front();
            self.admitted.push_back(key);
            return Some(Decision::Admitted(key));
        }
        (alive >= self.max_sources).then_some(Decision::Rejected(key))
    }

    /// Returns the keys of all sources.
    pub(super) fn keys(&self) -> Vec<SourceKey> {
        self.admitted.iter().chain(&self.undecided).copied().collect()
    }

    fn has_capacity(&self) -> bool {
        self.iter().filter(|source| !source.is_spent()).count() < self.max_sources
    }

    /// Panics unless each source is in exactly one of the lists.
    pub(super) fn check(&self) {
        let keys = self.keys();
        assert_eq!(keys.len(), self.table.len(), "each source is in one list");
        assert!(keys.iter().all(|&key| self.get(key).is_some()), "a source is in the table");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Instant;

    use super::*;
    use crate::hub::close_reason::CloseReason;
    use crate::hub::readiness::Readiness;

    fn source() -> Source<()> {
        Source::new((), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), 256, Instant::now())
    }

    #[test]
    fn a_source_over_the_limit_waits_for_one_that_has_ended() {
        let mut sources = SourceTable::new(1);
        let (first, is_admitted) = sources.insert(source());
        assert!(is_admitted);
        let (second, is_admitted) = sources.insert(source());
        assert!(!is_admitted && sources.has_undecided());
        let closed = Readiness {
            token: 0,
            readable: true,
            writable: false,
            read_closed: true,
            urgent: false,
        };
        sources.get_mut(first).unwrap().set_ready(&closed);
        assert_eq!(sources.decide(), None, "its lines may be unread");
        let ended = sources.get_mut(first).unwrap();
        ended.abort(CloseReason::ClosedByPeer);
        ended.set_may_have_lines(true);
        assert_eq!(sources.decide(), None, "its lines are not decoded");
        sources.get_mut(first).unwrap().set_may_have_lines(false);
        assert_eq!(sources.decide(), Some(Decision::Admitted(second)));
        sources.check();
    }

    #[test]
    fn a_source_over_the_limit_is_rejected_while_the_others_are_alive() {
        let mut sources = SourceTable::new(1);
        sources.insert(source());
        let (second, _) = sources.insert(source());
        assert_eq!(sources.decide(), Some(Decision::Rejected(second)));
        sources.remove(second);
        assert_eq!((sources.decide(), sources.open()), (None, 1));
    }

    #[test]
    fn a_source_does_not_overtake_one_that_waits_for_a_decision() {
        let mut sources = SourceTable::new(1);
        let (first, _) = sources.insert(source());
        let (second, _) = sources.insert(source());
        sources.remove(first);
        let (_, is_admitted) = sources.insert(source());
        assert!(!is_admitted);
        assert_eq!(sources.decide(), Some(Decision::Admitted(second)));
    }

    #[test]
    fn no_more_than_a_few_wait_for_a_decision() {
        let mut sources = SourceTable::new(1);
        sources.insert(source());
        for _ in 0..MAX_UNDECIDED {
            assert!(sources.may_accept());
            sources.insert(source());
        }
        assert!(!sources.may_accept());
    }

    #[test]
    fn sources_are_served_in_turn() {
        let mut sources = SourceTable::new(2);
        let (first, _) = sources.insert(source());
        let (second, _) = sources.insert(source());
        sources.next_to_apply().unwrap().on_line(true);
        assert_eq!(sources.get(first).unwrap().lines_received(), 1);
        assert_eq!([sources.key_at(0), sources.key_at(1)], [Some(second), Some(first)]);
    }
}
