//! A source and all clients of a run: sends segments and compares what is received.
//!
//! While the clock runs it only writes, reads and compares.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::client::connection::Connecting;
use crate::client::first_delivery::FirstDelivery;
use crate::client::reconnects::{Reconnects, Way};
use crate::client::run_end::{END_TIMEOUT, SILENCE_PERIOD, source_failed, warn_of_open_source};
use crate::client::source::{Source, sync_handshake};
use crate::client::sync::Answers;
use crate::codec::sequence_of;
use crate::oracle::comparison::Comparison;
use crate::oracle::expected::Cursor;
use crate::oracle::mismatch::{Mismatch, MismatchKind};
use crate::sys::interrupt::{self, MAX_WAIT};
use crate::target::server::Addresses;
use crate::workload::handshake::Handshake;
use crate::workload::segment::{Segment, Workload};

/// Bytes per read from a client; large, because each read costs a system call.
const READ_BYTES: usize = 256 * 1024;
/// Without expected output, a segment ends when nothing has arrived for this time.
const QUIET_PERIOD: Duration = Duration::from_millis(500);

const SOURCE: Token = Token(usize::MAX - 1);

/// Observer of the progress of a run, called often.
pub(crate) trait Observer {
    /// `sent` and `received` are bytes of the current segment.
    fn progress(&mut self, now: Instant, sent: u64, received: u64);
}

/// Received totals, without comparison.
#[derive(Default)]
pub(crate) struct ReceivedStats {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// From the first byte sent to the last one received.
    pub(crate) time: Duration,
}

/// The end of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentEnd {
    /// From its first byte on.
    pub(crate) time: Duration,
    /// Everything was sent and received.
    pub(crate) is_complete: bool,
}

/// When a segment ends that is not complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    pub(crate) time: Instant,
    /// Not before this sequence is committed.
    pub(crate) committed: u64,
}

impl Until {
    fn is_due(self, now: Instant, answers: Option<&mut Answers>) -> bool {
        now >= self.time && answers.and_then(|it| it.committed()) >= Some(self.committed)
    }
}

/// What is left of a session whose server was killed.
pub(crate) struct Remains {
    /// Bytes of the last segment that each client has received.
    pub(crate) received: Vec<u64>,
    /// What the server has said to the source.
    pub(crate) answers: Answers,
    /// Differences, other than that connections have ended.
    pub(crate) mismatches: Vec<Mismatch>,
    /// Where each client is.
    pub(crate) positions: Vec<Position>,
}

/// What a client has received: where it can go on after it has come back.
#[derive(Clone, Copy, Default)]
pub(crate) struct Position {
    /// The sequence of the last complete line.
    sequence: u64,
    /// The end of that line in the output of the segment.
    cursor: Cursor,
}

/// A source and its clients, connected.
pub(crate) struct Session {
    poll: Poll,
    events: Events,
    source: Source,
    clients: Vec<Client>,
    /// Clients that may have bytes to read.
    readable: Vec<usize>,
    buffer: Box<[u8]>,
    /// Clients with a mismatch, in the order of detection.
    mismatched: Vec<usize>,
    timeout: Duration,
    first_delivery: FirstDelivery,
    /// Clients come back during the run.
    reconnects: Option<Reconnects>,
}

struct Client {
    comparison: Comparison,
    stream: TcpStream,
    /// Where the next segment starts, unless at its beginning.
    starts_at: Option<Cursor>,
    /// The sequence of the last line of the earlier segments, while clients come back.
    last_sequence: u64,
    /// Whether it is in `readable`.
    in_ready_list: bool,
    /// Closed by the peer: read until the end of file.
    ending: bool,
    ended: bool,
}

impl Session {
    /// Connects the source, then one client per user, each of which sends its id. An event server
    /// acknowledges neither.
    ///
    /// A run fails if there is no progress for `timeout`.
    ///
    /// # Errors
    ///
    /// A connection is refused or fails.
    pub(crate) fn connect(
        to: Addresses,
        users: &[u64],
        workload: &dyn Workload,
        timeout: Duration,
    ) -> io::Result<Session> {
        let handshake = workload.source_handshake();
        let client = |user| workload.client_handshake(user);
        Session::open(to, users, timeout, &handshake, client, |stream, registry| {
            Source::new(stream, workload.source_expects_replies(), registry, SOURCE)
        })
    }

    /// Connects a source that speaks `SYNC` and continues one with `answers`, then one client per user of an
    /// event server.
    ///
    /// # Errors
    ///
    /// A connection is refused or fails.
    pub(crate) fn connect_synced(
        to: Addresses,
        users: &[u64],
        answers: Answers,
        timeout: Duration,
    ) -> io::Result<Session> {
        let client = Handshake::of_user;
        Session::open(to, users, timeout, &sync_handshake(), client, |stream, registry| {
            Source::synced(stream, answers, registry, SOURCE)
        })
    }

    /// The same as [`connect_synced`](Self::connect_synced), with clients that come back and continue the segment
    /// that they received before.
    ///
    /// # Errors
    ///
    /// A connection is refused or fails.
    pub(crate) fn connect_returning(
        to: Addresses,
        users: &[u64],
        positions: &[Position],
        answers: Answers,
        timeout: Duration,
    ) -> io::Result<Session> {
        let sequences: HashMap<u64, u64> =
            users.iter().copied().zip(positions.iter().map(|position| position.sequence)).collect();
        let client = |user| {
            Handshake::of_returning_user(user, sequences.get(&user).copied().unwrap_or_default())
        };
        let mut session =
            Session::open(to, users, timeout, &sync_handshake(), client, |stream, registry| {
                Source::synced(stream, answers, registry, SOURCE)
            })?;
        for (client, position) in session.clients.iter_mut().zip(positions) {
            client.starts_at = Some(position.cursor);
            client.last_sequence = position.sequence;
        }
        Ok(session)
    }

    /// Lets clients drop their connections and come back during the run.
    pub(crate) fn with_reconnects(mut self, reconnects: Reconnects) -> Session {
        self.reconnects = Some(reconnects);
        self
    }

    /// Returns the number of clients that came back so far.
    pub(crate) fn client_reconnects(&self) -> Option<u64> {
        self.reconnects.as_ref().map(|reconnects| reconnects.count)
    }

    fn open(
        to: Addresses,
        users: &[u64],
        timeout: Duration,
        source_handshake: &Handshake,
        client_handshake: impl Fn(u64) -> Handshake,
        new_source: impl FnOnce(TcpStream, &Registry) -> io::Result<Source>,
    ) -> io::Result<Session> {
        let poll = Poll::new()?;
        let source = Connecting::open(to.events, "the event source", source_handshake)?;
        let open = |&user| Connecting::open(to.clients, "a client", &client_handshake(user));
        let connection: Vec<Connecting> = users.iter().map(open).collect::<io::Result<_>>()?;
        let source = new_source(source.finish()?, poll.registry())?;
        let mut clients = Vec::with_capacity(users.len());
        for (&user, connection) in users.iter().zip(connection) {
            clients.push(Client::new(user, connection.finish()?, Token(clients.len()), &poll)?);
        }
        Ok(Session {
            poll,
            events: Events::with_capacity(1024),
            source,
            clients,
            readable: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            mismatched: Vec::new(),
            timeout,
            first_delivery: FirstDelivery::new(to.events),
            reconnects: None,
        })
    }

    /// Sends `segment` and reads until every client without a mismatch has received its part, or
    /// the timeout expires. Returns the time from the first byte to the last.
    ///
    /// # Errors
    ///
    /// The source's connection fails, or the server delivers nothing at all.
    pub(crate) fn run_segment(
        &mut self,
        segment: &Segment,
        observer: &mut dyn Observer,
    ) -> io::Result<Duration> {
        self.run_segment_until(segment, observer, None).map(|end| end.time)
    }

    /// The same, but ends when `until` is due if the segment is not complete by then.
    ///
    /// # Errors
    ///
    /// The source's connection fails, or the server delivers nothing at all.
    pub(crate) fn run_segment_until(
        &mut self,
        segment: &Segment,
        observer: &mut dyn Observer,
        until: Option<Until>,
    ) -> io::Result<SegmentEnd> {
        let mut waiting = self.start(segment);
        let mut received = 0;
        let start = Instant::now();
        let (mut now, mut last_move) = (start, start);
        while self.source.sent < segment.wire.len() || waiting > 0 {
            if until.is_some_and(|until| until.is_due(now, self.source.answers())) {
                return Ok(SegmentEnd { time: now - start, is_complete: false });
            }
            let due = segment.sendable_bytes(now - start);
            let sent = self.source.write(&segment.wire[..due])?;
            self.wait(self.poll_timeout(segment, due, now - start))?;
            let stats = self.read_clients(segment);
            waiting -= stats.finished;
            received += stats.matched_bytes;
            now = Instant::now();
            waiting -= usize::from(self.reconnect_if_due(segment, now)?);
            observer.progress(now, self.source.sent as u64, received);
            let resting = self.source.sent == due && due < segment.wire.len();
            if stats.matched_bytes > 0 {
                self.first_delivery.arrived();
            }
            // When all bytes are sent, all deliveries are due.
            if self.source.sent == segment.wire.len() && waiting > 0 {
                let source = &self.source;
                self.first_delivery.check(0, || source.local_addr())?;
            }
            if sent > 0 || stats.matched_bytes > 0 || resting {
                last_move = now;
            } else if now - last_move > self.timeout {
                self.report_missing(segment)?;
                break;
            }
        }
        self.commit_segment(segment);
        Ok(SegmentEnd { time: now - start, is_complete: true })
    }

    /// Waits for the answer to the `SYNC` with which the source has connected.
    ///
    /// # Errors
    ///
    /// The source's connection fails, or there is no answer in time.
    pub(crate) fn awaited(&mut self) -> io::Result<u64> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(awaited) = self.source.answers().and_then(Answers::take_awaited) {
                // What it awaits needs no guess.
                self.first_delivery.arrived();
                return Ok(awaited);
            }
            self.wait_for_answer(deadline, "does not answer SYNC")?;
        }
    }

    /// Waits until the server says that all events up to `last` are committed.
    ///
    /// # Errors
    ///
    /// The source's connection fails, or it does not say so in time.
    pub(crate) fn wait_until_committed(&mut self, last: u64) -> io::Result<()> {
        let deadline = Instant::now() + self.timeout;
        while self.source.answers().and_then(|answers| answers.committed()) < Some(last) {
            self.wait_for_answer(deadline, &format!("does not say `committed {last}`"))?;
        }
        Ok(())
    }

    fn wait_for_answer(&mut self, deadline: Instant, missing: &str) -> io::Result<()> {
        if Instant::now() > deadline {
            return Err(source_failed(&format!("the server {missing}")));
        }
        self.wait(MAX_WAIT)
    }

    /// Returns what the server has said to a source that speaks `SYNC`.
    pub(crate) fn answers(&mut self) -> Option<&mut Answers> {
        self.source.answers()
    }

    /// Returns the number of connections that a source has lost that speaks `SYNC`.
    pub(crate) fn source_reconnects(&self) -> u64 {
        self.source.reconnects()
    }

    /// Reads everything that a server that was killed during `segment` has sent before, to the end of each
    /// connection.
    ///
    /// # Errors
    ///
    /// The connections do not end, or the source got something else than answers.
    pub(crate) fn read_to_end(mut self, segment: &Segment) -> io::Result<Remains> {
        let deadline = Instant::now() + self.timeout;
        self.source.read_last_answers(&mut self.buffer)?;
        while self.clients.iter().any(|client| !client.ended) {
            if Instant::now() > deadline {
                return Err(io::Error::other("the connections of a killed server do not end"));
            }
            self.wait(if self.readable.is_empty() { MAX_WAIT } else { Duration::ZERO })?;
            self.read_clients(segment);
        }
        let received = self.clients.iter().map(|client| client.comparison.cursor.offset).collect();
        let clients = self.clients.iter_mut().enumerate();
        let positions = clients.map(|(index, client)| client.rewind(segment, index)).collect();
        let answers = self.source.answers().map(|answers| answers.continued());
        let mut mismatches = self.into_mismatches();
        mismatches.retain(|mismatch| !matches!(mismatch.kind, MismatchKind::ClosedEarly(_)));
        Ok(Remains { received, answers: answers.unwrap_or_default(), mismatches, positions })
    }

    /// Sends `segment` and counts received bytes until everything has been sent and nothing has
    /// arrived for [`QUIET_PERIOD`].
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn count_segment(
        &mut self,
        segment: &Segment,
        observer: &mut dyn Observer,
    ) -> io::Result<ReceivedStats> {
        self.start(segment);
        let mut count = ReceivedStats::default();
        let start = Instant::now();
        let (mut now, mut last_move) = (start, start);
        while self.source.sent < segment.wire.len() || now - last_move < QUIET_PERIOD {
            let due = segment.sendable_bytes(now - start);
            let sent = self.source.write(&segment.wire[..due])?;
            self.wait(self.poll_timeout(segment, due, now - start))?;
            let before = count.bytes;
            self.count_clients(&mut count);
            now = Instant::now();
            observer.progress(now, self.source.sent as u64, count.bytes);
            if sent > 0 || count.bytes > before {
                last_move = now;
            } else if self.source.sent < due && now - last_move > self.timeout {
                return Err(self.stalled_error(segment));
            }
        }
        count.time = last_move - start;
        Ok(count)
    }

    /// Checks for unexpected bytes and closes, first with the source open, then with the source
    /// closed until the server has closed it too. In the second phase the server may close clients.
    ///
    /// Returns all mismatches of the run in the order of detection.
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn finish(mut self) -> io::Result<Vec<Mismatch>> {
        let nothing = Segment::for_clients(self.clients.len());
        self.start(&nothing);
        self.expect_silence(&nothing, SILENCE_PERIOD)?;
        let while_open = self.mismatched.len();
        self.close_source(&nothing)?;
        self.expect_silence(&nothing, SILENCE_PERIOD)?;
        let mut mismatches = self.into_mismatches();
        let mut index = 0;
        mismatches.retain(|mismatch| {
            index += 1;
            index <= while_open || !matches!(mismatch.kind, MismatchKind::ClosedEarly(_))
        });
        Ok(mismatches)
    }

    /// Returns the mismatches so far, in the order of detection.
    pub(crate) fn into_mismatches(mut self) -> Vec<Mismatch> {
        let clients = &mut self.clients;
        self.mismatched
            .iter()
            .filter_map(|&index| clients[index].comparison.mismatch.take())
            .collect()
    }

    pub(crate) fn has_mismatches(&self) -> bool {
        !self.mismatched.is_empty()
    }

    /// Starts `segment` and returns the number of clients that wait for bytes of it.
    fn start(&mut self, segment: &Segment) -> usize {
        self.source.start();
        for client in &mut self.clients {
            client.comparison.cursor = client.starts_at.take().unwrap_or_default();
        }
        // A client that has come back may have its whole part already.
        let clients = self.clients.iter().enumerate();
        clients.filter(|(index, client)| client.is_waiting(segment, *index)).count()
    }

    /// Returns the timeout of the next poll.
    fn poll_timeout(&self, segment: &Segment, due: usize, elapsed: Duration) -> Duration {
        if !self.readable.is_empty() || (self.source.writable && self.source.sent < due) {
            return Duration::ZERO;
        }
        segment.until_next_due(elapsed).unwrap_or(MAX_WAIT).min(self.timeout).min(MAX_WAIT)
    }

    /// Polls for at most `timeout`. The timeout is bounded so that the observer also sees a lack of
    /// progress.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        interrupt::check()?;
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == SOURCE {
                self.source.writable |= event.is_writable();
                if event.is_readable() {
                    self.source.read(&mut self.buffer)?;
                }
                continue;
            }
            let index = event.token().0;
            let client = &mut self.clients[index];
            client.ending |= event.is_read_closed() || event.is_error();
            if !client.in_ready_list && !client.ended {
                client.in_ready_list = true;
                self.readable.push(index);
            }
        }
        Ok(())
    }

    /// Reads once from every readable client and compares.
    fn read_clients(&mut self, segment: &Segment) -> ReadStats {
        let mut total = ReadStats::default();
        let (clients, buffer, mismatched) =
            (&mut self.clients, &mut self.buffer, &mut self.mismatched);
        self.readable.retain(|&index| {
            let client = &mut clients[index];
            let was_right = client.comparison.mismatch.is_none();
            let was_waiting = client.is_waiting(segment, index);
            let before = client.comparison.cursor.offset;
            client.in_ready_list = client.read(buffer, segment, index);
            total.matched_bytes += client.comparison.cursor.offset - before;
            total.finished += usize::from(was_waiting && !client.is_waiting(segment, index));
            if was_right && client.comparison.mismatch.is_some() {
                mismatched.push(index);
            }
            client.in_ready_list
        });
        total
    }

    /// Lets a client leave and come back, if that is due. Returns whether it has received the rest of its part before.
    fn reconnect_if_due(&mut self, segment: &Segment, now: Instant) -> io::Result<bool> {
        let Some(reconnects) = &mut self.reconnects else { return Ok(false) };
        let Some((index, way)) = reconnects.take_due(now, self.clients.len()) else {
            return Ok(false);
        };
        let client = &mut self.clients[index];
        if client.comparison.mismatch.is_some() || client.ended {
            return Ok(false);
        }
        let was_waiting = client.is_waiting(segment, index);
        client.come_back(
            way,
            reconnects.to,
            (self.poll.registry(), Token(index)),
            &mut self.buffer,
            (segment, index),
        )?;
        if client.comparison.mismatch.is_some() {
            self.mismatched.push(index);
        }
        Ok(was_waiting && !client.is_waiting(segment, index))
    }

    /// Reads once from every readable client without comparing.
    fn count_clients(&mut self, count: &mut ReceivedStats) {
        let (clients, buffer) = (&mut self.clients, &mut self.buffer);
        self.readable.retain(|&index| {
            let client = &mut clients[index];
            client.in_ready_list = match client.stream.read(buffer) {
                Ok(0) => {
                    client.ended = true;
                    false
                }
                Ok(bytes) => {
                    let ends = buffer[..bytes].iter().filter(|&&byte| byte == b'\n');
                    count.lines += ends.count() as u64;
                    count.bytes += bytes as u64;
                    true
                }
                Err(error) => error.kind() == ErrorKind::Interrupted,
            };
            client.in_ready_list
        });
    }

    /// Ends an unchecked run: closes the source, and waits until the server has closed it too.
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let nothing = Segment::for_clients(self.clients.len());
        self.start(&nothing);
        self.close_source(&nothing)
    }

    /// Reads clients that should receive nothing, for `time`.
    fn expect_silence(&mut self, nothing: &Segment, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.read_once(nothing, left)?;
        }
    }

    fn read_once(&mut self, nothing: &Segment, timeout: Duration) -> io::Result<()> {
        self.wait(if self.readable.is_empty() { timeout } else { Duration::ZERO })?;
        self.read_clients(nothing);
        Ok(())
    }

    /// Closes the source, and reads clients until the server has closed it too.
    fn close_source(&mut self, nothing: &Segment) -> io::Result<()> {
        self.source.close()?;
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.source.ended {
            if Instant::now() > deadline {
                warn_of_open_source();
                break;
            }
            self.read_once(nothing, MAX_WAIT)?;
        }
        Ok(())
    }

    /// Records missing lines for every client that still waits.
    ///
    /// # Errors
    ///
    /// No client waits: the source's connection is stalled.
    fn report_missing(&mut self, segment: &Segment) -> io::Result<()> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.is_waiting(segment, index) {
                client.comparison.fail_for_missing(segment, index);
                self.mismatched.push(index);
            }
        }
        if self.has_mismatches() { Ok(()) } else { Err(self.stalled_error(segment)) }
    }

    fn stalled_error(&self, segment: &Segment) -> io::Error {
        let (sent, all) = (self.source.sent, segment.wire.len());
        source_failed(&format!("the server stopped reading after {sent} of {all} bytes"))
    }

    /// Adds the expected totals of `segment` to every client.
    fn commit_segment(&mut self, segment: &Segment) {
        for (index, client) in self.clients.iter_mut().enumerate() {
            if self.reconnects.is_some()
                && let Some(line) =
                    segment.deliveries.clients[index].last_line(&segment.deliveries.broadcasts)
            {
                client.last_sequence = sequence_of(line).unwrap_or_default();
            }
            client.comparison.end_segment(segment, index);
        }
    }
}

/// Totals of one pass over the readable clients.
#[derive(Default)]
struct ReadStats {
    matched_bytes: u64,
    /// Clients that are done, because everything arrived or because of a mismatch.
    finished: usize,
}

impl Client {
    fn new(user: u64, mut stream: TcpStream, token: Token, poll: &Poll) -> io::Result<Client> {
        poll.registry().register(&mut stream, token, Interest::READABLE)?;
        Ok(Client {
            comparison: Comparison::of(user),
            stream,
            starts_at: None,
            last_sequence: 0,
            in_ready_list: false,
            ending: false,
            ended: false,
        })
    }

    fn is_waiting(&self, segment: &Segment, index: usize) -> bool {
        self.comparison.mismatch.is_none()
            && self.comparison.cursor.offset < segment.deliveries.clients[index].len()
    }

    /// Reads once and compares; returns whether more may be available.
    fn read(&mut self, buffer: &mut [u8], segment: &Segment, index: usize) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => self.end("end of file", segment, index),
            Ok(count) => {
                self.comparison.check(&buffer[..count], segment, index);
                // A short read means that the socket is drained; the next edge will report more.
                return count == buffer.len() || self.ending;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) => self.end(&error.to_string(), segment, index),
        }
        false
    }

    /// Forgets the incomplete last line, and returns where the client is.
    fn rewind(&mut self, segment: &Segment, index: usize) -> Position {
        let expected = &segment.deliveries.clients[index];
        let line = self.comparison.cursor.rewind_to_line(expected, &segment.deliveries.broadcasts);
        let sequence =
            line.map_or(self.last_sequence, |line| sequence_of(line).unwrap_or_default());
        Position { sequence, cursor: self.comparison.cursor }
    }

    /// Leaves, and comes back with the sequence of the last complete line.
    fn come_back(
        &mut self,
        way: Way,
        to: SocketAddr,
        (registry, token): (&Registry, Token),
        buffer: &mut [u8],
        (segment, index): (&Segment, usize),
    ) -> io::Result<()> {
        if way.reads_first {
            while self.comparison.mismatch.is_none() && self.read(buffer, segment, index) {}
        }
        if self.comparison.mismatch.is_some() {
            return Ok(());
        }
        let Position { sequence, .. } = self.rewind(segment, index);
        let handshake = Handshake::of_returning_user(self.comparison.user(), sequence);
        if !way.takes_over {
            self.stream.shutdown(Shutdown::Both).or_else(|error| match error.kind() {
                ErrorKind::NotConnected => Ok(()),
                _ => Err(error),
            })?;
        }
        let connection = Connecting::open(to, "a client that comes back", &handshake)?;
        // The old connection is closed here.
        self.stream = connection.finish()?;
        registry.register(&mut self.stream, token, Interest::READABLE)?;
        self.ending = false;
        Ok(())
    }

    fn end(&mut self, why: &str, segment: &Segment, index: usize) {
        self.ended = true;
        if self.comparison.mismatch.is_none() {
            self.comparison.fail(MismatchKind::ClosedEarly(why.to_owned()), segment, index);
        }
    }
}
