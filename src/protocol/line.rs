//! The bytes of one line.

/// How many bytes of a short line's window there are. Two vector registers that overlap copy them;
/// the slots of the reorder buffer are made so that they fit.
pub const PADDED_LINE_BYTES: usize = 30;

/// A line without its terminator.
///
/// Most lines are short. Such a line comes as a *window*: an array of fixed length in which the line
/// stands in front, and whatever happened to follow it behind. To copy or to load parts of it then
/// takes neither a call nor a branch on its length.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// The first `len` bytes of a window.
    Padded {
        /// The line, and behind it bytes that mean nothing.
        bytes: &'a [u8; PADDED_LINE_BYTES],
        /// Bytes of the line: at most [`PADDED_LINE_BYTES`].
        len: usize,
    },
    /// Just the line.
    Slice(&'a [u8]),
}

impl<'a> Line<'a> {
    /// The first `len` bytes of `bytes`, with the bytes behind them for a window if there are enough.
    ///
    /// # Panics
    ///
    /// When `len` is more than there are bytes.
    #[inline]
    #[must_use]
    pub fn prefix_of(bytes: &'a [u8], len: usize) -> Line<'a> {
        match bytes.first_chunk() {
            Some(padded) if len <= PADDED_LINE_BYTES => Line::Padded { bytes: padded, len },
            _ => Line::Slice(&bytes[..len]),
        }
    }

    /// The line's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        match *self {
            Line::Padded { bytes: padded, len } => &padded[..len],
            Line::Slice(bytes) => bytes,
        }
    }

    /// How many bytes it has.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Line::Padded { len, .. } => *len,
            Line::Slice(bytes) => bytes.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [u8]> for Line<'a> {
    fn from(bytes: &'a [u8]) -> Line<'a> {
        Line::Slice(bytes)
    }
}

impl PartialEq for Line<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Line<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_needs_enough_bytes_and_a_short_line() {
        let bytes = [b'x'; 100];
        assert!(matches!(Line::prefix_of(&bytes, 30), Line::Padded { len: 30, .. }));
        assert!(matches!(Line::prefix_of(&bytes, 31), Line::Slice(line) if line.len() == 31));
        assert!(matches!(Line::prefix_of(&bytes[..29], 5), Line::Slice(line) if line.len() == 5));
        assert_eq!(Line::prefix_of(&bytes, 7), Line::Slice(b"xxxxxxx"));
    }
}
