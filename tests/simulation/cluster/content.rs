//! What a stream says of each sequence, by a plain reading of its entries.

use std::rc::Rc;

use eventserver::engine::{FollowerGraph, StateHash};
use eventserver::protocol::UserId;

use crate::journal::story::{Effect, Follows, Line, Story};

/// The number of texts that sources may send for one sequence.
pub(crate) const VARIANTS: u64 = 2;

/// What is applied for a sequence: a line with its effect, or nothing.
pub(crate) type Applied = Option<Rc<(Vec<u8>, Effect)>>;

/// The lines of consecutive sequences, and the follows before each.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    first: u64,
    lines: Vec<Applied>,
    follows: Vec<Rc<Follows>>,
}

/// Returns what a source sends for a sequence. Sources do not agree on everything, but on what is never sent.
pub(crate) fn line_of(story: Story, variant: u64, sequence: u64) -> Line {
    match (story.line(0, sequence), story.line(variant, sequence)) {
        (Line::Hole, _) => Line::Hole,
        (common, Line::Hole) => common,
        (_, own) => own,
    }
}

impl Content {
    pub(crate) fn new(first: u64) -> Content {
        Content { first, lines: Vec::new(), follows: vec![Rc::default()] }
    }

    /// Returns the sequence after the last.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    /// Returns what is applied for a sequence.
    pub(crate) fn at(&self, sequence: u64) -> &Applied {
        &self.lines[(sequence - self.first) as usize]
    }

    /// Returns the follows before a sequence.
    pub(crate) fn follows_before(&self, sequence: u64) -> &Follows {
        &self.follows[(sequence - self.first) as usize]
    }

    /// Returns the hash of the state in which a sequence is awaited.
    pub(crate) fn hash(&self, awaited: u64) -> StateHash {
        let mut graph = FollowerGraph::with_state_hash();
        for &(a, b) in self.follows_before(awaited) {
            graph.follow(UserId(a), UserId(b));
        }
        graph.state_hash(awaited).unwrap()
    }

    /// Forgets everything from a sequence on.
    pub(crate) fn truncate(&mut self, next: u64) {
        let keep = (next - self.first) as usize;
        self.lines.truncate(keep);
        self.follows.truncate(keep + 1);
    }

    /// Returns whether two contents agree on the sequences that both have.
    pub(crate) fn agrees(&self, other: &Content) -> bool {
        self.lines.iter().zip(&other.lines).all(|(a, b)| a == b)
    }

    /// Takes an entry: the sequences that others before it have not covered. Panics if it leaves a hole.
    pub(crate) fn take(&mut self, story: Story, entry: &[u8]) {
        let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
        // The origin takes 32 bytes, the header 64.
        let (first, next) = (number(32 + 16), number(32 + 24));
        assert!(first <= self.next(), "{first}..{next} leaves a hole after {}", self.next());
        let lines: Vec<&[u8]> =
            entry[96..].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        for sequence in self.next()..next {
            let is_due = |line: &&&[u8]| sequence_of(line) == sequence;
            let line = lines.iter().find(is_due);
            self.push(line.map(|line| Rc::new((line.to_vec(), effect_of(story, sequence, line)))));
        }
    }

    fn push(&mut self, applied: Applied) {
        let mut follows = Rc::clone(self.follows.last().unwrap());
        if let Some(line) = &applied {
            line.1.apply(Rc::make_mut(&mut follows));
        }
        self.lines.push(applied);
        self.follows.push(follows);
    }
}

fn sequence_of(line: &[u8]) -> u64 {
    let text = str::from_utf8(line).unwrap();
    text.split('|').next().unwrap().parse().unwrap()
}

/// Returns the effect of a line, which one of the sources must have sent.
fn effect_of(story: Story, sequence: u64, line: &[u8]) -> Effect {
    let sent = (0..VARIANTS).find_map(|variant| match line_of(story, variant, sequence) {
        Line::Event(bytes, effect) if bytes == line => Some(effect),
        _ => None,
    });
    sent.unwrap_or_else(|| panic!("nobody has sent {}", line.escape_ascii()))
}
