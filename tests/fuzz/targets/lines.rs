//! Line splitting: arbitrary bytes in arbitrary pieces, against the standard library's `split`.

use eventserver::protocol::{LineBuffer, LineFrame};

use super::input::FuzzInput;

/// Length of the prefix that is kept of a too long line.
const KEPT_PREFIX_BYTES: usize = 64;

/// A line, or the prefix of a too long one.
type Line = Result<Vec<u8>, Vec<u8>>;

/// Takes the line limit from the first byte, and the number of bytes that decide the pieces from
/// the second; the rest after these is the stream.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    let max_line_bytes = 1 + usize::from(input.byte() % 128);
    let cuts = usize::from(input.byte() % 32).min(input.0.len());
    let (cuts, stream) = input.0.split_at(cuts);
    let mut buffer = LineBuffer::new(max_line_bytes);
    let mut lines = Vec::new();
    for (piece, takes_one) in pieces(cuts, stream) {
        put(&mut buffer, piece);
        if takes_one {
            lines.extend(next_line(&mut buffer));
        } else {
            lines.extend(std::iter::from_fn(|| next_line(&mut buffer)));
        }
    }
    lines.extend(std::iter::from_fn(|| next_line(&mut buffer)));

    let mut expected: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    let tail = expected.pop().unwrap_or_default();
    let expected: Vec<Line> = expected.into_iter().map(|it| whole(it, max_line_bytes)).collect();
    assert_eq!(lines, expected);
    check_partial_line(&buffer, tail, max_line_bytes);
    let max = 2 * (stream.len() + max_line_bytes);
    assert!(buffer.capacity() <= max, "{} bytes for {max}", buffer.capacity());
}

/// Checks what is left after the last complete line.
fn check_partial_line(buffer: &LineBuffer, tail: &[u8], max_line_bytes: usize) {
    // One more byte may be the CR of a terminator.
    let is_discarding = tail.len() > max_line_bytes + 1;
    assert_eq!(buffer.is_discarding(), is_discarding);
    let kept = if is_discarding { prefix(tail, max_line_bytes) } else { tail };
    assert_eq!(buffer.partial_line(), kept);
    assert_eq!(buffer.pending_bytes(), if is_discarding { 0 } else { tail.len() });
}

/// Splits the stream into pieces as `cuts` says, repeated, each with whether only one line is taken
/// before the next piece.
fn pieces<'a>(cuts: &'a [u8], stream: &'a [u8]) -> impl Iterator<Item = (&'a [u8], bool)> {
    let cuts = if cuts.is_empty() { &[0x7f] } else { cuts };
    let mut rest = stream;
    cuts.iter().cycle().map_while(move |cut| {
        let scale = if cut & 0x40 == 0 { 1 } else { 64 };
        let size = scale * usize::from(1 + cut % 0x40);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some((piece, cut & 0x80 != 0))
    })
}

/// Appends bytes to a line buffer as a socket does: as much at a time as it has space for.
pub(crate) fn put(buffer: &mut LineBuffer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let spare = buffer.unfilled_mut(bytes.len());
        let (now, later) = bytes.split_at(spare.len());
        spare.copy_from_slice(now);
        buffer.advance(now.len());
        bytes = later;
    }
}

fn next_line(buffer: &mut LineBuffer) -> Option<Line> {
    Some(match buffer.next_frame()? {
        LineFrame::Complete(line) => Ok(line.as_bytes().to_vec()),
        LineFrame::TooLong(prefix) => Err(prefix.to_vec()),
    })
}

/// Returns the expected result of a line that ended with LF.
fn whole(line: &[u8], max_line_bytes: usize) -> Line {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() <= max_line_bytes {
        Ok(line.to_vec())
    } else {
        Err(prefix(line, max_line_bytes).to_vec())
    }
}

fn prefix(line: &[u8], max_line_bytes: usize) -> &[u8] {
    &line[..KEPT_PREFIX_BYTES.min(max_line_bytes + 1)]
}
