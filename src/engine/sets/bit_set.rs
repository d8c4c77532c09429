//! A growable bit set.

/// One bit per number up to a largest one, in 16 bytes. Its owner counts how many are set.
#[derive(Debug, Default)]
pub(crate) struct BitSet {
    words: Box<[u64]>,
}

impl BitSet {
    /// Returns the capacity, in bits.
    pub(crate) fn capacity(&self) -> usize {
        self.words.len() * 64
    }

    #[inline]
    pub(crate) fn contains(&self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        self.words.get(word).is_some_and(|word| word & mask != 0)
    }

    /// Inserts a member. Returns whether it was absent.
    #[inline]
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        if word >= self.words.len() {
            self.grow(word + 1);
        }
        let is_new = self.words[word] & mask == 0;
        self.words[word] |= mask;
        is_new
    }

    /// Removes a member. Returns whether it was present.
    #[inline]
    pub(crate) fn remove(&mut self, member: u32) -> bool {
        let (word, mask) = word_and_mask(member);
        let Some(word) = self.words.get_mut(word) else { return false };
        let was_present = *word & mask != 0;
        *word &= !mask;
        was_present
    }

    /// Doubles the words until they are at least `min`.
    #[cold]
    fn grow(&mut self, min: usize) {
        let mut words = std::mem::take(&mut self.words).into_vec();
        words.resize(min.max(2 * words.len()), 0);
        self.words = words.into_boxed_slice();
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
        members.into_iter().for_each(|member| {
            set.insert(member);
        });
        set
    }
}
