//! A fuzzer's bytes as a sequence of choices.

/// Reads bytes in order, and zeros after their end.
pub(crate) struct FuzzInput<'a>(pub(crate) &'a [u8]);

impl FuzzInput<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}
