//! Operators' HTTP: a connection that receives arbitrary bytes in pieces.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use eventserver::admin::connection::{Connection, Progress};
use eventserver::admin::request::{MAX_HEAD_BYTES, Method};
use eventserver::admin::response::Response;
use eventserver::hub::{Readiness, Stream};
use time::OffsetDateTime;

use super::input::FuzzInput;

/// All status codes of a connection whose requests are answered 200.
const STATUSES: [&str; 6] = ["200", "400", "405", "413", "431", "505"];

/// What the connection did with its socket.
#[derive(Debug, Default)]
struct Wire {
    incoming: VecDeque<u8>,
    has_ended: bool,
    written: Vec<u8>,
    is_shut_down: bool,
}

/// A socket that accepts a few bytes per write, and refuses every other write.
#[derive(Debug)]
struct Socket {
    wire: Rc<RefCell<Wire>>,
    max_write: usize,
    refuses: bool,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        assert!(!buffer.is_empty(), "an empty read looks like an end");
        let count = buffer.len().min(wire.incoming.len());
        if count == 0 && !wire.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        for (place, byte) in buffer.iter_mut().zip(wire.incoming.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        assert!(!bytes.is_empty() && !wire.is_shut_down);
        self.refuses = !self.refuses;
        if self.refuses {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.max_write);
        wire.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.wire.borrow_mut().is_shut_down = true;
        Ok(())
    }
}

/// A response as the peer understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Received {
    status: String,
    closes: bool,
}

/// Takes the size of pieces and of writes from the first two bytes; the rest is what the peer sends.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    let piece = 1 + usize::from(input.byte());
    let max_write = 1 + usize::from(input.byte());
    let sent = input.0;
    let in_pieces = exchange(sent, piece, max_write);
    let at_once = exchange(sent, usize::MAX, usize::MAX);
    assert_eq!(in_pieces.first(), at_once.first(), "{}", sent.escape_ascii());
    if let Some(is_http_1_1) = plain_request(sent) {
        let expected = Received { status: "200".to_owned(), closes: !is_http_1_1 };
        assert_eq!(at_once, [expected], "{}", sent.escape_ascii());
    }
}

/// Sends all bytes and then the end. Returns the responses.
fn exchange(sent: &[u8], piece: usize, max_write: usize) -> Vec<Received> {
    let wire = Rc::new(RefCell::new(Wire::default()));
    let socket = Socket { wire: Rc::clone(&wire), max_write, refuses: true };
    let now = Instant::now();
    let mut connection = Connection::new(socket, now);
    let mut answered = Vec::new();
    let mut pieces = sent.chunks(piece.min(sent.len().max(1)));
    loop {
        match pieces.next() {
            Some(piece) => wire.borrow_mut().incoming.extend(piece),
            None => wire.borrow_mut().has_ended = true,
        }
        let is_end = wire.borrow().has_ended;
        if advance(&mut connection, now, &wire, &mut answered) == Progress::Closed {
            break;
        }
        assert!(!is_end, "the end closes the connection");
    }
    drop(connection);
    let wire = wire.borrow();
    let responses = parse_responses(&wire.written, &answered);
    assert!(responses.len() <= sent.len() / 16 + 1, "no request is that short");
    responses
}

/// Lets the connection do all that it can: until two rounds move no bytes, because the socket refuses every
/// other write.
fn advance(
    connection: &mut Connection<Socket>,
    now: Instant,
    wire: &RefCell<Wire>,
    answered: &mut Vec<bool>,
) -> Progress {
    let ready =
        Readiness { token: 0, readable: true, writable: true, read_closed: false, urgent: false };
    let moved = || (wire.borrow().written.len(), wire.borrow().incoming.len());
    let mut idle_rounds = 0;
    while idle_rounds < 2 {
        let before = moved();
        connection.set_ready(&ready);
        let progress = connection.advance(now, OffsetDateTime::UNIX_EPOCH, |request| {
            assert!(request.path.starts_with('/'));
            answered.push(request.method == Method::Get);
            Response::text("200 OK", request.path)
        });
        if progress == Progress::Closed {
            return progress;
        }
        idle_rounds = if moved() == before { idle_rounds + 1 } else { 0 };
    }
    Progress::Open
}

/// Parses responses one after the other. `with_body` tells for each that is not a rejection whether
/// its request was a GET.
fn parse_responses(mut bytes: &[u8], with_body: &[bool]) -> Vec<Received> {
    let mut with_body = with_body.iter().copied();
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let Some((response, rest)) = parse_response(bytes, &mut with_body) else {
            panic!("no response: {}", bytes.escape_ascii())
        };
        assert!(STATUSES.contains(&response.status.as_str()), "{response:?}");
        assert!(!response.closes || rest.is_empty(), "nothing follows the last response");
        responses.push(response);
        bytes = rest;
    }
    responses
}

/// Parses a response. Returns it and the bytes after it.
fn parse_response<'a>(
    bytes: &'a [u8],
    with_body: &mut impl Iterator<Item = bool>,
) -> Option<(Received, &'a [u8])> {
    let len = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..len]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.to_owned();
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|it| it.1);
    let body_len: usize = field("Content-Length")?.parse().ok()?;
    let has_body = if status == "200" { with_body.next()? } else { true };
    let rest = bytes.get(len + 4 + if has_body { body_len } else { 0 }..)?;
    Some((Received { status, closes: field("Connection") == Some("close") }, rest))
}

/// Recognizes a single request in its simplest form. Returns whether it is of HTTP/1.1.
fn plain_request(bytes: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = text.strip_prefix("GET /").or_else(|| text.strip_prefix("HEAD /"))?;
    let (path, rest) = rest.split_once(" HTTP/1.")?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let (minor, host) = rest.split_once("\r\nHost: ")?;
    let host = host.strip_suffix("\r\n\r\n")?;
    let is_request = path.chars().all(is_plain)
        && host.chars().all(is_plain)
        && ["0", "1"].contains(&minor)
        && bytes.len() <= MAX_HEAD_BYTES;
    is_request.then_some(minor == "1")
}
