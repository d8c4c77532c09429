//! A set of small numbers, a bit each.

/// A set that takes an eighth of a byte for each number up to its largest.
#[derive(Debug, Default)]
pub(crate) struct BitSet {
    words: Vec<u64>,
    members: usize,
}

impl BitSet {
    pub(crate) fn len(&self) -> usize {
        self.members
    }

    /// How many bits it has memory for.
    pub(crate) fn bits(&self) -> usize {
        self.words.len() * 64
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        let (word, bit) = place(member);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds a member; `false` if it was one already.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        let (word, bit) = place(member);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.members += usize::from(is_new);
        is_new
    }

    /// Removes a member; `false` if it was none.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let (word, bit) = place(member);
        let was_there = self.words.get(word).is_some_and(|word| word & bit != 0);
        if was_there {
            self.words[word] &= !bit;
            self.members -= 1;
        }
        was_there
    }

    /// Every member, the smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(place, &word)| bits_of(place, word))
    }

    /// 64 bits each, the smallest numbers first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
}

/// The numbers whose bits are set in the word at a place.
pub(crate) fn bits_of(place: usize, word: u64) -> impl Iterator<Item = u32> {
    // Each step strikes off the lowest bit that is set.
    std::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|&rest| rest != 0)
        .map(move |rest| place as u32 * 64 + rest.trailing_zeros())
}

/// The word and the bit of a number.
#[inline]
fn place(member: u32) -> (usize, u64) {
    (member as usize / 64, 1 << (member % 64))
}

impl FromIterator<u32> for BitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(members: I) -> BitSet {
        let mut set = BitSet::default();
        for member in members {
            set.insert(member);
        }
        set
    }
}
