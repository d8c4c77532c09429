//! What clients must receive, in a form that is quick to compare with what they do receive.
//!
//! Broadcasts are the same bytes for everybody, so their text is kept once. Where broadcasts come
//! in long runs, a client's stream refers to that text; where its own lines interrupt them every
//! few bytes, copying the run is smaller than a reference to it and quicker to compare.

/// A run of broadcasts of at least this many bytes is referred to, a shorter one is copied:
/// large enough that finding the next piece costs nothing beside comparing it.
const WORTH_REFERRING: usize = 8 * 1024;

/// The lines that go to all clients, in order, with their ends.
#[derive(Default)]
pub(crate) struct Shared {
    text: Vec<u8>,
    lines: u64,
}

impl Shared {
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        push_line(&mut self.text, line);
        self.lines += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.lines = 0;
    }

    /// The bytes held.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

/// The bytes that one client must receive, as pieces of two texts: the shared one and its own.
#[derive(Default)]
pub(crate) struct Expected {
    own: Vec<u8>,
    pieces: Vec<Piece>,
    /// How much of the shared text stands in `pieces` or `own` already.
    shared_taken: usize,
    shared_lines_taken: u64,
    lines: u64,
    len: u64,
}

#[derive(Clone, Copy)]
struct Piece {
    text: Text,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Own,
    Shared,
}

impl Expected {
    /// Adds a line for this client alone, behind all that `shared` holds so far.
    pub(crate) fn push_line(&mut self, line: &[u8], shared: &Shared) {
        self.take_shared(shared);
        let start = self.own.len();
        push_line(&mut self.own, line);
        self.extend_own(start);
        self.lines += 1;
    }

    /// Adds what `shared` got since the last line of this client.
    pub(crate) fn take_shared(&mut self, shared: &Shared) {
        let (start, end) = (self.shared_taken, shared.text.len());
        self.shared_taken = end;
        self.lines += shared.lines - self.shared_lines_taken;
        self.shared_lines_taken = shared.lines;
        if end - start >= WORTH_REFERRING {
            self.pieces.push(Piece { text: Text::Shared, start, end });
            self.len += (end - start) as u64;
        } else if end > start {
            let own_start = self.own.len();
            self.own.extend_from_slice(&shared.text[start..end]);
            self.extend_own(own_start);
        }
    }

    /// Makes the own text from `start` on part of the stream.
    fn extend_own(&mut self, start: usize) {
        let end = self.own.len();
        self.len += (end - start) as u64;
        match self.pieces.last_mut() {
            Some(piece) if piece.text == Text::Own => piece.end = end,
            _ => self.pieces.push(Piece { text: Text::Own, start, end }),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.own.clear();
        self.pieces.clear();
        self.shared_taken = 0;
        self.shared_lines_taken = 0;
        self.lines = 0;
        self.len = 0;
    }

    /// The bytes that must arrive.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The lines that must arrive.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The memory that this client's stream takes beside the shared text, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.own.len() + self.pieces.len() * size_of::<Piece>()
    }

    fn bytes_of<'a>(&'a self, piece: Piece, shared: &'a Shared) -> &'a [u8] {
        match piece.text {
            Text::Own => &self.own[piece.start..piece.end],
            Text::Shared => &shared.text[piece.start..piece.end],
        }
    }

    /// All bytes in order, a piece at a time.
    pub(crate) fn pieces<'a>(&'a self, shared: &'a Shared) -> impl Iterator<Item = &'a [u8]> {
        self.pieces.iter().map(|&piece| self.bytes_of(piece, shared))
    }

    /// The line that holds byte `offset`, with its number (from 0) and the offset of its first byte.
    ///
    /// Walks the stream from its beginning: for reports only. `None` behind the end.
    pub(crate) fn line_at(&self, offset: u64, shared: &Shared) -> Option<ExpectedLine> {
        let mut found = ExpectedLine { number: 0, start: 0, text: Vec::new() };
        let mut position = 0;
        for line in self.pieces(shared).flat_map(|piece| piece.split_inclusive(|&b| b == b'\n')) {
            found = ExpectedLine { text: line.to_vec(), start: position, ..found };
            position += line.len() as u64;
            if position > offset {
                return Some(found);
            }
            found.number += 1;
        }
        None
    }
}

/// A line of an expected stream.
pub(crate) struct ExpectedLine {
    pub(crate) number: u64,
    pub(crate) start: u64,
    /// With its end.
    pub(crate) text: Vec<u8>,
}

fn push_line(text: &mut Vec<u8>, line: &[u8]) {
    text.extend_from_slice(line);
    text.extend_from_slice(b"\r\n");
}

/// How far a stream has been gone through.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    piece: usize,
    within: usize,
    /// The bytes passed.
    pub(crate) offset: u64,
}

impl Cursor {
    /// The longest slice that comes next, empty at the end.
    pub(crate) fn next_bytes<'a>(&self, expected: &'a Expected, shared: &'a Shared) -> &'a [u8] {
        match expected.pieces.get(self.piece) {
            Some(&piece) => &expected.bytes_of(piece, shared)[self.within..],
            None => &[],
        }
    }

    /// Passes `count` bytes, no more than [`Cursor::next_bytes`] showed.
    pub(crate) fn advance(&mut self, count: usize, expected: &Expected) {
        self.offset += count as u64;
        self.within += count;
        let Some(piece) = expected.pieces.get(self.piece) else { return };
        if self.within == piece.end - piece.start {
            self.piece += 1;
            self.within = 0;
        }
    }

    /// Passes `received` as far as it is what comes next.
    ///
    /// # Errors
    ///
    /// How many bytes of `received` were right, when not all of them are.
    pub(crate) fn check(
        &mut self,
        received: &[u8],
        expected: &Expected,
        shared: &Shared,
    ) -> Result<(), usize> {
        let mut right = 0;
        while right < received.len() {
            let next = self.next_bytes(expected, shared);
            let count = next.len().min(received.len() - right);
            let (next, got) = (&next[..count], &received[right..right + count]);
            let same = if next == got { count } else { common_prefix(next, got) };
            self.advance(same, expected);
            right += same;
            if same < count || count == 0 {
                return Err(right);
            }
        }
        Ok(())
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Own lines between runs of broadcasts short and long, and the same as plain text.
    fn sample() -> (Expected, Shared, Vec<u8>, u64) {
        let (mut expected, mut shared) = (Expected::default(), Shared::default());
        let (mut plain, mut lines) = (Vec::new(), 0);
        for run in [0, 1, 3, 5_000, 2, 0, 4_000] {
            for number in 0..run {
                let line = format!("{number}|B");
                shared.push_line(line.as_bytes());
                plain.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            expected.push_line(b"1|P|2|3", &shared);
            plain.extend_from_slice(b"1|P|2|3\r\n");
            lines += run + 1;
        }
        shared.push_line(b"9|B");
        expected.take_shared(&shared);
        plain.extend_from_slice(b"9|B\r\n");
        (expected, shared, plain, lines + 1)
    }

    #[test]
    fn the_pieces_make_the_whole_text() {
        let (expected, shared, plain, lines) = sample();
        let joined: Vec<u8> = expected.pieces(&shared).flatten().copied().collect();
        assert!(joined == plain);
        assert_eq!((expected.len(), expected.lines()), (plain.len() as u64, lines));
        assert!(expected.memory() < plain.len() / 2, "long runs are shared");
    }

    #[test]
    fn right_bytes_pass_in_any_chunks() {
        let (expected, shared, plain, _) = sample();
        for size in [1, 2, 7, 1000, 100_000, plain.len()] {
            let mut cursor = Cursor::default();
            for chunk in plain.chunks(size) {
                assert_eq!(cursor.check(chunk, &expected, &shared), Ok(()));
            }
            assert_eq!(cursor.offset, expected.len());
            assert_eq!(cursor.check(b"x", &expected, &shared), Err(0), "one byte too much");
        }
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_is() {
        let (expected, shared, plain, _) = sample();
        for wrong in [0, 8, 9, 40, 20_000, plain.len() - 1] {
            let mut received = plain.clone();
            received[wrong] ^= 1;
            let mut cursor = Cursor::default();
            assert_eq!(cursor.check(&received, &expected, &shared), Err(wrong));
            assert_eq!(cursor.offset, wrong as u64);
            let line = expected.line_at(wrong as u64, &shared).unwrap();
            let before = &plain[..wrong];
            assert_eq!(line.number, before.iter().filter(|&&b| b == b'\n').count() as u64);
            assert!(line.start <= wrong as u64);
            assert!((line.start as usize + line.text.len()) > wrong);
        }
        assert!(expected.line_at(plain.len() as u64, &shared).is_none());
    }
}
