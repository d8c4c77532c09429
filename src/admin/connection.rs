//! One connection: reads a request head, writes the response, and starts again or closes.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::request::{self, Head, MAX_HEAD_BYTES, Request};
use super::response::{Framing, Rejection, Response};
use crate::hub::{Readiness, Stream};

/// The time for a head to arrive, and for a response to be taken.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a connection may stay open without a request. Longer than usual scrape intervals.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The time for the peer to close after the last response. A close with unread input would reset the
/// connection, and the response with it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of bytes that are read and ignored after the last response.
const MAX_LINGER_BYTES: usize = 64 << 10;

/// The size of one read.
const READ_BYTES: usize = 2048;

/// A connection over a non-blocking stream.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    phase: Phase,
    /// The bytes of the next head so far, at most [`MAX_HEAD_BYTES`].
    input: Vec<u8>,
    /// The response, of which `written` bytes are written.
    output: Vec<u8>,
    written: usize,
    /// Whether a request has been answered.
    has_answered: bool,
    /// The peer has closed its sending side.
    is_read_to_end: bool,
    /// The kernel may have unread bytes, or the end of the stream.
    readable: bool,
    /// The kernel may accept bytes.
    writable: bool,
    deadline: Instant,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The rest of a head, or its start.
    ReadingHead,
    /// The peer to take the response.
    Writing { keep_alive: bool },
    /// The peer to close. Further input is ignored.
    Lingering { left: usize },
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has not ended.
    Open,
    /// It has ended: the caller has to drop it.
    Closed,
}

impl<S: Stream> Connection<S> {
    /// Creates a connection that was accepted at `now`.
    pub fn new(stream: S, now: Instant) -> Connection<S> {
        Connection {
            stream,
            phase: Phase::ReadingHead,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            has_answered: false,
            is_read_to_end: false,
            readable: true,
            writable: true,
            deadline: now + REQUEST_TIMEOUT,
        }
    }

    /// Records readiness.
    pub fn set_ready(&mut self, readiness: &Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
    }

    /// Returns whether [`advance`](Self::advance) has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        match self.phase {
            Phase::ReadingHead | Phase::Lingering { .. } => self.readable,
            Phase::Writing { .. } => self.writable,
        }
    }

    /// Returns whether the connection waits for a further request of which nothing has arrived.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.has_answered
            && self.phase == Phase::ReadingHead
            && self.input.is_empty()
            && !self.readable
    }

    /// Returns when the connection expires.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads and writes as far as the kernel allows, and answers at most one request. Ignores all
    /// readiness of the time after `now`.
    pub fn advance(
        &mut self,
        now: Instant,
        date: OffsetDateTime,
        respond: impl FnOnce(&Request<'_>) -> Response,
    ) -> Progress {
        if self.phase == Phase::ReadingHead && self.readable {
            if self.read_head(now) == Progress::Closed {
                return Progress::Closed;
            }
            self.answer(now, date, respond);
            if self.phase == Phase::ReadingHead && self.is_read_to_end {
                return Progress::Closed;
            }
        }
        if matches!(self.phase, Phase::Writing { .. }) && self.writable {
            return self.write(now);
        }
        match &mut self.phase {
            Phase::Lingering { left } => {
                let progress = discard(&mut self.stream, left);
                self.readable = false;
                progress
            }
            Phase::ReadingHead | Phase::Writing { .. } => Progress::Open,
        }
    }

    /// Reads until the kernel has no more bytes, or the maximum length of a head has arrived.
    fn read_head(&mut self, now: Instant) -> Progress {
        let was_empty = self.input.is_empty();
        let mut piece = [0; READ_BYTES];
        while self.input.len() < MAX_HEAD_BYTES && !self.is_read_to_end {
            let max = READ_BYTES.min(MAX_HEAD_BYTES - self.input.len());
            match self.stream.read(&mut piece[..max]) {
                Ok(0) => self.is_read_to_end = true,
                Ok(bytes) => self.input.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(_) => return Progress::Closed,
            }
        }
        if was_empty && !self.input.is_empty() && self.has_answered {
            self.deadline = now + REQUEST_TIMEOUT;
        }
        Progress::Open
    }

    /// Starts the response to the head that has arrived, if it is complete or will never be.
    fn answer(
        &mut self,
        now: Instant,
        date: OffsetDateTime,
        respond: impl FnOnce(&Request<'_>) -> Response,
    ) {
        let (response, framing) = match request::parse(&self.input) {
            Ok(Head::Partial) => return,
            Ok(Head::Complete(request, len)) => {
                // A request sent before the last answer arrived is not looked at: the peer sends it
                // again on another connection.
                let is_last = self.input.len() > len || self.is_read_to_end;
                (respond(&request), Framing::of(&request, is_last))
            }
            Err(rejection) => (Rejection::response(rejection), Framing::LAST),
        };
        self.output = response.encode(framing, date);
        self.written = 0;
        self.input = Vec::new();
        self.has_answered = true;
        self.phase = Phase::Writing { keep_alive: framing.keep_alive };
        self.deadline = now + REQUEST_TIMEOUT;
    }

    /// Writes as much of the response as the kernel takes.
    fn write(&mut self, now: Instant) -> Progress {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Progress::Closed,
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Progress::Open;
                }
                Err(_) => return Progress::Closed,
            }
        }
        self.output = Vec::new();
        match self.phase {
            Phase::Writing { keep_alive: true } => {
                self.phase = Phase::ReadingHead;
                self.deadline = now + IDLE_TIMEOUT;
                Progress::Open
            }
            _ => self.linger(now),
        }
    }

    /// Ends the sending side, and waits for the peer to close.
    fn linger(&mut self, now: Instant) -> Progress {
        if self.is_read_to_end || self.stream.shutdown_write().is_err() {
            return Progress::Closed;
        }
        self.phase = Phase::Lingering { left: MAX_LINGER_BYTES };
        self.readable = true;
        self.deadline = now + LINGER_TIMEOUT;
        Progress::Open
    }
}

/// Reads and ignores what has arrived, at most `left` bytes.
fn discard(stream: &mut impl Stream, left: &mut usize) -> Progress {
    let mut piece = [0; READ_BYTES];
    while *left > 0 {
        match stream.read(&mut piece) {
            Ok(0) => return Progress::Closed,
            Ok(bytes) => *left = left.saturating_sub(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Open,
            Err(_) => return Progress::Closed,
        }
    }
    Progress::Closed
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, Read, Write};

    use super::*;

    /// What a read of the scripted stream returns.
    #[derive(Debug)]
    enum Step {
        Bytes(Vec<u8>),
        WouldBlock,
        End,
    }

    /// A stream that reads what a script says, and accepts a number of bytes.
    #[derive(Debug, Default)]
    struct Script {
        steps: VecDeque<Step>,
        written: Vec<u8>,
        space: usize,
        is_shut_down: bool,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.steps.pop_front() {
                Some(Step::Bytes(mut bytes)) => {
                    let count = bytes.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&bytes[..count]);
                    if count < bytes.len() {
                        self.steps.push_front(Step::Bytes(bytes.split_off(count)));
                    }
                    Ok(count)
                }
                Some(Step::WouldBlock) | None => Err(ErrorKind::WouldBlock.into()),
                Some(Step::End) => {
                    self.steps.push_front(Step::End);
                    Ok(0)
                }
            }
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(!self.is_shut_down, "writes after the shutdown");
            let count = bytes.len().min(self.space);
            self.space -= count;
            self.written.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn shutdown_write(&mut self) -> io::Result<()> {
            self.is_shut_down = true;
            Ok(())
        }
    }

    const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

    struct Harness {
        connection: Connection<Script>,
        now: Instant,
        requests: usize,
    }

    impl Harness {
        fn new() -> Harness {
            let now = Instant::now();
            let script = Script { space: usize::MAX, ..Script::default() };
            Harness { connection: Connection::new(script, now), now, requests: 0 }
        }

        fn receives(&mut self, bytes: &[u8]) -> Progress {
            self.connection.stream.steps.push_back(Step::Bytes(bytes.to_vec()));
            self.advance()
        }

        fn ends(&mut self) -> Progress {
            self.connection.stream.steps.push_back(Step::End);
            self.advance()
        }

        fn advance(&mut self) -> Progress {
            let ready = Readiness {
                token: 0,
                readable: true,
                writable: true,
                read_closed: false,
                urgent: false,
            };
            self.connection.set_ready(&ready);
            self.go_on()
        }

        fn go_on(&mut self) -> Progress {
            let requests = &mut self.requests;
            self.connection.advance(self.now, OffsetDateTime::UNIX_EPOCH, |request| {
                *requests += 1;
                Response::text("200 OK", request.path)
            })
        }

        /// Returns the status lines written so far.
        fn statuses(&self) -> Vec<String> {
            let written = String::from_utf8_lossy(&self.connection.stream.written).into_owned();
            let is_status = |line: &&str| line.starts_with("HTTP/1.1 ");
            written.lines().filter(is_status).map(|line| line[9..12].to_owned()).collect()
        }

        fn is_lingering(&self) -> bool {
            matches!(self.connection.phase, Phase::Lingering { .. })
                && self.connection.stream.is_shut_down
        }
    }

    #[test]
    fn requests_are_answered_one_after_the_other_in_any_pieces() {
        for size in 1..=REQUEST.len() {
            let mut harness = Harness::new();
            for _ in 0..3 {
                for piece in REQUEST.as_bytes().chunks(size) {
                    assert_eq!(harness.receives(piece), Progress::Open);
                }
            }
            assert_eq!(harness.statuses(), ["200", "200", "200"], "pieces of {size}");
            assert!(harness.connection.is_idle());
            assert_eq!(harness.ends(), Progress::Closed);
        }
    }

    #[test]
    fn a_pipelined_request_is_not_answered_and_its_connection_closes_in_order() {
        let mut harness = Harness::new();
        harness.receives(REQUEST.repeat(2).as_bytes());
        assert_eq!((harness.statuses(), harness.requests), (vec!["200".to_owned()], 1));
        assert!(harness.is_lingering());
        let written = String::from_utf8_lossy(&harness.connection.stream.written).into_owned();
        assert!(written.contains("\r\nConnection: close\r\n"), "{written}");
        assert_eq!(harness.receives(REQUEST.as_bytes()), Progress::Open);
        assert_eq!(harness.requests, 1);
        assert_eq!(harness.ends(), Progress::Closed);
    }

    #[test]
    fn garbage_is_answered_once() {
        let mut harness = Harness::new();
        assert_eq!(harness.receives(&[0x16; 20_000]), Progress::Open);
        assert_eq!((harness.statuses(), harness.requests), (vec!["400".to_owned()], 0));
        assert!(harness.is_lingering());
        let mut fed = 0;
        while harness.receives(&[0; 4096]) == Progress::Open {
            fed += 4096;
        }
        assert!(fed <= MAX_LINGER_BYTES, "{fed} bytes are read");
    }

    #[test]
    fn a_head_is_read_up_to_its_bound() {
        let mut harness = Harness::new();
        let endless = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().copied();
        let endless: Vec<u8> = endless.chain(std::iter::repeat_n(b'x', 20_000)).collect();
        for piece in endless.chunks(100) {
            harness.receives(piece);
            assert!(harness.connection.input.len() <= MAX_HEAD_BYTES);
        }
        assert_eq!(harness.statuses(), ["431"]);
    }

    #[test]
    fn a_request_before_the_end_of_the_stream_is_answered() {
        let mut harness = Harness::new();
        harness.connection.stream.steps.push_back(Step::Bytes(REQUEST.into()));
        assert_eq!(harness.ends(), Progress::Closed);
        assert_eq!(harness.statuses(), ["200"]);

        let mut harness = Harness::new();
        harness.receives(&REQUEST.as_bytes()[..REQUEST.len() - 1]);
        assert_eq!(harness.ends(), Progress::Closed);
        assert_eq!(harness.statuses(), [""; 0]);
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_its_deadline() {
        let mut harness = Harness::new();
        harness.connection.stream.space = 10;
        harness.receives(REQUEST.as_bytes());
        let deadline = harness.connection.deadline();
        assert_eq!(deadline, harness.now + REQUEST_TIMEOUT);
        assert!(!harness.connection.has_work());
        harness.now += Duration::from_secs(1);
        harness.connection.stream.space = 10;
        harness.advance();
        assert_eq!(harness.connection.deadline(), deadline);
        harness.connection.stream.space = 1000;
        harness.advance();
        assert_eq!(harness.statuses(), ["200"]);
        assert_eq!(harness.connection.deadline(), harness.now + IDLE_TIMEOUT);
    }

    #[test]
    fn a_further_head_has_as_much_time_as_the_first_from_its_first_byte() {
        let mut harness = Harness::new();
        harness.now += Duration::from_secs(3);
        harness.receives(b"G");
        assert_eq!(
            harness.connection.deadline() + Duration::from_secs(3),
            harness.now + REQUEST_TIMEOUT
        );
        harness.receives(&REQUEST.as_bytes()[1..]);
        harness.now += Duration::from_secs(60);
        harness.receives(b"G");
        let deadline = harness.now + REQUEST_TIMEOUT;
        harness.now += Duration::from_secs(3);
        harness.receives(b"E");
        assert_eq!(harness.connection.deadline(), deadline);
    }

    #[test]
    fn a_drained_connection_has_no_work_left() {
        let mut harness = Harness::new();
        harness.connection.stream.steps.push_back(Step::WouldBlock);
        harness.go_on();
        assert!(!harness.connection.has_work() && !harness.connection.is_idle());
        harness.receives(REQUEST.as_bytes());
        assert!(!harness.connection.has_work() && harness.connection.is_idle());
    }
}
