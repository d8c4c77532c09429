//! Event parsing: line by line and through the decoder, by the fast path and the general one,
//! against a field-by-field parser.

use eventserver::protocol::{
    CompactEvent, Decoded, Event, EventDecoder, EventKind, ParseError, ParseErrorKind, Sequence,
    UserId,
};

use super::input::FuzzInput;
use super::lines::put;

/// A line, or the prefix of it that is kept, with its parse result.
type Read = (Vec<u8>, Result<Event, ParseError>);

/// Takes the line limit, the piece size and the events refused by the fast path from the first
/// bytes; the rest is the stream.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    // Large enough that the prefix of a too long line shows its sequence and more.
    let max_line_bytes = 64 + usize::from(input.byte());
    let piece = 1 + usize::from(input.byte());
    let refused = input.byte();
    let stream = input.0;
    let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    lines.pop();
    let lines = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let expected: Vec<Read> = lines.map(|line| expect(line, max_line_bytes)).collect();
    assert_eq!(read(stream, piece, refused, max_line_bytes), expected);
}

/// Returns the expected result of a line, and checks `Event::parse` on it.
fn expect(line: &[u8], max_line_bytes: usize) -> Read {
    let parsed = reference(line);
    assert_eq!(Event::parse(line), parsed, "{}", line.escape_ascii());
    if let Some((event, packed)) =
        parsed.ok().and_then(|it| Some((it, CompactEvent::try_from(&it).ok()?)))
    {
        assert_eq!(Event::from(packed), event);
    }
    if line.len() <= max_line_bytes {
        return (line.to_vec(), parsed);
    }
    let sequence = parsed.map_or_else(|error| error.sequence, |event| Some(event.sequence));
    (line[..64].to_vec(), Err(ParseError { sequence, reason: ParseErrorKind::TooLong }))
}

/// Decodes the stream piece by piece. The bits of `refused` select lines for the general path.
fn read(stream: &[u8], piece: usize, refused: u8, max_line_bytes: usize) -> Vec<Read> {
    let mut decoder = EventDecoder::new(max_line_bytes);
    let mut read = Vec::new();
    for piece in stream.chunks(piece) {
        put(decoder.buffer_mut(), piece);
        loop {
            let before = read.len();
            let taken = decoder.decode_fast(3, |&event, line| {
                let is_taken = refused >> (read.len() % 8) & 1 == 0;
                if is_taken {
                    read.push((line.as_bytes().to_vec(), Ok(event.into())));
                }
                is_taken
            });
            assert_eq!(taken, read.len() - before);
            let Some(next) = decoder.next_event() else { break };
            read.push(match next {
                Decoded::Event(event, line) => (line.as_bytes().to_vec(), Ok(event)),
                Decoded::Malformed(line, error) => (line.to_vec(), Err(error)),
            });
        }
    }
    read
}

/// Parses a line field by field.
fn reference(line: &[u8]) -> Result<Event, ParseError> {
    let mut fields = line.split(|&byte| byte == b'|');
    let Some(sequence) = fields.next().and_then(number).and_then(Sequence::new) else {
        return Err(ParseError { sequence: None, reason: ParseErrorKind::NoSequence });
    };
    kind(&mut fields)
        .map(|kind| Event { sequence, kind })
        .map_err(|reason| ParseError { sequence: Some(sequence), reason })
}

fn kind<'a>(fields: &mut impl Iterator<Item = &'a [u8]>) -> Result<EventKind, ParseErrorKind> {
    let letter = fields.next().ok_or(ParseErrorKind::WrongFieldCount)?;
    let mut user = || {
        let field = fields.next().ok_or(ParseErrorKind::WrongFieldCount)?;
        number(field).map(UserId).ok_or(ParseErrorKind::BadUserId)
    };
    let kind = match letter {
        b"F" => EventKind::Follow { follower: user()?, followed: user()? },
        b"U" => EventKind::Unfollow { follower: user()?, followed: user()? },
        b"B" => EventKind::Broadcast,
        b"P" => EventKind::PrivateMessage { from: user()?, to: user()? },
        b"S" => EventKind::StatusUpdate { from: user()? },
        _ => return Err(ParseErrorKind::UnknownType),
    };
    fields.next().map_or(Ok(kind), |_| Err(ParseErrorKind::WrongFieldCount))
}

/// Parses 1 to 20 ASCII digits that fit 64 bits.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    let is_plain = (1..=20).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(field).ok().filter(|_| is_plain)?.parse().ok()
}
