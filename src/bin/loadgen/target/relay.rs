//! The latency baseline: a minimal line relay without ordering, graph or queues, with one write per
//! delivery. Its latency is that of the kernel and the scheduler.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use crate::target::baseline::Listeners;

/// Internal subcommand that runs the relay.
pub(crate) const RELAY_SERVER: &str = "serve-relay";

/// Bytes per read from the source.
const READ_BYTES: usize = 64 * 1024;

/// Settings of the relay.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RelaySpec {
    pub(crate) clients: usize,
    /// Polls without sleeping.
    pub(crate) busy_poll: bool,
}

/// Serves one source and `clients` clients and returns when the source closes.
///
/// A client with a full socket buffer blocks all others.
///
/// # Errors
///
/// A connection fails.
pub(crate) fn serve(spec: RelaySpec) -> io::Result<()> {
    let listeners = Listeners::open()?;
    listeners.announce()?;
    let (source, accepted) = listeners.accept(spec.clients)?;
    let mut relay = Relay { clients: accepted.into_iter().collect(), line: Vec::new() };

    source.set_nonblocking(true)?;
    let mut source = mio::net::TcpStream::from_std(source);
    // A server does not know which socket is ready next, so the baseline pays for polling as well.
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    poll.registry().register(&mut source, Token(0), Interest::READABLE)?;
    let mut buffer = vec![0; READ_BYTES];
    let timeout = spec.busy_poll.then_some(Duration::ZERO);
    loop {
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => relay.forward(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

struct Relay {
    clients: HashMap<u64, TcpStream>,
    /// The partial line.
    line: Vec<u8>,
}

impl Relay {
    fn forward(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                self.deliver()?;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Writes the line to all clients, or to the user in its last field.
    fn deliver(&mut self) -> io::Result<()> {
        let last_field = self.line.rsplit(|&byte| byte == b'|').next().unwrap_or_default();
        let recipient = std::str::from_utf8(last_field).ok().and_then(|id| id.parse::<u64>().ok());
        let is_broadcast = last_field == b"B";
        self.line.extend_from_slice(b"\r\n");
        if is_broadcast {
            return self.clients.values_mut().try_for_each(|client| client.write_all(&self.line));
        }
        match recipient.and_then(|user| self.clients.get_mut(&user)) {
            Some(client) => client.write_all(&self.line),
            None => Ok(()),
        }
    }
}
