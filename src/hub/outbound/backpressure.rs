//! Back-pressure: an event that does not fit pauses applying until queues fall below their low
//! watermark or the clients in the way are closed.

use std::cmp::Reverse;
use std::io::Write;
use std::time::Instant;

use super::Outbound;
use crate::config::SlowClient;
use crate::engine::{Recipient, Recipients};
use crate::hub::clients::client::{Client, Stall, StallCause};
use crate::hub::clients::table::Clients;
use crate::hub::close_reason::CloseReason;
use crate::hub::token::ClientKey;

impl<S> Outbound<S> {
    /// Returns whether applying is paused until queues fall.
    pub(crate) fn is_paused(&self) -> bool {
        self.stalled_clients > 0 || self.total_low_watermark.is_some()
    }

    /// Returns whether offering an event can succeed.
    #[inline]
    pub(crate) fn may_accept(&self) -> bool {
        self.stalled_clients == 0 && (self.total_low_watermark.is_none() || self.is_watermark_stale)
    }

    /// Returns how many clients are stalled for their own queue.
    pub(crate) fn stalled_clients(&self) -> usize {
        self.stalled_clients
    }

    /// Ends a pause for the total limit, because an event was applied.
    #[inline]
    pub(crate) fn on_applied(&mut self) {
        if self.total_low_watermark.is_some() {
            self.resume();
        }
    }

    /// Ends a pause for the total limit if all queues together are at or below the low watermark.
    pub(super) fn resume_if_below(&mut self) {
        if self.total_low_watermark.is_some_and(|low_watermark| self.queued_total <= low_watermark)
        {
            self.resume();
        }
    }

    #[cold]
    fn resume(&mut self) {
        self.total_low_watermark = None;
        self.is_watermark_stale = false;
        for index in 0..self.registered.len() {
            let key = self.registered[index];
            if let Some(Client { stall: Some(stall), .. }) = self.client(key)
                && stall.cause == StallCause::TotalQueue
            {
                self.end_stall(key);
            }
        }
    }

    /// Closes clients whose stall timeout expired.
    pub(crate) fn expire_stalls(&mut self) {
        let clients = &self.clients;
        let is_stale = |&(key, since): &(ClientKey, Instant)| !is_stalled(clients, key, since);
        let mut expired = Vec::new();
        while let Some(entry) = self.stalls.pop_expired(self.now, is_stale) {
            if !is_stale(&entry) {
                expired.push(entry.0);
            }
        }
        for key in expired {
            self.schedule_close(key, CloseReason::Stalled, None);
        }
    }

    /// Returns when the next stall timeout may expire, if ever.
    pub(crate) fn next_stall_deadline(&self) -> Option<Instant> {
        self.stalls.next_deadline()
    }

    fn start_stall(&mut self, key: ClientKey, cause: StallCause, low_watermark: u64) {
        let Some(client) = self.clients.get_mut(key) else { return };
        debug_assert!(client.stall.is_none(), "nothing is applied during a stall");
        client.stall = Some(Box::new(Stall { since: self.now, low_watermark, cause }));
        self.stalled_clients += usize::from(cause == StallCause::OwnQueue);
        self.stalls.push(self.now, (key, self.now));
    }

    /// Sets the low watermark. A running stall timer is not restarted.
    fn stall_for_total_limit(&mut self, key: ClientKey, low_watermark: u64) {
        match self.clients.get_mut(key).and_then(|client| client.stall.as_mut()) {
            Some(stall) => stall.low_watermark = low_watermark,
            None => self.start_stall(key, StallCause::TotalQueue, low_watermark),
        }
    }

    pub(super) fn end_stall(&mut self, key: ClientKey) {
        let stall = self.clients.get_mut(key).and_then(|client| client.stall.take());
        if stall.is_some_and(|stall| stall.cause == StallCause::OwnQueue) {
            self.stalled_clients -= 1;
        }
    }
}

impl<S: Write> Outbound<S> {
    /// Returns whether a line of `size` bytes fits the queues of `audience`, after flushing full
    /// ones. If it does not, starts the stalls that the line has to wait for. Under the disconnect
    /// policy closes clients instead, and the line fits.
    #[cold]
    pub(super) fn try_reserve(&mut self, audience: Recipients<'_>, size: u64) -> bool {
        let mut fits = true;
        match audience {
            Recipients::One(Recipient(recipient)) => fits = self.fits_recipient(recipient, size),
            Recipients::Many(recipients) => {
                for &recipient in recipients {
                    fits &= self.fits_recipient(recipient, size);
                }
            }
            Recipients::All => {
                // In reverse, because disconnecting a client moves the last one to its index.
                for index in (0..self.registered.len()).rev() {
                    fits &= self.fits_client(self.registered[index], size);
                }
                self.recompute_max_queue_bound();
            }
        }
        let added = size * self.registered_among(audience);
        fits && (added == 0 || self.fits_total(added))
    }

    /// Returns how many of the audience are still registered.
    fn registered_among(&self, audience: Recipients<'_>) -> u64 {
        let is_registered = |recipient: u32| self.batch.client(recipient).is_some();
        let count = match audience {
            Recipients::One(Recipient(recipient)) => usize::from(is_registered(recipient)),
            Recipients::Many(recipients) => {
                recipients.iter().filter(|&&recipient| is_registered(recipient)).count()
            }
            Recipients::All => self.registered.len(),
        };
        count as u64
    }

    fn fits_recipient(&mut self, recipient: u32, size: u64) -> bool {
        self.batch.client(recipient).is_none_or(|key| self.fits_client(key, size))
    }

    fn fits_client(&mut self, key: ClientKey, size: u64) -> bool {
        if self.queued(key) + size > self.client_limit {
            self.flush(key);
        }
        let queued = self.queued(key);
        let is_closing = self.client(key).is_none_or(|client| client.is_closing);
        if is_closing || queued == 0 || queued + size <= self.client_limit {
            return true;
        }
        match self.slow_client {
            SlowClient::Disconnect => {
                self.disconnect(key);
                true
            }
            SlowClient::Pause => {
                self.start_stall(key, StallCause::OwnQueue, low_watermark(self.client_limit, size));
                false
            }
        }
    }

    fn fits_total(&mut self, size: u64) -> bool {
        let low_watermark = low_watermark(self.total_limit, size);
        // A pause that is already running lasts until the low watermark for this line.
        let max = match self.total_low_watermark {
            Some(_) => low_watermark,
            None => self.total_limit.saturating_sub(size),
        };
        if self.queued_total <= max {
            return true;
        }
        for index in 0..self.registered.len() {
            self.flush(self.registered[index]);
        }
        if self.queued_total <= max {
            return true;
        }
        if self.slow_client == SlowClient::Disconnect {
            self.disconnect_longest(max);
            return true;
        }
        self.total_low_watermark = Some(low_watermark);
        self.is_watermark_stale = false;
        let total = self.queued_total;
        for index in 0..self.registered.len() {
            let key = self.registered[index];
            let queued = self.queued(key);
            if queued > 0 {
                let client_low_watermark = client_low_watermark(queued, low_watermark, total);
                self.stall_for_total_limit(key, client_low_watermark);
            }
        }
        false
    }
}

impl<S> Outbound<S> {
    /// Disconnects the clients with the longest queues, until at most `max` bytes are queued
    /// in total.
    fn disconnect_longest(&mut self, max: u64) {
        let mut queues: Vec<(u64, ClientKey)> =
            self.registered.iter().map(|&key| (self.queued(key), key)).collect();
        queues.sort_unstable_by_key(|&(queued, _)| Reverse(queued));
        for (_, key) in queues {
            if self.queued_total <= max {
                return;
            }
            self.disconnect(key);
        }
    }

    /// Disconnects a client for its full queue, and frees that queue immediately.
    fn disconnect(&mut self, key: ClientKey) {
        let queued = self.queued(key);
        let user = self.unregister(key);
        self.departed.extend(user);
        if let Some(client) = self.clients.get_mut(key) {
            client.send_queue.clear(&mut self.pool);
            client.dropped_bytes = queued;
        }
        self.schedule_close(key, CloseReason::QueueFull, None);
    }
}

/// Returns the low watermark of a queue that cannot take `size` more bytes: half its limit, or less
/// if the line would not fit then.
fn low_watermark(limit: u64, size: u64) -> u64 {
    (limit / 2).min(limit.saturating_sub(size))
}

/// Returns the low watermark of a queue of `queued` bytes when all queues together have to fall
/// from `total` to `total_low_watermark`: half of the queue, or its proportional share if that is
/// less.
fn client_low_watermark(queued: u64, total_low_watermark: u64, total: u64) -> u64 {
    let in_proportion =
        u128::from(queued) * u128::from(total_low_watermark) / u128::from(total.max(1));
    // At most `queued`, because the low watermark is below the total.
    (in_proportion as u64).min(queued / 2)
}

fn is_stalled<S>(clients: &Clients<S>, key: ClientKey, since: Instant) -> bool {
    let stall = clients.get(key).and_then(|client| client.stall.as_ref());
    stall.is_some_and(|stall| stall.since == since)
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::engine::{Full, Sink};
    use crate::protocol::{Line, UserId};

    /// A socket whose writes return `WouldBlock`.
    struct Blocked;

    impl Write for Blocked {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const STALL_TIMEOUT: Duration = Duration::from_secs(1);

    /// Three clients that do not read; the limit of all queues together is 100 bytes.
    fn three_full_clients(now: Instant) -> Outbound<Blocked> {
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 100,
            stall_timeout: STALL_TIMEOUT,
            ..Config::default()
        };
        three_clients(&config, now)
    }

    fn three_clients(config: &Config, now: Instant) -> Outbound<Blocked> {
        let mut outbound = Outbound::new(config, now);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for number in 0..3 {
            let client = Client::new(Blocked, peer, now);
            let key = outbound.clients.insert(client);
            outbound.register(key, UserId(number.into()), Recipient(number));
        }
        outbound
    }

    fn offer_to_first(outbound: &mut Outbound<Blocked>) -> Result<(), Full> {
        outbound.offer(Recipients::One(Recipient(0)), Line::Slice(b"0123456789"))
    }

    #[test]
    fn what_a_disconnected_client_does_not_get_takes_no_room_from_the_others() {
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 160,
            slow_client: SlowClient::Disconnect,
            ..Config::default()
        };
        let mut outbound = three_clients(&config, Instant::now());
        for (key, len) in [(0, 68), (1, 28), (2, 28)] {
            let line = vec![b'x'; len];
            let offer = outbound.offer(Recipients::One(Recipient(key)), Line::Slice(&line));
            assert_eq!(offer, Ok(()));
        }
        let offer = outbound.offer(Recipients::Many(&[0, 1, 2]), Line::Slice(&[b'x'; 38]));
        assert_eq!((offer, outbound.queued_total()), (Ok(()), 140));
        assert_eq!(outbound.registered().len(), 2, "only the first is over its limit");
    }

    #[test]
    fn a_renewed_pause_keeps_its_low_watermark_and_its_timer() {
        let start = Instant::now();
        let mut outbound = three_full_clients(start);
        let broadcast = outbound.offer(Recipients::All, Line::Slice(&[b'x'; 28]));
        assert_eq!((broadcast, outbound.queued_total()), (Ok(()), 90));
        assert_eq!(offer_to_first(&mut outbound), Err(Full), "102 bytes are too many");
        assert!(outbound.is_paused() && !outbound.may_accept());
        outbound.flush_pending();

        outbound.begin_turn(start + STALL_TIMEOUT / 2);
        outbound.unregister(ClientKey(2));
        assert!(outbound.may_accept(), "the event may have fewer recipients now");
        assert_eq!(offer_to_first(&mut outbound), Err(Full), "60 bytes are more than half");
        assert!(outbound.is_paused() && !outbound.may_accept());
        assert_eq!(outbound.next_stall_deadline(), Some(start + STALL_TIMEOUT));

        outbound.begin_turn(start + STALL_TIMEOUT);
        outbound.expire_stalls();
        let pending_closes: Vec<u32> =
            outbound.take_pending_closes().into_iter().map(|(key, ..)| key.0).collect();
        assert_eq!(pending_closes, [0, 1]);

        outbound.unregister(ClientKey(1));
        assert_eq!(offer_to_first(&mut outbound), Ok(()), "30 bytes are less than half");
        outbound.on_applied();
        assert!(!outbound.is_paused());
    }
}
