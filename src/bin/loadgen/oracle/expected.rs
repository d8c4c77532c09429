//! Expected output of each client, stored so that it can be compared quickly.
//!
//! Broadcasts are the same bytes for all clients, so their text is stored once. A long run of
//! broadcasts is a span of that text. A short run between a client's own lines is copied, because a
//! copy is smaller than a span and quicker to compare.

/// Minimum length of a broadcast run that is stored as a span, in bytes. It is large enough that
/// finding the next span costs nothing compared with comparing the bytes.
const MIN_SHARED_RUN: usize = 8 * 1024;

/// The lines sent to all clients, in order, with their terminators.
#[derive(Default)]
pub(crate) struct BroadcastLog {
    text: Vec<u8>,
    lines: u64,
}

impl BroadcastLog {
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        push_line(&mut self.text, line);
        self.lines += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.lines = 0;
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

/// The expected output of one client: spans of the broadcast log and of its own text.
#[derive(Default)]
pub(crate) struct Expected {
    own: Vec<u8>,
    spans: Vec<Span>,
    /// Bytes of the broadcast log that are already in `spans` or `own`.
    broadcast_bytes_taken: usize,
    broadcast_lines_taken: u64,
    lines: u64,
    len: u64,
}

#[derive(Clone, Copy)]
struct Span {
    source: SpanSource,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SpanSource {
    Own,
    Broadcasts,
}

impl Expected {
    /// Appends a line for this client alone, after all current lines of `broadcasts`.
    pub(crate) fn push_line(&mut self, line: &[u8], broadcasts: &BroadcastLog) {
        self.append_broadcasts(broadcasts);
        let start = self.own.len();
        push_line(&mut self.own, line);
        self.extend_own(start);
        self.lines += 1;
    }

    /// Appends the lines added to `broadcasts` since the last line of this client.
    pub(crate) fn append_broadcasts(&mut self, broadcasts: &BroadcastLog) {
        let (start, end) = (self.broadcast_bytes_taken, broadcasts.text.len());
        self.broadcast_bytes_taken = end;
        self.lines += broadcasts.lines - self.broadcast_lines_taken;
        self.broadcast_lines_taken = broadcasts.lines;
        if end - start >= MIN_SHARED_RUN {
            self.spans.push(Span { source: SpanSource::Broadcasts, start, end });
            self.len += (end - start) as u64;
        } else if end > start {
            let own_start = self.own.len();
            self.own.extend_from_slice(&broadcasts.text[start..end]);
            self.extend_own(own_start);
        }
    }

    /// Extends the last span over the own text from `start`, or adds one.
    fn extend_own(&mut self, start: usize) {
        let end = self.own.len();
        self.len += (end - start) as u64;
        match self.spans.last_mut() {
            Some(span) if span.source == SpanSource::Own => span.end = end,
            _ => self.spans.push(Span { source: SpanSource::Own, start, end }),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.own.clear();
        self.spans.clear();
        self.broadcast_bytes_taken = 0;
        self.broadcast_lines_taken = 0;
        self.lines = 0;
        self.len = 0;
    }

    /// Returns the number of bytes expected.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the number of lines expected.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns the memory used in addition to the broadcast log, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.own.len() + self.spans.len() * size_of::<Span>()
    }

    fn span_bytes<'a>(&'a self, span: Span, broadcasts: &'a BroadcastLog) -> &'a [u8] {
        match span.source {
            SpanSource::Own => &self.own[span.start..span.end],
            SpanSource::Broadcasts => &broadcasts.text[span.start..span.end],
        }
    }

    /// Iterates over all bytes in order, one span at a time.
    pub(crate) fn spans<'a>(
        &'a self,
        broadcasts: &'a BroadcastLog,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(|&span| self.span_bytes(span, broadcasts))
    }

    /// Iterates over all lines with their terminators, each with the offset of its first byte.
    pub(crate) fn lines_with_offsets<'a>(
        &'a self,
        broadcasts: &'a BroadcastLog,
    ) -> impl Iterator<Item = (u64, &'a [u8])> {
        let lines = self.spans(broadcasts).flat_map(|span| span.split_inclusive(|&b| b == b'\n'));
        lines.scan(0, |position, line| {
            let start = *position;
            *position += line.len() as u64;
            Some((start, line))
        })
    }

    /// Returns the last line, without its terminator.
    pub(crate) fn last_line<'a>(&'a self, broadcasts: &'a BroadcastLog) -> Option<&'a [u8]> {
        self.spans.last().and_then(|&span| last_line(self.span_bytes(span, broadcasts)))
    }

    /// Returns the line that contains byte `offset`, or `None` after the end.
    ///
    /// Scans the output from its beginning, so it is meant for reports only.
    pub(crate) fn line_at(&self, offset: u64, broadcasts: &BroadcastLog) -> Option<ExpectedLine> {
        let mut lines = (0..).zip(self.lines_with_offsets(broadcasts));
        let found = lines.find(|(_, (start, line))| start + line.len() as u64 > offset);
        found.map(|(number, (start, line))| ExpectedLine { number, start, text: line.to_vec() })
    }
}

/// A line of an expected output: its index from 0 and the offset of its first byte.
pub(crate) struct ExpectedLine {
    pub(crate) number: u64,
    pub(crate) start: u64,
    /// Text with its terminator.
    pub(crate) text: Vec<u8>,
}

fn push_line(text: &mut Vec<u8>, line: &[u8]) {
    text.extend_from_slice(line);
    text.extend_from_slice(b"\r\n");
}

/// Returns the last line of bytes that are complete lines, without its terminator.
fn last_line(lines: &[u8]) -> Option<&[u8]> {
    let line = lines.strip_suffix(b"\r\n")?;
    let start = line.iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    Some(&line[start..])
}

/// A position in an expected output.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    span: usize,
    within: usize,
    /// Bytes consumed.
    pub(crate) offset: u64,
}

impl Cursor {
    /// The position after `offset` bytes, or the end.
    pub(crate) fn at(offset: u64, expected: &Expected) -> Cursor {
        let mut cursor = Cursor::default();
        for span in &expected.spans {
            let left = (offset - cursor.offset) as usize;
            cursor.advance(left.min(span.end - span.start), expected);
            if cursor.offset == offset {
                break;
            }
        }
        cursor
    }

    /// Returns the longest contiguous slice that comes next; empty at the end.
    pub(crate) fn next_bytes<'a>(
        &self,
        expected: &'a Expected,
        broadcasts: &'a BroadcastLog,
    ) -> &'a [u8] {
        match expected.spans.get(self.span) {
            Some(&span) => &expected.span_bytes(span, broadcasts)[self.within..],
            None => &[],
        }
    }

    /// Consumes `count` bytes, at most the length of [`Cursor::next_bytes`].
    pub(crate) fn advance(&mut self, count: usize, expected: &Expected) {
        self.offset += count as u64;
        self.within += count;
        let Some(span) = expected.spans.get(self.span) else { return };
        if self.within == span.end - span.start {
            self.span += 1;
            self.within = 0;
        }
    }

    /// Goes back to the start of the line that is consumed in part, if any. Returns the complete line before it,
    /// without its terminator.
    pub(crate) fn rewind_to_line<'a>(
        &mut self,
        expected: &'a Expected,
        broadcasts: &'a BroadcastLog,
    ) -> Option<&'a [u8]> {
        // Each span holds complete lines.
        if let Some(&span) = expected.spans.get(self.span) {
            let before = &expected.span_bytes(span, broadcasts)[..self.within];
            let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            self.offset -= (self.within - start) as u64;
            self.within = start;
            if start > 0 {
                return last_line(&before[..start]);
            }
        }
        let &span = expected.spans.get(self.span.checked_sub(1)?)?;
        last_line(expected.span_bytes(span, broadcasts))
    }

    /// Consumes the prefix of `received` that is expected next.
    ///
    /// # Errors
    ///
    /// Returns the length of the matching prefix if `received` differs.
    pub(crate) fn check(
        &mut self,
        received: &[u8],
        expected: &Expected,
        broadcasts: &BroadcastLog,
    ) -> Result<(), usize> {
        let mut right = 0;
        while right < received.len() {
            let next = self.next_bytes(expected, broadcasts);
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

    /// Own lines between short and long runs of broadcasts, and the same as contiguous text.
    fn sample() -> (Expected, BroadcastLog, Vec<u8>, u64) {
        let (mut expected, mut broadcasts) = (Expected::default(), BroadcastLog::default());
        let (mut contiguous, mut lines) = (Vec::new(), 0);
        for run in [0, 1, 3, 5_000, 2, 0, 4_000] {
            for number in 0..run {
                let line = format!("{number}|B");
                broadcasts.push_line(line.as_bytes());
                contiguous.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            expected.push_line(b"1|P|2|3", &broadcasts);
            contiguous.extend_from_slice(b"1|P|2|3\r\n");
            lines += run + 1;
        }
        broadcasts.push_line(b"9|B");
        expected.append_broadcasts(&broadcasts);
        contiguous.extend_from_slice(b"9|B\r\n");
        (expected, broadcasts, contiguous, lines + 1)
    }

    #[test]
    fn the_pieces_make_the_whole_text() {
        let (expected, broadcasts, contiguous, lines) = sample();
        let joined: Vec<u8> = expected.spans(&broadcasts).flatten().copied().collect();
        assert!(joined == contiguous);
        assert_eq!((expected.len(), expected.lines()), (contiguous.len() as u64, lines));
        assert!(expected.memory() < contiguous.len() / 2, "long runs are shared");
    }

    #[test]
    fn right_bytes_pass_in_any_chunks() {
        let (expected, broadcasts, contiguous, _) = sample();
        for size in [1, 2, 7, 1000, 100_000, contiguous.len()] {
            let mut cursor = Cursor::default();
            for chunk in contiguous.chunks(size) {
                assert_eq!(cursor.check(chunk, &expected, &broadcasts), Ok(()));
            }
            assert_eq!(cursor.offset, expected.len());
            assert_eq!(cursor.check(b"x", &expected, &broadcasts), Err(0), "one byte too much");
        }
    }

    #[test]
    fn right_bytes_pass_from_any_offset() {
        let (expected, broadcasts, contiguous, lines) = sample();
        assert_eq!(expected.lines_with_offsets(&broadcasts).count() as u64, lines);
        for (offset, line) in expected.lines_with_offsets(&broadcasts).step_by(17) {
            let rest = &contiguous[offset as usize..];
            assert!(rest.starts_with(line));
            let mut cursor = Cursor::at(offset, &expected);
            assert_eq!(cursor.check(rest, &expected, &broadcasts), Ok(()));
            assert_eq!(cursor.offset, expected.len());
        }
        let mut end = Cursor::at(expected.len(), &expected);
        assert_eq!(end.check(b"x", &expected, &broadcasts), Err(0));
    }

    #[test]
    fn a_cursor_goes_back_to_the_start_of_its_line() {
        let (expected, broadcasts, contiguous, _) = sample();
        let line_before = |end: usize| {
            contiguous[..end].split_inclusive(|&b| b == b'\n').rfind(|line| line.ends_with(b"\n"))
        };
        for offset in (0..300).chain(20_000..20_100).chain([contiguous.len()]) {
            let mut cursor = Cursor::default();
            assert_eq!(cursor.check(&contiguous[..offset], &expected, &broadcasts), Ok(()));
            let line = cursor.rewind_to_line(&expected, &broadcasts);
            let due = line_before(offset).map(|line| line.strip_suffix(b"\r\n").unwrap());
            assert_eq!(line, due, "before {offset}");
            let start = contiguous[..offset].iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
            assert_eq!(cursor.offset, start as u64);
            let rest = &contiguous[start..];
            assert_eq!(cursor.check(rest, &expected, &broadcasts), Ok(()), "from {start} on");
        }
        assert_eq!(expected.last_line(&broadcasts), Some(&b"9|B"[..]));
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_is() {
        let (expected, broadcasts, contiguous, _) = sample();
        for wrong in [0, 8, 9, 40, 20_000, contiguous.len() - 1] {
            let mut received = contiguous.clone();
            received[wrong] ^= 1;
            let mut cursor = Cursor::default();
            assert_eq!(cursor.check(&received, &expected, &broadcasts), Err(wrong));
            assert_eq!(cursor.offset, wrong as u64);
            let line = expected.line_at(wrong as u64, &broadcasts).unwrap();
            let before = &contiguous[..wrong];
            assert_eq!(line.number, before.iter().filter(|&&b| b == b'\n').count() as u64);
            assert!(line.start <= wrong as u64);
            assert!((line.start as usize + line.text.len()) > wrong);
        }
        assert!(expected.line_at(contiguous.len() as u64, &broadcasts).is_none());
    }
}
