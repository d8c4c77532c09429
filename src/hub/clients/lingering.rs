//! Lingering close: connections that are shut down for sending, and whose peer may still send.

use std::time::{Duration, Instant};

use super::table::ClientTable;
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;

/// The maximum time that a closed connection waits for its peer to close.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections that may linger even if open clients use all descriptors; they use the reserve.
const MIN_LINGERING: usize = 4;

/// A closed connection whose descriptor is still open. Its sending side is shut down, and its input still read,
/// because closing a socket with unread bytes resets the connection and loses bytes in flight; or only its close
/// was [put off](super::put_off).
#[derive(Debug)]
pub(super) struct Lingering<S> {
    pub(super) stream: S,
    /// When the connection was closed.
    pub(super) since: Instant,
    /// Only its close was put off.
    pub(super) is_put_off: bool,
    /// Its key is in the list of clients to read.
    pub(super) in_read_list: bool,
}

/// The timeouts of lingering connections.
#[derive(Debug)]
pub(super) struct LingerTimeouts {
    /// Connections by key and the time at which the sending side was shut down. An entry is stale
    /// once the connection is closed.
    queue: TimeoutQueue<(ClientKey, Instant)>,
}

impl LingerTimeouts {
    pub(super) fn new() -> LingerTimeouts {
        LingerTimeouts { queue: TimeoutQueue::new(LINGER_TIMEOUT) }
    }

    /// Starts the timeout of a connection that lingers from now on.
    pub(super) fn start(&mut self, key: ClientKey, now: Instant) {
        self.queue.push(now, (key, now));
    }

    /// Closes the oldest lingering connections until at most `max` are left, or the minimum that may
    /// always linger.
    pub(super) fn evict<S>(&mut self, clients: &mut ClientTable<S>, max: usize) {
        self.evict_down_to(clients, max.max(MIN_LINGERING));
    }

    /// Closes all lingering connections.
    pub(super) fn evict_all<S>(&mut self, clients: &mut ClientTable<S>) {
        self.evict_down_to(clients, 0);
    }

    fn evict_down_to<S>(&mut self, clients: &mut ClientTable<S>, max: usize) {
        while clients.lingering() > max
            && let Some((key, since)) = self.queue.pop_first()
        {
            if clients.is_lingering_since(key, since) {
                clients.remove(key);
            }
        }
    }

    /// Closes the connections whose timeout has expired.
    pub(super) fn expire<S>(&mut self, clients: &mut ClientTable<S>, now: Instant) {
        let is_stale =
            |&(key, since): &(ClientKey, Instant)| !clients.is_lingering_since(key, since);
        for (key, _) in self.queue.take_expired(now, is_stale) {
            clients.remove(key);
        }
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

    const SECOND: Duration = Duration::from_secs(1);

    /// Connections that linger since one second after the other.
    fn lingering(start: Instant, count: u32) -> (ClientTable<TestStream>, LingerTimeouts) {
        let (mut clients, mut timeouts) = (ClientTable::new(), LingerTimeouts::new());
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for number in 0..count {
            let since = start + number * SECOND;
            let key = clients.insert(TestStream::default(), peer, start);
            clients.take(key);
            let stream = TestStream::default();
            clients
                .linger(key, Lingering { stream, since, is_put_off: false, in_read_list: false });
            timeouts.start(key, since);
        }
        (clients, timeouts)
    }

    #[test]
    fn a_connection_lingers_until_its_timeout() {
        let start = Instant::now();
        let (mut clients, mut timeouts) = lingering(start, 2);
        timeouts.expire(&mut clients, start + LINGER_TIMEOUT - SECOND / 2);
        assert_eq!(clients.lingering(), 2);
        timeouts.expire(&mut clients, start + LINGER_TIMEOUT);
        assert_eq!(clients.lingering(), 1);
        assert_eq!(timeouts.next_deadline(), Some(start + SECOND + LINGER_TIMEOUT));
    }

    #[test]
    fn the_oldest_are_closed_first_and_a_few_may_always_linger() {
        let start = Instant::now();
        let (mut clients, mut timeouts) = lingering(start, 8);
        timeouts.evict(&mut clients, 6);
        assert_eq!(clients.lingering(), 6);
        assert!(clients.lingering_mut(ClientKey(1)).is_none());
        assert!(clients.lingering_mut(ClientKey(2)).is_some());
        timeouts.evict(&mut clients, 0);
        assert_eq!(clients.lingering(), MIN_LINGERING);
        timeouts.evict_all(&mut clients);
        assert!(clients.is_empty());
    }
}
