//! Closed connections whose last bytes are still on their way.

use std::time::{Duration, Instant};

use super::Hub;
use crate::hub::clients::client::Lingering;
use crate::hub::token::ClientKey;
use crate::hub::transport::{Acceptor, Stream};

/// How long a closed connection waits for its peer to end, at most.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// So many connections may linger even where clients take all descriptors; they use the reserve.
const MIN_LINGERING: usize = 4;

impl<A: Acceptor> Hub<A> {
    /// Closes a connection so that nothing on its way is lost: ends its sending side, and discards
    /// what its peer still sends until the peer ends, too.
    pub(crate) fn linger(&mut self, key: ClientKey, mut stream: A::Stream) {
        if stream.shutdown_write().is_err() {
            self.outbound.clients.remove(key);
            return;
        }
        let lingering = Lingering { stream, since: self.now, in_read_list: true };
        self.outbound.clients.linger(key, lingering);
        self.linger_timeouts.start(self.now, (key, self.now));
        self.readable_clients.push(key);
        self.evict_lingering();
    }

    /// Ends the oldest lingering connections where open clients need their descriptors.
    pub(crate) fn evict_lingering(&mut self) {
        let limit = self.capacity.max_clients + self.capacity.max_awaiting_id;
        let max = limit.saturating_sub(self.open_clients).max(MIN_LINGERING);
        while self.outbound.clients.lingering() > max
            && let Some((key, since)) = self.linger_timeouts.pop_first()
        {
            if self.outbound.clients.is_lingering_since(key, since) {
                self.outbound.clients.remove(key);
            }
        }
    }

    /// Ends the connections that have lingered for long enough, and all of them once a stop is over.
    pub(crate) fn expire_lingering(&mut self) {
        let is_over = self.drain_deadline.is_some_and(|deadline| self.now >= deadline);
        loop {
            let clients = &self.outbound.clients;
            let is_stale =
                |&(key, since): &(ClientKey, Instant)| !clients.is_lingering_since(key, since);
            let expired = match is_over {
                true => self.linger_timeouts.pop_first(),
                false => self.linger_timeouts.pop_expired(self.now, is_stale),
            };
            let Some((key, since)) = expired else { return };
            if self.outbound.clients.is_lingering_since(key, since) {
                self.outbound.clients.remove(key);
            }
        }
    }
}
