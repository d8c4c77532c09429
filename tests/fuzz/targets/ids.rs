//! ID lines: parsed alone, and received by the server from a client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use eventserver::config::Config;
use eventserver::hub::{Acceptor, Capacity, CloseReason, Stream};
use eventserver::hub::{Hub, NextTurn};
use eventserver::protocol::{IdLine, Sequence, UserId};

use super::events::number;
use super::input::FuzzInput;

/// As many bytes without an LF are no ID line, whatever follows: 64, a CR, and one more.
const TOO_MANY_BYTES: usize = 66;

const CAPACITY: Capacity = Capacity { max_clients: 1, max_awaiting_id: 1 };

/// The outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// As a user, which has everything up to a sequence if it resumes.
    Registered(u64, Option<u64>),
    /// The line is incomplete.
    Waits,
    Closed(CloseReason),
}

/// Takes the piece size from the first byte, and whether the client disconnects afterwards and whether clients may
/// resume from the second; the rest is what it sends.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    let piece = 1 + usize::from(input.byte());
    let flags = input.byte();
    let (leaves, may_resume) = (flags % 2 == 1, flags / 2 % 2 == 1);
    let sent = input.0;
    for line in sent.split(|&byte| byte == b'\n') {
        assert_eq!(UserId::parse(line), number(line).map(UserId), "{}", line.escape_ascii());
        let parsed = IdLine::parse(line).ok().map(|id| (id.user.0, id.after.map(Sequence::get)));
        assert_eq!(parsed, id_line(line), "{}", line.escape_ascii());
    }
    check_served(sent, piece, leaves, may_resume);
}

/// Returns the user of an ID line, and the sequence after it if there is one.
fn id_line(line: &[u8]) -> Option<(u64, Option<u64>)> {
    let mut fields = line.split(|&byte| byte == b'|');
    let user = number(fields.next()?)?;
    let Some(sequence) = fields.next() else { return Some((user, None)) };
    let sequence = number(sequence).filter(|&sequence| sequence < u64::MAX)?;
    fields.next().is_none().then_some((user, Some(sequence)))
}

/// Serves the client, and then an event for its expected user.
fn check_served(sent: &[u8], piece: usize, leaves: bool, may_resume: bool) {
    let outcome = expected_outcome(sent, leaves, may_resume);
    let (user, after) = match outcome {
        Outcome::Registered(user, after) => (user, after),
        _ => (0, None),
    };
    let client = Wire::new(sent, piece, leaves);
    let received = Rc::clone(&client.written);
    let event = format!("1|P|1|{user}");
    // In one piece: a short read of a source counts as its last.
    let source = Wire::new(format!("{event}\n").as_bytes(), event.len() + 1, false);
    let now = Instant::now();
    let resume_events = usize::from(may_resume);
    let config = Config { resume_events, ..Config::default() };
    let mut hub = Hub::new(config, CAPACITY, Once(Some(source)), Once(Some(client)), now);
    while hub.next_turn() == NextTurn::Now {
        hub.turn(now, &[], |_| false);
        hub.check_invariants();
    }

    let totals = hub.totals();
    let closed = CloseReason::ALL.into_iter().find(|&reason| totals.clients_closed(reason) > 0);
    // Whoever has the event already waits for more.
    let has_event = after.is_some_and(|sequence| sequence >= 1);
    let is_served = matches!(outcome, Outcome::Registered(..)) && !leaves && !has_event;
    let expected = if is_served { format!("{event}\r\n") } else { String::new() };
    assert_eq!(*received.borrow(), expected.as_bytes(), "{outcome:?}");
    assert_eq!(closed, reason_to_close(outcome, leaves));
    assert_eq!(totals.clients_connected(), usize::from(closed.is_none()));
    assert_eq!(totals.awaited(), 2);
}

fn expected_outcome(sent: &[u8], leaves: bool, may_resume: bool) -> Outcome {
    let Some(end) = sent.iter().position(|&byte| byte == b'\n') else {
        return match sent.len() {
            0..TOO_MANY_BYTES if leaves => Outcome::Closed(CloseReason::ClosedByPeer),
            0..TOO_MANY_BYTES => Outcome::Waits,
            _ => Outcome::Closed(reason_to_refuse(&sent[..64], true)),
        };
    };
    let line = sent[..end].strip_suffix(b"\r").unwrap_or(&sent[..end]);
    match id_line(line).filter(|(_, after)| may_resume || after.is_none()) {
        Some((user, after)) if line.len() <= 64 => Outcome::Registered(user, after),
        _ if line.len() > 64 => Outcome::Closed(reason_to_refuse(&line[..64], true)),
        _ => Outcome::Closed(reason_to_refuse(line, false)),
    }
}

/// Returns the close reason of a first line that is no ID.
fn reason_to_refuse(line: &[u8], is_cut: bool) -> CloseReason {
    let words: Vec<&[u8]> = line.splitn(3, |&byte| byte == b' ').collect();
    let is_method = |word: &[u8]| {
        let is_token = |byte: &u8| byte.is_ascii_alphabetic() || b"!#$%&'*+-.^_`~".contains(byte);
        !word.is_empty() && word.iter().all(is_token)
    };
    let is_request = match words[..] {
        [method, target] => is_cut && is_method(method) && !target.is_empty(),
        [method, target, rest] => {
            let has_version = [b" ", rest].concat().windows(6).any(|six| six == b" HTTP/");
            is_method(method) && !target.is_empty() && (is_cut || has_version)
        }
        _ => false,
    };
    if is_request { CloseReason::HttpRequest } else { CloseReason::BadId }
}

fn reason_to_close(outcome: Outcome, leaves: bool) -> Option<CloseReason> {
    match outcome {
        Outcome::Closed(reason) => Some(reason),
        Outcome::Registered(..) => leaves.then_some(CloseReason::ClosedByPeer),
        Outcome::Waits => None,
    }
}

/// An acceptor with one connection.
struct Once(Option<Wire>);

impl Acceptor for Once {
    type Stream = Wire;

    fn accept(&mut self, _token: usize) -> io::Result<(Wire, SocketAddr)> {
        let wire = self.0.take().ok_or(ErrorKind::WouldBlock)?;
        Ok((wire, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
    }
}

/// A connection whose peer has sent everything, and accepts all output.
struct Wire {
    sent: VecDeque<u8>,
    /// Upper bound of the bytes per read.
    piece: usize,
    leaves: bool,
    written: Rc<RefCell<Vec<u8>>>,
}

impl Wire {
    fn new(sent: &[u8], piece: usize, leaves: bool) -> Wire {
        Wire { sent: sent.iter().copied().collect(), piece, leaves, written: Rc::default() }
    }
}

impl Stream for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.sent.is_empty() && !self.leaves {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = self.piece.min(buffer.len());
        self.sent.read(&mut buffer[..bytes])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
