//! Event parsing: line by line and through a reader, on the short way and on the long one, against a
//! parser that does it field by field.

use eventserver::protocol::{
    CompactEvent, Decoded, Event, EventDecoder, EventKind, ParseError, ParseErrorKind, Sequence,
    UserId,
};

use super::input::Input;
use super::lines::put;

/// What was read: the line or the beginning that is shown of it, and what it means.
type Read = (Vec<u8>, Result<Event, ParseError>);

/// The first bytes decide how long a line may be, how large the pieces are, and which events are
/// not taken on the short way; the rest is the stream.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    // So long that the head of a line too long shows its sequence and what follows.
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

/// What a line is to be read as; parses it once more on the way.
fn expect(line: &[u8], max_line_bytes: usize) -> Read {
    let parsed = plainly(line);
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

/// Reads the stream piece by piece. What the bits of `refused` say is left to the long way.
fn read(stream: &[u8], piece: usize, refused: u8, max_line_bytes: usize) -> Vec<Read> {
    let mut reader = EventDecoder::new(max_line_bytes);
    let mut read = Vec::new();
    for piece in stream.chunks(piece) {
        put(&mut reader.lines, piece);
        loop {
            let before = read.len();
            let taken = reader.decode_fast(3, |&event, line| {
                let is_taken = refused >> (read.len() % 8) & 1 == 0;
                if is_taken {
                    read.push((line.as_bytes().to_vec(), Ok(event.into())));
                }
                is_taken
            });
            assert_eq!(taken, read.len() - before);
            let Some(next) = reader.next_event() else { break };
            read.push(match next {
                Decoded::Event(event, line) => (line.as_bytes().to_vec(), Ok(event)),
                Decoded::Malformed(line, error) => (line.to_vec(), Err(error)),
            });
        }
    }
    read
}

/// What a line means.
fn plainly(line: &[u8]) -> Result<Event, ParseError> {
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

/// 1 to 20 ASCII digits that fit 64 bits.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    let is_plain = (1..=20).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(field).ok().filter(|_| is_plain)?.parse().ok()
}
