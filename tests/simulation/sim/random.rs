//! Randomness that one number decides, or a script of bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A byte of a script from here on leaves the choice to the generator.
const NO_CHOICE: u8 = 0xf0;

/// A small generator (SplitMix64): the same seed gives the same numbers everywhere and for ever.
///
/// In front of its numbers a script may stand, which whoever [forks](Random::fork) off reads on from:
/// so each byte of it decides the next choice, whosever it is.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
    script: Rc<RefCell<VecDeque<u8>>>,
}

impl Random {
    /// Numbers as the script says, and once it is at its end those of the seed.
    pub(crate) fn new(script: &[u8], seed: u64) -> Random {
        let script = RefCell::new(script.iter().copied().collect());
        Random { state: seed, script: Rc::new(script) }
    }

    /// A generator for somebody else.
    pub(crate) fn fork(&mut self) -> Random {
        Random { state: self.generate(), script: Rc::clone(&self.script) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let choice = self.script.borrow_mut().pop_front().filter(|&choice| choice < NO_CHOICE);
        choice.map_or_else(|| self.generate(), u64::from)
    }

    fn generate(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end` - 1; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A number from `low` to `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in one of so many cases; never for 0.
    pub(crate) fn one_in(&mut self, cases: usize) -> bool {
        cases > 0 && self.below(cases) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, what: &mut [T]) {
        for end in (1..what.len()).rev() {
            what.swap(end, self.below(end + 1));
        }
    }
}
