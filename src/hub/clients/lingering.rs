//! Lingering close: connections that are shut down for sending, and whose peer may still send.

use std::time::{Duration, Instant};

use super::Hub;
use crate::hub::clients::client::Lingering;
use crate::hub::token::ClientKey;
use crate::hub::transport::{Acceptor, Stream};

/// The maximum time that a closed connection waits for its peer to close.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections that may linger even if open clients use all descriptors; they use the reserve.
const MIN_LINGERING: usize = 4;

impl<A: Acceptor> Hub<A> {
    /// Closes a connection without losing bytes in flight: shuts down the sending side, and
    /// discards input until the peer closes too.
    pub(crate) fn linger(&mut self, key: ClientKey, mut stream: A::Stream) {
        if stream.shutdown_write().is_err() {
            self.outbound.clients.remove(key);
            return;
        }
        let lingering = Lingering { stream, since: self.now, in_read_list: true };
        self.outbound.clients.linger(key, lingering);
        self.linger_timeouts.push(self.now, (key, self.now));
        self.readable_clients.push(key);
        self.evict_lingering();
    }

    /// Closes the oldest lingering connections if open clients need their descriptors.
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

    /// Closes connections whose linger timeout has expired, and all of them once the drain timeout
    /// has.
    pub(crate) fn expire_lingering(&mut self) {
        let is_drain_expired = self.is_drain_expired();
        loop {
            let clients = &self.outbound.clients;
            let is_stale =
                |&(key, since): &(ClientKey, Instant)| !clients.is_lingering_since(key, since);
            let expired = match is_drain_expired {
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
