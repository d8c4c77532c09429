//! Closed connections whose last bytes are still on their way.

use std::time::{Duration, Instant};

use super::Hub;
use crate::hub::connection::{Connection, Lingering};
use crate::hub::transport::{Acceptor, Stream};

/// How long a closed connection waits for its peer to end, at most.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// So many connections may linger even where clients take all descriptors; they use the reserve.
const MIN_LINGERING: usize = 4;

impl<A: Acceptor> Hub<A> {
    /// Closes a connection so that nothing on its way is lost: ends its sending side, and discards
    /// what its peer still sends until the peer ends, too.
    pub(crate) fn linger(&mut self, key: u32, mut stream: A::Stream) {
        if stream.shutdown_write().is_err() {
            self.outbound.connections.remove(key as usize);
            return;
        }
        let lingering = Lingering { stream, since: self.now, in_read_list: true };
        self.outbound.connections[key as usize] = Connection::Lingering(lingering);
        self.lingering += 1;
        self.linger_timeouts.start(self.now, (key, self.now));
        self.readable_clients.push(key);
        self.evict_lingering();
    }

    /// Lets go of a lingering connection.
    pub(crate) fn end_lingering(&mut self, key: u32) {
        self.outbound.connections.remove(key as usize);
        self.lingering -= 1;
    }

    /// Ends the oldest lingering connections where open clients need their descriptors.
    pub(crate) fn evict_lingering(&mut self) {
        let limit = self.capacity.max_clients + self.capacity.max_awaiting_id;
        let max = limit.saturating_sub(self.open_clients).max(MIN_LINGERING);
        while self.lingering > max
            && let Some((key, since)) = self.linger_timeouts.pop_first()
        {
            if self.is_lingering_since(key, since) {
                self.end_lingering(key);
            }
        }
    }

    /// Ends the connections that have lingered for long enough, and all of them once a stop is over.
    pub(crate) fn expire_lingering(&mut self) {
        let is_over = self.drain_deadline.is_some_and(|deadline| self.now >= deadline);
        loop {
            let connections = &self.outbound.connections;
            let is_stale = |&(key, since): &(u32, Instant)| {
                !matches!(
                    connections.get(key as usize),
                    Some(Connection::Lingering(lingering)) if lingering.since == since
                )
            };
            let expired = match is_over {
                true => self.linger_timeouts.pop_first(),
                false => self.linger_timeouts.pop_expired(self.now, is_stale),
            };
            let Some((key, since)) = expired else { return };
            if self.is_lingering_since(key, since) {
                self.end_lingering(key);
            }
        }
    }

    fn is_lingering_since(&self, key: u32, since: Instant) -> bool {
        matches!(
            self.outbound.connections.get(key as usize),
            Some(Connection::Lingering(lingering)) if lingering.since == since
        )
    }
}
