//! Identification: the first line of a client is the id of its user.

use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use super::table::ClientTable;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{Disconnect, ReadOutcome, try_read};
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;
use crate::protocol::{IdLine, LineBuffer, LineFrame, is_http_request_line};

/// The maximum length of an id line, without its terminator.
const MAX_ID_LINE_BYTES: usize = 64;

/// An unfinished identification: the part of the id line received so far, and when the client connected.
#[derive(Debug)]
pub(super) struct Handshake {
    lines: LineBuffer,
    /// When the client connected.
    since: Instant,
    /// The client was not read yet.
    is_new: bool,
}

impl Handshake {
    pub(super) fn new(since: Instant) -> Handshake {
        Handshake { lines: LineBuffer::new(MAX_ID_LINE_BYTES), since, is_new: true }
    }

    /// Returns whether the client was not read yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns whether the client connected at this time.
    pub(super) fn is_since(&self, since: Instant) -> bool {
        self.since == since
    }

    /// Returns whether no bytes have arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.pending_bytes() == 0
    }

    /// Reads the id line, with a sequence if the client `may_resume`. Returns `None` while it is incomplete, then the
    /// line or the reason to close the client.
    pub(super) fn read_id(
        &mut self,
        stream: &mut impl Read,
        may_resume: bool,
    ) -> Option<Result<IdLine, Disconnect>> {
        self.is_new = false;
        loop {
            match try_read(stream, self.lines.unfilled_mut(MAX_ID_LINE_BYTES + 2)) {
                ReadOutcome::Data(bytes) => self.lines.advance(bytes),
                ReadOutcome::WouldBlock => return None,
                ReadOutcome::Closed(end) => return Some(Err(end)),
            }
            if let Some(id) = self.next_id(may_resume) {
                return Some(id);
            }
        }
    }

    /// Parses the id line if it is complete, or too long already.
    fn next_id(&mut self, may_resume: bool) -> Option<Result<IdLine, Disconnect>> {
        let parse_id_line =
            |line: &[u8], is_prefix: bool| parse_id_line(line, is_prefix, may_resume);
        match self.lines.next_frame() {
            Some(LineFrame::Complete(line)) => return Some(parse_id_line(line.as_bytes(), false)),
            Some(LineFrame::TooLong(prefix)) => return Some(parse_id_line(prefix, true)),
            None => {}
        }
        self.lines.is_discarding().then(|| parse_id_line(self.lines.partial_line(), true))
    }
}

/// Parses the first line of a client. Returns it, or the reason for closing the client. `is_prefix` is whether the
/// line was too long and `line` is only its prefix.
fn parse_id_line(line: &[u8], is_prefix: bool, may_resume: bool) -> Result<IdLine, Disconnect> {
    if is_http_request_line(line, is_prefix) {
        return Err(Disconnect::for_line(CloseReason::HttpRequest, line));
    }
    let refuse = |why: &dyn fmt::Display| {
        Err(Disconnect::for_line(CloseReason::BadId, line).because(why.to_string()))
    };
    match IdLine::parse(line) {
        _ if is_prefix => refuse(&"the line is longer than any user ID and sequence"),
        Err(error) => refuse(&error),
        Ok(IdLine { after: Some(_), .. }) if !may_resume => {
            refuse(&"clients may not resume; --resume-events N keeps events for them")
        }
        Ok(id) => Ok(id),
    }
}

/// The timeouts of clients that have to identify themselves.
#[derive(Debug)]
pub(super) struct HandshakeTimeouts {
    /// Clients by key and time of connection. An entry is stale once the client has identified
    /// itself or is closed.
    queue: TimeoutQueue<(ClientKey, Instant)>,
}

impl HandshakeTimeouts {
    pub(super) fn new(timeout: Duration) -> HandshakeTimeouts {
        HandshakeTimeouts { queue: TimeoutQueue::new(timeout) }
    }

    /// Changes the timeout, of clients that are connected too.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.queue.set_timeout(timeout);
    }

    /// Starts the timeout of a client that has connected now.
    pub(super) fn start(&mut self, key: ClientKey, now: Instant) {
        self.queue.push(now, (key, now));
    }

    /// Schedules the close of clients whose timeout has expired.
    pub(super) fn expire<S>(&mut self, clients: &mut ClientTable<S>, now: Instant) {
        let is_stale = |&(key, since): &(ClientKey, Instant)| {
            let handshake = clients.get(key).and_then(|client| client.handshake());
            !handshake.is_some_and(|handshake| handshake.is_since(since))
        };
        for (key, _) in self.queue.take_expired(now, is_stale) {
            clients.schedule_close(key, CloseReason::IdentifyTimeout);
        }
    }

    /// Returns whether the time of a client is over.
    pub(super) fn is_over(&self, handshake: &Handshake, now: Instant) -> bool {
        self.queue.has_expired(handshake.since, now)
    }

    /// Returns when the next timeout may expire, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::hub::test_stream::TestStream;
    use crate::protocol::{Sequence, UserId};

    fn read_line(input: &[u8], may_resume: bool) -> Option<Result<IdLine, CloseReason>> {
        let mut stream = TestStream::with_input(input);
        let id = Handshake::new(Instant::now()).read_id(&mut stream, may_resume)?;
        Some(id.map_err(|end| end.reason))
    }

    fn read_id(input: &[u8]) -> Option<Result<UserId, CloseReason>> {
        read_line(input, false).map(|id| id.map(|id| id.user))
    }

    #[test]
    fn a_sequence_is_accepted_if_clients_may_resume() {
        let id = IdLine { user: UserId(7), after: Sequence::new(12) };
        assert_eq!(read_line(b"7|12\r\n", true), Some(Ok(id)));
        assert_eq!(read_line(b"7|12\r\n", false), Some(Err(CloseReason::BadId)));
        assert_eq!(read_line(b"7|\n", true), Some(Err(CloseReason::BadId)));
        assert_eq!(read_line(b"7\n", true), Some(Ok(IdLine { after: None, ..id })));
    }

    #[test]
    fn the_first_line_is_a_user_id() {
        assert_eq!(read_id(b"2932\r\n"), Some(Ok(UserId(2932))));
        assert_eq!(read_id(b"1\nignored"), Some(Ok(UserId(1))));
        assert_eq!(read_id(b"2932"), None);
        assert_eq!(read_id(b""), None);
        assert_eq!(read_id(b"x\n"), Some(Err(CloseReason::BadId)));
        assert_eq!(read_id(b"GET / HTTP/1.1\r\n"), Some(Err(CloseReason::HttpRequest)));
        assert_eq!(read_id(&[b'1'; 100]), Some(Err(CloseReason::BadId)), "longer than any id");
    }

    #[test]
    fn a_line_may_arrive_in_pieces_and_the_end_before_it_closes() {
        let mut handshake = Handshake::new(Instant::now());
        let mut stream = TestStream::with_input(b"29");
        assert!(handshake.read_id(&mut stream, false).is_none() && !handshake.is_empty());
        stream.input.extend(b"32\n");
        assert_eq!(handshake.read_id(&mut stream, false).unwrap().unwrap().user, UserId(2932));
        let mut handshake = Handshake::new(Instant::now());
        stream.is_closed_by_peer = true;
        let end = handshake.read_id(&mut stream, false).unwrap().unwrap_err();
        assert_eq!(end.reason, CloseReason::ClosedByPeer);
        assert!(handshake.is_empty());
    }

    #[test]
    fn only_clients_that_still_await_their_id_time_out() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(1));
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (mut clients, mut timeouts) = (ClientTable::new(), HandshakeTimeouts::new(timeout));
        let keys = [(); 2].map(|()| clients.insert(TestStream::default(), peer, start));
        keys.iter().for_each(|&key| timeouts.start(key, start));
        clients.get_mut(keys[0]).unwrap().on_registered(UserId(1));
        timeouts.expire(&mut clients, start);
        assert!(clients.take_pending_closes().is_empty());
        assert_eq!(timeouts.next_deadline(), Some(start + timeout));
        timeouts.expire(&mut clients, start + timeout);
        let closes = clients.take_pending_closes();
        let closes: Vec<_> = closes.iter().map(|(key, end)| (*key, end.reason)).collect();
        assert_eq!(closes, [(keys[1], CloseReason::IdentifyTimeout)]);
        assert_eq!(timeouts.next_deadline(), None);
    }
}
