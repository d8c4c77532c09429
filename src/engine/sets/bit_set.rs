//! A bit set.

/// A set with one bit per number up to its largest member.
#[derive(Debug, Default)]
pub(crate) struct BitSet {
    words: Vec<u64>,
    members: usize,
}

impl BitSet {
    pub(crate) fn len(&self) -> usize {
        self.members
    }

    /// Returns the capacity, in bits.
    pub(crate) fn capacity(&self) -> usize {
        self.words.len() * 64
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        self.words.get(word).is_some_and(|word| word & mask != 0)
    }

    /// Inserts a member. Returns whether it was absent.
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & mask == 0;
        self.words[word] |= mask;
        self.members += usize::from(is_new);
        is_new
    }

    /// Removes a member. Returns whether it was present.
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        let was_present = self.words.get(word).is_some_and(|word| word & mask != 0);
        if was_present {
            self.words[word] &= !mask;
            self.members -= 1;
        }
        was_present
    }

    /// Returns the members in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(index, &word)| bits_of(index, word))
    }

    /// Returns the words of 64 bits, in ascending order.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
}

/// Returns the numbers whose bits are set in the word at `index`.
pub(crate) fn bits_of(index: usize, word: u64) -> impl Iterator<Item = u32> {
    // Each step clears the lowest set bit.
    std::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|&rest| rest != 0)
        .map(move |rest| index as u32 * 64 + rest.trailing_zeros())
}

/// Returns the word index and the bit mask of a number.
#[inline]
fn word_and_mask(member: u32) -> (usize, u64) {
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
