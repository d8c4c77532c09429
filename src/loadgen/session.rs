//! One source and all clients, connected to a server: sends slices and checks what comes back.
//!
//! While the clock runs this does nothing but write, read and compare.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connect::{Addresses, Greeted};
use super::expected::{Cursor, ExpectedLine};
use super::fault::{Fault, FaultKind};
use super::interrupt::{self, LONGEST_WAIT};
use super::silence::{END_TIMEOUT, GRACE, source_answered, source_failed, warn_of_open_source};
use super::slice::{Load, Slice};

/// Read from one client at a time; large, as every read costs a system call.
const READ_BYTES: usize = 256 * 1024;
/// Written to the source before clients are read again.
const WRITE_BYTES: usize = 1024 * 1024;
/// Where nobody knows what must come, it is over when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(500);

const SOURCE: Token = Token(usize::MAX - 1);

/// Is told how far a run is, often.
pub(crate) trait Observer {
    /// `sent` and `received` are bytes of the slice under way.
    fn progress(&mut self, now: Instant, sent: u64, received: u64);
}

/// What came, where nobody knows what must come.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// From the first byte sent to the last one received.
    pub(crate) time: Duration,
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
    /// Clients with a fault, in the order in which those showed.
    faulty: Vec<usize>,
    timeout: Duration,
}

struct Source {
    stream: TcpStream,
    writable: bool,
    /// Bytes of the slice written.
    sent: usize,
    /// What the server writes to it is no fault.
    is_answered: bool,
    /// By us: from then on the server may close it too.
    closed: bool,
    /// By the server.
    ended: bool,
}

struct Client {
    user: u64,
    stream: TcpStream,
    cursor: Cursor,
    /// Events and bytes of the slices before this one.
    events_before: u64,
    bytes_before: u64,
    fault: Option<Fault>,
    /// It stands in `readable`.
    listed: bool,
    /// Its end is in sight: read on until it shows.
    ending: bool,
    ended: bool,
}

impl Session {
    /// Connects the source, then one client for each of `users`, each of which says who it is.
    /// An event server acknowledges nothing of that.
    ///
    /// A run stops when nothing has moved for `timeout`.
    ///
    /// # Errors
    ///
    /// A connection that is refused or that fails.
    pub(crate) fn connect(
        to: Addresses,
        users: &[u64],
        load: &dyn Load,
        timeout: Duration,
    ) -> io::Result<Session> {
        let poll = Poll::new()?;
        let source = Greeted::open(to.events, "the event source", &load.source_greeting())?;
        let open = |&user| Greeted::open(to.clients, "a client", &load.client_greeting(user));
        let greeted: Vec<Greeted> = users.iter().map(open).collect::<io::Result<_>>()?;
        let source = Source::new(source.ready()?, load.source_is_answered(), &poll)?;
        let mut clients = Vec::with_capacity(users.len());
        for (&user, greeted) in users.iter().zip(greeted) {
            clients.push(Client::new(user, greeted.ready()?, Token(clients.len()), &poll)?);
        }
        Ok(Session {
            poll,
            events: Events::with_capacity(1024),
            source,
            clients,
            readable: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            faulty: Vec::new(),
            timeout,
        })
    }

    /// Sends `slice` and reads until every client without a fault has received its part of it,
    /// or nothing has moved for too long. Returns the time from the first byte to the last.
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn exchange(
        &mut self,
        slice: &Slice,
        observer: &mut dyn Observer,
    ) -> io::Result<Duration> {
        let mut waiting = self.start(slice);
        let mut received = 0;
        let start = Instant::now();
        let (mut now, mut last_move) = (start, start);
        while self.source.sent < slice.wire.len() || waiting > 0 {
            let due = slice.sendable(now - start);
            let sent = self.source.write(&slice.wire[..due])?;
            self.wait(self.patience(slice, due, now - start))?;
            let reading = self.read_clients(slice);
            waiting -= reading.finished;
            received += reading.right_bytes;
            now = Instant::now();
            observer.progress(now, self.source.sent as u64, received);
            let resting = self.source.sent == due && due < slice.wire.len();
            if sent > 0 || reading.right_bytes > 0 || resting {
                last_move = now;
            } else if now - last_move > self.timeout {
                self.give_up(slice)?;
                break;
            }
        }
        self.settle(slice);
        Ok(now - start)
    }

    /// Sends `slice` and counts what comes, until all has been sent and nothing has come for
    /// [`QUIET`].
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn count(
        &mut self,
        slice: &Slice,
        observer: &mut dyn Observer,
    ) -> io::Result<Count> {
        self.start(slice);
        let mut count = Count::default();
        let start = Instant::now();
        let (mut now, mut last_move) = (start, start);
        while self.source.sent < slice.wire.len() || now - last_move < QUIET {
            let due = slice.sendable(now - start);
            let sent = self.source.write(&slice.wire[..due])?;
            self.wait(self.patience(slice, due, now - start))?;
            let before = count.bytes;
            self.count_clients(&mut count);
            now = Instant::now();
            observer.progress(now, self.source.sent as u64, count.bytes);
            if sent > 0 || count.bytes > before {
                last_move = now;
            } else if self.source.sent < due && now - last_move > self.timeout {
                return Err(self.source.stuck(slice));
            }
        }
        count.time = last_move - start;
        Ok(count)
    }

    /// Listens for bytes and closes that should not come, first with the source open, then with
    /// the source closed, when the server may close its clients, until it has closed the source too.
    ///
    /// Returns all faults of the run, first things first.
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn finish(mut self) -> io::Result<Vec<Fault>> {
        let nothing = Slice::for_clients(self.clients.len());
        self.start(&nothing);
        self.listen(&nothing, GRACE)?;
        let while_open = self.faulty.len();
        self.close_source(&nothing)?;
        self.listen(&nothing, GRACE)?;
        let mut faults = self.into_faults();
        let mut place = 0;
        faults.retain(|fault| {
            place += 1;
            place <= while_open || !matches!(fault.kind, FaultKind::ClosedEarly(_))
        });
        Ok(faults)
    }

    /// What was wrong so far, first things first, when the run has to stop early.
    pub(crate) fn into_faults(mut self) -> Vec<Fault> {
        let clients = &mut self.clients;
        self.faulty.iter().filter_map(|&place| clients[place].fault.take()).collect()
    }

    pub(crate) fn has_faults(&self) -> bool {
        !self.faulty.is_empty()
    }

    /// Returns how many clients wait for bytes of `slice`.
    fn start(&mut self, slice: &Slice) -> usize {
        self.source.sent = 0;
        for client in &mut self.clients {
            client.cursor = Cursor::default();
        }
        let streams = self.clients.iter().zip(&slice.deliveries.clients);
        streams.filter(|(client, due)| client.fault.is_none() && due.len() > 0).count()
    }

    /// How long the next `wait` may sleep.
    fn patience(&self, slice: &Slice, due: usize, elapsed: Duration) -> Duration {
        if !self.readable.is_empty() || (self.source.writable && self.source.sent < due) {
            return Duration::ZERO;
        }
        slice.until_next_due(elapsed).unwrap_or(LONGEST_WAIT).min(self.timeout).min(LONGEST_WAIT)
    }

    /// Sleeps until something can be read or written, but not so long that the observer could not
    /// show a standstill.
    fn wait(&mut self, patience: Duration) -> io::Result<()> {
        interrupt::check()?;
        match self.poll.poll(&mut self.events, Some(patience)) {
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
            let place = event.token().0;
            let client = &mut self.clients[place];
            client.ending |= event.is_read_closed() || event.is_error();
            if !client.listed && !client.ended {
                client.listed = true;
                self.readable.push(place);
            }
        }
        Ok(())
    }

    /// Reads once from every client that may have something.
    fn read_clients(&mut self, slice: &Slice) -> Reading {
        let mut total = Reading::default();
        let (clients, buffer, faulty) = (&mut self.clients, &mut self.buffer, &mut self.faulty);
        self.readable.retain(|&place| {
            let client = &mut clients[place];
            let was_right = client.fault.is_none();
            let was_waiting = client.is_waiting(slice, place);
            let before = client.cursor.offset;
            client.listed = client.read(buffer, slice, place);
            total.right_bytes += client.cursor.offset - before;
            total.finished += usize::from(was_waiting && !client.is_waiting(slice, place));
            if was_right && client.fault.is_some() {
                faulty.push(place);
            }
            client.listed
        });
        total
    }

    /// Reads once from every client that may have something, whatever it is.
    fn count_clients(&mut self, count: &mut Count) {
        let (clients, buffer) = (&mut self.clients, &mut self.buffer);
        self.readable.retain(|&place| {
            let client = &mut clients[place];
            client.listed = match client.stream.read(buffer) {
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
            client.listed
        });
    }

    /// Ends a run that is not judged: closes the source, and waits until the server has done so too.
    ///
    /// # Errors
    ///
    /// The source's connection fails.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let nothing = Slice::for_clients(self.clients.len());
        self.start(&nothing);
        self.close_source(&nothing)
    }

    /// Listens to clients that should receive nothing.
    fn listen(&mut self, nothing: &Slice, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.listen_once(nothing, left)?;
        }
    }

    fn listen_once(&mut self, nothing: &Slice, timeout: Duration) -> io::Result<()> {
        self.wait(if self.readable.is_empty() { timeout } else { Duration::ZERO })?;
        self.read_clients(nothing);
        Ok(())
    }

    /// Closes the source, and listens until the server has closed it too.
    fn close_source(&mut self, nothing: &Slice) -> io::Result<()> {
        self.source.close()?;
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.source.ended {
            if Instant::now() > deadline {
                warn_of_open_source();
                break;
            }
            self.listen_once(nothing, LONGEST_WAIT)?;
        }
        Ok(())
    }

    /// Everyone who still waits misses something.
    ///
    /// # Errors
    ///
    /// Nobody waits: it is the source that cannot go on.
    fn give_up(&mut self, slice: &Slice) -> io::Result<()> {
        for (place, client) in self.clients.iter_mut().enumerate() {
            if client.is_waiting(slice, place) {
                let received = client.line_due(slice, place).map_or(0, |line| line.number);
                let missing = slice.deliveries.clients[place].lines() - received;
                client.fail(FaultKind::Missing(missing), slice, place);
                self.faulty.push(place);
            }
        }
        if self.has_faults() { Ok(()) } else { Err(self.source.stuck(slice)) }
    }

    /// Counts `slice` as received.
    fn settle(&mut self, slice: &Slice) {
        for (client, due) in self.clients.iter_mut().zip(&slice.deliveries.clients) {
            client.events_before += due.lines();
            client.bytes_before += due.len();
        }
    }
}

/// What one round over the readable clients came to.
#[derive(Default)]
struct Reading {
    right_bytes: u64,
    /// Clients that wait for nothing more, because all has come or because of a fault.
    finished: usize,
}

impl Source {
    fn new(mut stream: TcpStream, is_answered: bool, poll: &Poll) -> io::Result<Source> {
        poll.registry().register(&mut stream, SOURCE, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Source { stream, writable: true, sent: 0, is_answered, closed: false, ended: false })
    }

    /// Writes what of `text` has not been written, as far as the kernel takes it.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let rest = &text[self.sent..];
        let rest = &rest[..rest.len().min(WRITE_BYTES)];
        if rest.is_empty() || !self.writable {
            return Ok(0);
        }
        match self.stream.write(rest) {
            Ok(count) => {
                // A part taken means that the kernel's buffer is full: the next edge will tell.
                self.writable = count == rest.len();
                self.sent += count;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(source_failed(&error.to_string())),
        }
    }

    /// An event server never answers a source, and closes it only where something is wrong.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.closed => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(0) => return Err(source_failed("the server closed it")),
                Ok(_) if self.is_answered => {}
                Ok(count) => return Err(source_answered(&buffer[..count])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.closed => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) => return Err(source_failed(&error.to_string())),
            }
        }
    }

    fn stuck(&self, slice: &Slice) -> io::Error {
        let (sent, all) = (self.sent, slice.wire.len());
        source_failed(&format!("the server takes nothing more after {sent} of {all} bytes"))
    }

    fn close(&mut self) -> io::Result<()> {
        self.closed = true;
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Client {
    fn new(user: u64, mut stream: TcpStream, token: Token, poll: &Poll) -> io::Result<Client> {
        poll.registry().register(&mut stream, token, Interest::READABLE)?;
        Ok(Client {
            user,
            stream,
            cursor: Cursor::default(),
            events_before: 0,
            bytes_before: 0,
            fault: None,
            listed: false,
            ending: false,
            ended: false,
        })
    }

    fn is_waiting(&self, slice: &Slice, place: usize) -> bool {
        self.fault.is_none() && self.cursor.offset < slice.deliveries.clients[place].len()
    }

    /// Reads once and checks; returns whether there may be more to read.
    fn read(&mut self, buffer: &mut [u8], slice: &Slice, place: usize) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => self.end("end of file", slice, place),
            Ok(count) => {
                self.check(&buffer[..count], slice, place);
                // Less than asked for means that the kernel has no more: the next edge will tell.
                return count == buffer.len() || self.ending;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) => self.end(&error.to_string(), slice, place),
        }
        false
    }

    fn check(&mut self, received: &[u8], slice: &Slice, place: usize) {
        if let Some(fault) = &mut self.fault {
            fault.note_received(received);
            return;
        }
        let expected = &slice.deliveries.clients[place];
        let Err(right) = self.cursor.check(received, expected, &slice.deliveries.shared) else {
            return;
        };
        let line = self.line_due(slice, place);
        let known = line.as_ref().map_or(0, |line| (self.cursor.offset - line.start) as usize);
        let kind = if line.is_some() { FaultKind::Different } else { FaultKind::Extra };
        let head = line.map_or(Vec::new(), |line| line.text[..known].to_vec());
        let fault = self.fail(kind, slice, place);
        fault.note_received(&head);
        fault.note_received(&received[right..]);
    }

    fn end(&mut self, why: &str, slice: &Slice, place: usize) {
        self.ended = true;
        if self.fault.is_none() {
            self.fail(FaultKind::ClosedEarly(why.to_owned()), slice, place);
        }
    }

    /// The line that holds the next byte due.
    fn line_due(&self, slice: &Slice, place: usize) -> Option<ExpectedLine> {
        let expected = &slice.deliveries.clients[place];
        expected.line_at(self.cursor.offset, &slice.deliveries.shared)
    }

    fn fail(&mut self, kind: FaultKind, slice: &Slice, place: usize) -> &mut Fault {
        let line = self.line_due(slice, place);
        let number =
            line.as_ref().map_or(slice.deliveries.clients[place].lines(), |line| line.number);
        let fault = Fault::new(
            self.user,
            kind,
            self.events_before + number + 1,
            self.bytes_before + self.cursor.offset,
        );
        let text = line.map_or(Vec::new(), |line| line.text);
        self.fault.insert(fault.expecting(text))
    }
}
