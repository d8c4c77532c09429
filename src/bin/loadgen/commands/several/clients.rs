//! Clients that are spread over servers, and connect again when their connection is lost.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::RETRY_INTERVAL;
use crate::client::connection::Connecting;
use crate::client::source::sync_handshake;
use crate::client::sync::Answers;
use crate::codec::sequence_of;
use crate::oracle::comparison::Comparison;
use crate::oracle::expected::Cursor;
use crate::oracle::mismatch::{Mismatch, MismatchKind};
use crate::target::server::Addresses;
use crate::workload::handshake::Handshake;
use crate::workload::segment::Segment;

/// Time that a server has to say which sequence it awaits, before clients turn to the next one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// All clients. Their tokens are their indices, and those of probes begin at `first_probe`.
pub(super) struct Clients {
    servers: Vec<Addresses>,
    registry: Registry,
    all: Vec<Client>,
    /// Number of clients without a connection.
    lost: usize,
    /// Clients that may have bytes to read.
    readable: Vec<usize>,
    /// By server: the connection that asks whether clients may come.
    probes: Vec<Probe>,
    first_probe: usize,
    /// Clients with a mismatch, in the order of detection.
    mismatched: Vec<usize>,
    /// Connections that replaced a lost one.
    pub(super) reconnects: u64,
}

struct Client {
    /// The server at which it begins, and begins again.
    home: usize,
    /// The server that it is connected to, or will be.
    at: usize,
    /// `None` while its connection is lost.
    stream: Option<TcpStream>,
    /// The part of the first line that has arrived, of a connection that began within the chunk.
    first_line: Option<Vec<u8>>,
    /// The first sequence that is certainly due on this connection: what was sent before it was registered
    /// may have been applied before.
    due_from: u64,
    comparison: Comparison,
    /// Whether it is in `readable`.
    in_ready_list: bool,
}

/// A question to a server that clients want to go to: whether it has caught up with the chunk. It would deliver
/// what is expected no more otherwise.
enum Probe {
    /// Not connected, to be connected at this time.
    Down(Instant),
    /// Connected, and has sent `SYNC` at this time.
    Asking(TcpStream, Box<Answers>, Instant),
}

impl Clients {
    /// Connects a client for each user, to the servers in turn.
    ///
    /// # Errors
    ///
    /// A connection is refused or fails.
    pub(super) fn connect(
        servers: Vec<Addresses>,
        users: &[u64],
        registry: &Registry,
        first_probe: usize,
    ) -> io::Result<Clients> {
        let mut clients = Clients {
            registry: registry.try_clone()?,
            all: Vec::with_capacity(users.len()),
            lost: 0,
            readable: Vec::new(),
            probes: servers.iter().map(|_| Probe::Down(Instant::now())).collect(),
            first_probe,
            mismatched: Vec::new(),
            reconnects: 0,
            servers,
        };
        for (index, &user) in users.iter().enumerate() {
            let home = index % clients.servers.len();
            let stream = connect(clients.servers[home].clients, user, index, registry)?;
            clients.all.push(Client {
                home,
                at: home,
                stream: Some(stream),
                first_line: None,
                due_from: 0,
                comparison: Comparison::of(user),
                in_ready_list: false,
            });
        }
        Ok(clients)
    }

    /// Begins the next chunk. All have received the last one.
    pub(super) fn start_chunk(&mut self) {
        for client in &mut self.all {
            client.comparison.cursor = Cursor::default();
        }
    }

    /// Adds the expected totals of the chunk to every client.
    pub(super) fn end_chunk(&mut self, segment: &Segment) {
        for (index, client) in self.all.iter_mut().enumerate() {
            client.comparison.end_segment(segment, index);
        }
    }

    /// Adapts to a chunk that has become longer.
    pub(super) fn on_longer_chunk(&mut self, segment: &Segment) {
        for (client, due) in self.all.iter_mut().zip(&segment.deliveries.clients) {
            client.comparison.cursor = Cursor::at(client.comparison.cursor.offset, due);
        }
    }

    /// Returns whether all have received what is due, including the broadcast `last` at the end of the chunk.
    pub(super) fn are_complete(&self, segment: &Segment, last: u64) -> bool {
        let mut all = self.all.iter().zip(&segment.deliveries.clients);
        all.all(|(client, due)| {
            client.stream.is_some()
                && client.due_from <= last
                && client.comparison.cursor.offset == due.len()
        })
    }

    /// Returns whether it is uncertain that a connected client is due the broadcast `last`.
    pub(super) fn may_miss(&self, last: u64) -> bool {
        self.all.iter().any(|client| client.stream.is_some() && client.due_from > last)
    }

    pub(super) fn has_mismatches(&self) -> bool {
        !self.mismatched.is_empty()
    }

    /// Returns the mismatches, in the order of detection.
    pub(super) fn take_mismatches(&mut self) -> Vec<Mismatch> {
        let all = &mut self.all;
        self.mismatched.iter().filter_map(|&index| all[index].comparison.mismatch.take()).collect()
    }

    pub(super) fn are_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Applies readiness of a client or a probe.
    ///
    /// # Errors
    ///
    /// A server has answered `SYNC` with something else.
    pub(super) fn on_ready(&mut self, token: usize, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(client) = self.all.get_mut(token) {
            if !client.in_ready_list && client.stream.is_some() {
                client.in_ready_list = true;
                self.readable.push(token);
            }
            return Ok(());
        }
        let server = token - self.first_probe;
        let Some(probe) = self.probes.get_mut(server) else { return Ok(()) };
        if !probe.read(buffer)? {
            self.turn_away(server);
        }
        Ok(())
    }

    /// Reads once from every readable client and compares. Returns the number of bytes read.
    pub(super) fn read(&mut self, buffer: &mut [u8], segment: &Segment) -> u64 {
        let mut bytes = 0;
        let (all, mismatched, lost) = (&mut self.all, &mut self.mismatched, &mut self.lost);
        self.readable.retain(|&index| {
            let client = &mut all[index];
            let was_right = client.comparison.mismatch.is_none();
            let read = client.read(buffer, segment, index);
            bytes += read.unwrap_or(0) as u64;
            *lost += usize::from(client.stream.is_none());
            if was_right && client.comparison.mismatch.is_some() {
                mismatched.push(index);
            }
            client.in_ready_list = read.is_some();
            client.in_ready_list
        });
        bytes
    }

    /// Connects lost clients again to servers that await at least `awaited`. `sent_before` returns the sequence
    /// after the last one that the source has written. Returns whether any has connected.
    ///
    /// # Errors
    ///
    /// The system refuses to watch a connection.
    pub(super) fn reconnect(
        &mut self,
        awaited: u64,
        sent_before: impl Fn() -> u64,
    ) -> io::Result<bool> {
        let before = self.lost;
        for server in 0..self.servers.len() {
            if self.lost == 0 {
                break;
            }
            let wanted = |client: &Client| client.stream.is_none() && client.at == server;
            if !self.all.iter().any(wanted) {
                continue;
            }
            let token = Token(self.first_probe + server);
            match &mut self.probes[server] {
                Probe::Down(until) if Instant::now() < *until => {}
                Probe::Down(_) => match Probe::open(self.servers[server].events) {
                    Ok(mut stream) => {
                        self.registry.register(&mut stream, token, Interest::READABLE)?;
                        let answers = Box::<Answers>::default();
                        self.probes[server] = Probe::Asking(stream, answers, Instant::now());
                    }
                    Err(error) => {
                        debug!("no clients at {}: {error}", self.servers[server].clients);
                        self.turn_away(server);
                    }
                },
                Probe::Asking(_, answers, since) => match answers.take_awaited() {
                    Some(at) => {
                        self.probes[server] = Probe::later();
                        // If it is behind, it catches up.
                        if at >= awaited {
                            let connected = self.connect_lost(server);
                            // Their ids have been sent, so that all that the source sends from now on is due.
                            let due_from = sent_before();
                            connected.into_iter().for_each(|it| self.all[it].due_from = due_from);
                        }
                    }
                    None if since.elapsed() > ANSWER_TIMEOUT => self.turn_away(server),
                    None => {}
                },
            }
        }
        Ok(self.lost < before)
    }

    /// Connects the lost clients of a server. Returns which have connected.
    fn connect_lost(&mut self, server: usize) -> Vec<usize> {
        let to = self.servers[server].clients;
        let mut connected = Vec::new();
        for (index, client) in self.all.iter_mut().enumerate() {
            if client.stream.is_some()
                || client.at != server
                || client.comparison.mismatch.is_some()
            {
                continue;
            }
            match connect(to, client.comparison.user(), index, &self.registry) {
                Ok(stream) => {
                    client.stream = Some(stream);
                    client.first_line = Some(Vec::new());
                    client.comparison.cursor = Cursor::default();
                    self.reconnects += 1;
                    self.lost -= 1;
                    connected.push(index);
                }
                Err(error) => {
                    debug!("user {} at {to}: {error}", client.comparison.user());
                    client.at = (server + 1) % self.servers.len();
                }
            }
        }
        connected
    }

    /// Sends the lost clients of a server to the next one.
    fn turn_away(&mut self, server: usize) {
        self.probes[server] = Probe::later();
        for client in &mut self.all {
            if client.stream.is_none() && client.at == server {
                client.at = (server + 1) % self.servers.len();
            }
        }
    }

    /// Records what is missing for every client that still waits.
    pub(super) fn report_missing(&mut self, segment: &Segment) {
        for (index, client) in self.all.iter_mut().enumerate() {
            let due = &segment.deliveries.clients[index];
            if client.comparison.mismatch.is_some()
                || (client.stream.is_some() && client.comparison.cursor.offset == due.len())
            {
                continue;
            }
            if client.stream.is_none() {
                let why = "and no server takes it again".to_owned();
                client.comparison.fail(MismatchKind::ClosedEarly(why), segment, index);
            } else {
                client.comparison.fail_for_missing(segment, index);
            }
            self.mismatched.push(index);
        }
    }
}

impl Probe {
    fn later() -> Probe {
        Probe::Down(Instant::now() + RETRY_INTERVAL)
    }

    fn open(to: SocketAddr) -> io::Result<TcpStream> {
        Connecting::open(to, "an event source", &sync_handshake())?.finish()
    }

    /// Reads answers. Returns whether the connection still stands.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Probe::Asking(stream, answers, _) = self else { return Ok(true) };
        loop {
            match stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    // It may have committed anything that another source has sent.
                    answers.set_sent_before(u64::MAX);
                    answers.read(&buffer[..count])?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }
}

impl Client {
    /// Reads once and compares. Returns the number of bytes; `None` if there are no more at present.
    fn read(&mut self, buffer: &mut [u8], segment: &Segment, index: usize) -> Option<usize> {
        match self.stream.as_mut()?.read(buffer) {
            Ok(0) => self.on_lost("end of file"),
            Ok(count) => {
                self.take(&buffer[..count], segment, index);
                return Some(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Some(0),
            Err(error) => self.on_lost(&error.to_string()),
        }
        None
    }

    fn on_lost(&mut self, why: &str) {
        debug!("user {}: {why}", self.comparison.user());
        self.stream = None;
        self.at = self.home;
    }

    fn take(&mut self, received: &[u8], segment: &Segment, index: usize) {
        if let Some(mismatch) = &mut self.comparison.mismatch {
            mismatch.add_received(received);
            return;
        }
        let Some(mut first_line) = self.first_line.take() else {
            return self.comparison.check(received, segment, index);
        };
        first_line.extend_from_slice(received);
        if !first_line.contains(&b'\n') {
            self.first_line = Some(first_line);
            return;
        }
        let due = &segment.deliveries;
        match first_offset(
            &first_line,
            self.due_from,
            due.clients[index].lines_with_offsets(&due.broadcasts),
        ) {
            Ok(offset) => {
                self.comparison.cursor = Cursor::at(offset, &due.clients[index]);
                self.comparison.check(&first_line, segment, index);
            }
            // The rest is compared with the line that would have been right.
            Err(offset) => {
                self.comparison.cursor = Cursor::at(offset, &due.clients[index]);
                self.comparison
                    .fail(MismatchKind::Different, segment, index)
                    .add_received(&first_line);
            }
        }
    }
}

/// Returns the offset of the first line that a connection receives, which began within the chunk: any line that is
/// expected, as long as none is left out that is certainly due.
///
/// # Errors
///
/// It is none of these. Returns the offset of the last of them, the first that is certainly due.
fn first_offset<'a>(
    received: &[u8],
    due_from: u64,
    expected: impl Iterator<Item = (u64, &'a [u8])>,
) -> Result<u64, u64> {
    let first = sequence_of(received);
    let mut end = 0;
    for (offset, line) in expected {
        let number = sequence_of(line);
        if first.is_some() && number == first {
            return Ok(offset);
        }
        if number >= Some(due_from) {
            return Err(offset);
        }
        end = offset + line.len() as u64;
    }
    Err(end)
}

fn connect(to: SocketAddr, user: u64, index: usize, registry: &Registry) -> io::Result<TcpStream> {
    let mut stream = Connecting::open(to, "a client", &Handshake::of_user(user))?.finish()?;
    registry.register(&mut stream, Token(index), Interest::READABLE)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_connection() {
        let lines: [&[u8]; 4] = [b"3|B\r\n", b"5|P|1|2\r\n", b"9|B\r\n", b"12|B\r\n"];
        let offsets = [0, 5, 14, 19];
        let first = |received: &str, due_from| {
            first_offset(received.as_bytes(), due_from, offsets.into_iter().zip(lines))
        };
        // Nothing is certainly due before the end.
        for (line, offset) in lines.iter().zip(offsets) {
            assert_eq!(first(std::str::from_utf8(line).unwrap(), 13), Ok(offset));
        }
        assert_eq!(first("4|B\r\n", 13), Err(25));
        assert_eq!(first("x\r\n", 13), Err(25));
        // From 6 on, the line 9 is the last that may come first.
        assert_eq!(first("5|P|1|2\r\n", 6), Ok(5));
        assert_eq!(first("9|B\r\n", 6), Ok(14));
        assert_eq!(first("12|B\r\n", 6), Err(14));
        assert_eq!(first("12|B\r\n", 9), Err(14));
        assert_eq!(first("12|B\r\n", 10), Ok(19));
        assert_eq!(first("3|B\r\n", 0), Ok(0));
        assert_eq!(first("5|P|1|2\r\n", 0), Err(0));
    }
}
