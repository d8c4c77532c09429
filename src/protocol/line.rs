//! One line of an event source.

/// The length of a padded line, in bytes. Two overlapping vector registers copy it, and it fits a slot
/// of the reorder buffer.
pub const PADDED_LINE_BYTES: usize = 30;

/// A line without its terminator.
///
/// Most lines are short. A short line is *padded*: an array of fixed length that starts with the line and
/// continues with the bytes that follow it in the stream. Copying it, or loading parts of it, needs
/// neither a call nor a branch on the length.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// A prefix of a fixed-length array.
    Padded {
        /// The line, followed by padding of any value.
        bytes: &'a [u8; PADDED_LINE_BYTES],
        /// The length of the line: at most [`PADDED_LINE_BYTES`].
        len: usize,
    },
    /// The line without padding.
    Slice(&'a [u8]),
}

impl<'a> Line<'a> {
    /// Returns the first `len` bytes of `bytes` as a line: padded if the line is short and enough bytes
    /// follow.
    ///
    /// # Panics
    ///
    /// If `len` exceeds the length of `bytes`.
    #[inline]
    #[must_use]
    pub fn prefix_of(bytes: &'a [u8], len: usize) -> Line<'a> {
        match bytes.first_chunk() {
            Some(padded) if len <= PADDED_LINE_BYTES => Line::Padded { bytes: padded, len },
            _ => Line::Slice(&bytes[..len]),
        }
    }

    /// Returns the bytes of the line.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        match *self {
            Line::Padded { bytes: padded, len } => &padded[..len],
            Line::Slice(bytes) => bytes,
        }
    }

    /// Returns the length of the line, in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Line::Padded { len, .. } => *len,
            Line::Slice(bytes) => bytes.len(),
        }
    }

    /// Returns whether the line is empty.
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
    fn a_padded_line_is_short_and_followed_by_enough_bytes() {
        let bytes = [b'x'; 100];
        assert!(matches!(Line::prefix_of(&bytes, 30), Line::Padded { len: 30, .. }));
        assert!(matches!(Line::prefix_of(&bytes, 31), Line::Slice(line) if line.len() == 31));
        assert!(matches!(Line::prefix_of(&bytes[..29], 5), Line::Slice(line) if line.len() == 5));
        assert_eq!(Line::prefix_of(&bytes, 7), Line::Slice(b"xxxxxxx"));
    }
}
