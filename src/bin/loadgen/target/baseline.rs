//! The throughput baseline: a server that reads the source's bytes without parsing them, and writes
//! the expected output of each client from memory, in large pieces.
//!
//! It generates the same segments as the load generator, reports each on its output, and writes in
//! proportion to what it has read, like a server with no cost of its own.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::oracle::expected::{Cursor, Expected};
use crate::target::server::{Addresses, ready_line};
use crate::workload::generated::{GeneratedWorkload, WorkloadSpec};
use crate::workload::segment::{Segment, Workload};

/// Internal subcommand that runs the baseline server.
pub(crate) const BASELINE_SERVER: &str = "serve-baseline";

/// Bytes per read from the source.
const READ_BYTES: usize = 256 * 1024;
/// Minimum bytes due before a client is written to, except at the end of a segment.
const PIECE_BYTES: u64 = 64 * 1024;

/// Listen backlog, equal to that of the event server.
const BACKLOG: i32 = 4096;

const SOURCE: Token = Token(usize::MAX - 1);

/// Serves one run of `spec` and returns when the source closes.
///
/// # Errors
///
/// A connection fails, or a client's id is not part of the workload.
pub(crate) fn serve(spec: WorkloadSpec) -> io::Result<()> {
    let listeners = Listeners::open()?;
    let mut workload = GeneratedWorkload::new(spec);
    let users = workload.clients().to_vec();
    let mut segment = Segment::for_clients(users.len());
    listeners.announce()?;
    let mut more = prepare_segment(&mut workload, &mut segment)?;
    let mut baseline = Baseline::accept(&listeners, &users)?;
    while more {
        baseline.serve_segment(&segment)?;
        more = prepare_segment(&mut workload, &mut segment)?;
    }
    baseline.wait_for_end()
}

fn prepare_segment(workload: &mut GeneratedWorkload, segment: &mut Segment) -> io::Result<bool> {
    let more = workload.next_segment(segment)?;
    if more {
        print_line("prepared")?;
    }
    Ok(more)
}

fn print_line(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// The two listeners of a built-in server.
pub(crate) struct Listeners {
    events: TcpListener,
    clients: TcpListener,
}

impl Listeners {
    /// Listens on free ports of the loopback interface.
    ///
    /// # Errors
    ///
    /// The system provides no port.
    pub(crate) fn open() -> io::Result<Listeners> {
        let open = || -> io::Result<TcpListener> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        Ok(Listeners { events: open()?, clients: open()? })
    }

    /// Prints the ready line with both addresses.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub(crate) fn announce(&self) -> io::Result<()> {
        let addresses =
            Addresses { events: self.events.local_addr()?, clients: self.clients.local_addr()? };
        print_line(&ready_line(addresses))
    }

    /// Accepts the source, then `clients` clients with their ids.
    ///
    /// # Errors
    ///
    /// A connection fails, or an id is not a number.
    pub(crate) fn accept(
        &self,
        clients: usize,
    ) -> io::Result<(std::net::TcpStream, Vec<(u64, std::net::TcpStream)>)> {
        let (source, _) = self.events.accept()?;
        let mut accepted = Vec::with_capacity(clients);
        for _ in 0..clients {
            let (stream, _) = self.clients.accept()?;
            stream.set_nodelay(true)?;
            accepted.push((read_id(&stream)?, stream));
        }
        Ok((source, accepted))
    }
}

fn read_id(stream: &std::net::TcpStream) -> io::Result<u64> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.trim_end().parse().map_err(|_| io::Error::other(format!("`{line}` is not a user id")))
}

struct Baseline {
    poll: Poll,
    events: Events,
    source: TcpStream,
    source_readable: bool,
    /// In the order of the workload's users.
    clients: Vec<Client>,
    buffer: Box<[u8]>,
}

struct Client {
    stream: TcpStream,
    writable: bool,
    cursor: Cursor,
}

impl Baseline {
    fn accept(listeners: &Listeners, users: &[u64]) -> io::Result<Baseline> {
        let (source, mut accepted) = listeners.accept(users.len())?;
        let indices: HashMap<u64, usize> = users.iter().copied().zip(0..).collect();
        if let Some((user, _)) = accepted.iter().find(|(user, _)| !indices.contains_key(user)) {
            return Err(io::Error::other(format!("user {user} is not part of the workload")));
        }
        accepted.sort_by_key(|(user, _)| indices.get(user));

        let poll = Poll::new()?;
        let mut source = nonblocking(source)?;
        poll.registry().register(&mut source, SOURCE, Interest::READABLE)?;
        let mut clients = Vec::with_capacity(accepted.len());
        for (index, (_, stream)) in accepted.into_iter().enumerate() {
            let mut stream = nonblocking(stream)?;
            poll.registry().register(&mut stream, Token(index), Interest::WRITABLE)?;
            clients.push(Client { stream, writable: true, cursor: Cursor::default() });
        }
        let (events, buffer) =
            (Events::with_capacity(1024), vec![0; READ_BYTES].into_boxed_slice());
        Ok(Baseline { poll, events, source, source_readable: true, clients, buffer })
    }

    /// Reads the bytes of a segment and writes its deliveries.
    fn serve_segment(&mut self, segment: &Segment) -> io::Result<()> {
        let total = segment.wire.len() as u64;
        let mut read = 0;
        for client in &mut self.clients {
            client.cursor = Cursor::default();
        }
        let mut unfinished = true;
        while unfinished || read < total {
            self.wait()?;
            read += self.read_source()?;
            unfinished = false;
            for (client, expected) in self.clients.iter_mut().zip(&segment.deliveries.clients) {
                let share = u128::from(expected.len()) * u128::from(read) / u128::from(total);
                let due = share as u64 - client.cursor.offset;
                if due >= PIECE_BYTES || (read == total && due > 0) {
                    client.write(due, segment, expected)?;
                }
                unfinished |= client.cursor.offset < expected.len();
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        // Every writable client has been written to, up to what is due.
        let timeout = self.source_readable.then_some(Duration::ZERO);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            match event.token() {
                SOURCE => self.source_readable = true,
                Token(index) => self.clients[index].writable = true,
            }
        }
        Ok(())
    }

    /// Reads once and discards the bytes; returns their number.
    fn read_source(&mut self) -> io::Result<u64> {
        if !self.source_readable {
            return Ok(0);
        }
        match self.source.read(&mut self.buffer) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the source ended early")),
            Ok(count) => {
                self.source_readable = count == self.buffer.len();
                Ok(count as u64)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.source_readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits until the source closes.
    fn wait_for_end(mut self) -> io::Result<()> {
        loop {
            self.poll.poll(&mut self.events, None)?;
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(io::Error::other("the source sent more than its workload")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Client {
    /// Writes `due` bytes, or fewer if the socket buffer is full.
    fn write(&mut self, mut due: u64, segment: &Segment, expected: &Expected) -> io::Result<()> {
        while self.writable && due > 0 {
            let next = self.cursor.next_bytes(expected, &segment.deliveries.broadcasts);
            let next = &next[..next.len().min(due as usize)];
            match self.stream.write(next) {
                Ok(count) => {
                    self.writable = count == next.len();
                    self.cursor.advance(count, expected);
                    due -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn nonblocking(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}
