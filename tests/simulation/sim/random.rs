//! Random choices that a seed or a script of bytes decides.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::prng::Prng;

/// A script byte of this value or above leaves the choice to the generator.
const NO_CHOICE: u8 = 0xf0;

/// A generator: the same seed gives the same numbers on every platform.
///
/// A script may precede its numbers. All generators that were [forked](Random::fork) off share it,
/// so that each byte decides the next choice of any of them.
#[derive(Debug)]
pub(crate) struct Random {
    prng: Prng,
    script: Rc<RefCell<VecDeque<u8>>>,
}

impl Random {
    /// Creates a generator that takes its choices from the script, and from the seed after its end.
    pub(crate) fn new(script: &[u8], seed: u64) -> Random {
        let script = RefCell::new(script.iter().copied().collect());
        Random { prng: Prng::new(seed), script: Rc::new(script) }
    }

    /// Returns an independent generator that shares the script.
    pub(crate) fn fork(&mut self) -> Random {
        Random { prng: Prng::new(self.prng.next()), script: Rc::clone(&self.script) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let choice = self.script.borrow_mut().pop_front().filter(|&choice| choice < NO_CHOICE);
        choice.map_or_else(|| self.prng.next(), u64::from)
    }

    /// Returns a number below `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Returns a number from `low` to `high`, inclusive.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Returns true in one of `cases` cases; never for 0.
    pub(crate) fn one_in(&mut self, cases: usize) -> bool {
        cases > 0 && self.below(cases) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}
