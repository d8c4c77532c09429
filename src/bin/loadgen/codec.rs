//! The load generator's own codec of events. It shares nothing with the server's, so that one
//! mistake cannot hide behind the same mistake here.

/// An event. Users are plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Follow { follower: u64, followed: u64 },
    Unfollow { follower: u64, followed: u64 },
    Broadcast,
    Private { from: u64, to: u64 },
    Status { from: u64 },
}

/// Appends `sequence|…` for `event`, without a line terminator.
pub(crate) fn write_event(text: &mut Vec<u8>, sequence: u64, event: Event) {
    write_number(text, sequence);
    match event {
        Event::Follow { follower, followed } => write_fields(text, b'F', &[follower, followed]),
        Event::Unfollow { follower, followed } => write_fields(text, b'U', &[follower, followed]),
        Event::Broadcast => write_fields(text, b'B', &[]),
        Event::Private { from, to } => write_fields(text, b'P', &[from, to]),
        Event::Status { from } => write_fields(text, b'S', &[from]),
    }
}

fn write_fields(text: &mut Vec<u8>, letter: u8, users: &[u64]) {
    text.extend_from_slice(&[b'|', letter]);
    for &user in users {
        text.push(b'|');
        write_number(text, user);
    }
}

/// Appends `number` in decimal.
pub(crate) fn write_number(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

/// Returns the sequence of a line: the number before its first `|`.
pub(crate) fn sequence_of(line: &[u8]) -> Option<u64> {
    line.split(|&byte| byte == b'|').next().and_then(read_number)
}

/// Returns the lines of `wire` from a sequence on, in the same order.
pub(crate) fn lines_from(wire: &[u8], sequence: u64) -> Vec<u8> {
    let is_left = |line: &&[u8]| sequence_of(line).is_some_and(|number| number >= sequence);
    wire.split_inclusive(|&byte| byte == b'\n').filter(is_left).flatten().copied().collect()
}

/// A line of a captured stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A well-formed event.
    Event(u64, Event),
    /// Malformed with a readable sequence: the line occupies the sequence of its event.
    Void(u64),
    /// Malformed without a readable sequence: no effect.
    Noise,
}

/// Longest line that a server with default settings accepts, in bytes.
const MAX_LINE_BYTES: usize = 256;

impl Line {
    /// Parses a line without its terminator.
    pub(crate) fn read(line: &[u8]) -> Line {
        let mut fields = line.split(|&byte| byte == b'|');
        let sequence = fields.next().and_then(read_number).filter(|&number| number < u64::MAX);
        let Some(sequence) = sequence else { return Line::Noise };
        let fields: Vec<&[u8]> = fields.collect();
        match read_event(&fields) {
            Some(event) if line.len() <= MAX_LINE_BYTES => Line::Event(sequence, event),
            _ => Line::Void(sequence),
        }
    }

    /// Returns the sequence of the event or of the void.
    pub(crate) fn sequence(self) -> Option<u64> {
        match self {
            Line::Event(sequence, _) | Line::Void(sequence) => Some(sequence),
            Line::Noise => None,
        }
    }
}

fn read_event(fields: &[&[u8]]) -> Option<Event> {
    let user = |field: usize| read_number(fields[field]);
    Some(match (*fields.first()?, fields.len()) {
        (b"F", 3) => Event::Follow { follower: user(1)?, followed: user(2)? },
        (b"U", 3) => Event::Unfollow { follower: user(1)?, followed: user(2)? },
        (b"B", 1) => Event::Broadcast,
        (b"P", 3) => Event::Private { from: user(1)?, to: user(2)? },
        (b"S", 2) => Event::Status { from: user(1)? },
        _ => return None,
    })
}

/// Parses 1 to 20 digits that fit in 64 bits.
pub(crate) fn read_number(digits: &[u8]) -> Option<u64> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    if !all_digits || digits.len() > 20 {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_roundtrip() {
        for (event, line) in [
            (Event::Follow { follower: 60, followed: 50 }, "7|F|60|50"),
            (Event::Unfollow { follower: 12, followed: 9 }, "7|U|12|9"),
            (Event::Broadcast, "7|B"),
            (Event::Private { from: 0, to: u64::MAX }, "7|P|0|18446744073709551615"),
            (Event::Status { from: 32 }, "7|S|32"),
        ] {
            let mut text = Vec::new();
            write_event(&mut text, 7, event);
            assert_eq!(text, line.as_bytes());
            assert_eq!(Line::read(&text), Line::Event(7, event));
        }
    }

    #[test]
    fn lines_that_are_no_events() {
        for line in ["12|F", "1|F||2", "1|F|2|", "1|U|2|3|4", "1|b", "1|B|2", "1|", "1", "1|P|-1|2"]
        {
            let sequence = if line.starts_with("12") { 12 } else { 1 };
            assert_eq!(Line::read(line.as_bytes()), Line::Void(sequence), "{line}");
        }
        for line in ["", "abcd", "|", "|B", "-1|B", "+1|B", "99999999999999999999|B"] {
            assert_eq!(Line::read(line.as_bytes()), Line::Noise, "{line}");
        }
        let long = format!("5|S|{}", "0".repeat(MAX_LINE_BYTES));
        assert_eq!(Line::read(long.as_bytes()), Line::Void(5));
    }

    #[test]
    fn what_is_left_to_send() {
        assert_eq!(lines_from(b"3|B\n12|S|1\n4|B\n007|B\n", 5), b"12|S|1\n007|B\n");
        assert_eq!(lines_from(b"3|B\n", 4), b"");
    }
}
