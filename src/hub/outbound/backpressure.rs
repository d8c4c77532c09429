//! When there is too much: pauses, and the stalls of those that they wait for.
//!
//! An event that does not fit its audience's queues, or the queues of all together, waits. Applying is
//! paused then, until a target is reached or whoever is in the way is given up.

use std::cmp::Reverse;
use std::io::Write;
use std::time::Instant;

use slab::Slab;

use super::{Outbound, client_mut};
use crate::config::SlowClient;
use crate::engine::{Recipient, Recipients};
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{Client, Connection, Stall, StallCause};

impl<S> Outbound<S> {
    /// Whether events have to wait until queues have come down.
    pub(crate) fn is_paused(&self) -> bool {
        self.stalled_clients > 0 || self.total_low_watermark.is_some()
    }

    /// Whether it is worth offering an event: nothing is waited for, or it may have become less.
    #[inline]
    pub(crate) fn may_accept(&self) -> bool {
        self.stalled_clients == 0 && (self.total_low_watermark.is_none() || self.is_watermark_stale)
    }

    /// How many clients applying waits for.
    pub(crate) fn stalled_clients(&self) -> usize {
        self.stalled_clients
    }

    /// An event was applied: whatever had to wait for room waits no longer.
    #[inline]
    pub(crate) fn on_applied(&mut self) {
        if self.total_low_watermark.is_some() {
            self.resume();
        }
    }

    /// Ends the pause for the total once the queues of all have come down far enough.
    pub(super) fn resume_if_below(&mut self) {
        if self.total_low_watermark.is_some_and(|target| self.queued_total <= target) {
            self.resume();
        }
    }

    #[cold]
    fn resume(&mut self) {
        self.total_low_watermark = None;
        self.is_watermark_stale = false;
        for place in 0..self.registered.len() {
            let key = self.registered[place];
            if let Some(Client { stall: Some(stall), .. }) = self.client(key)
                && stall.cause == StallCause::TotalQueue
            {
                self.end_stall(key);
            }
        }
    }

    /// Dooms the clients that have been stalled for too long.
    pub(crate) fn expire_stalls(&mut self) {
        let connections = &self.connections;
        let is_over = |&(key, since): &(u32, Instant)| !is_stalled(connections, key, since);
        let mut expired = Vec::new();
        while let Some(entry) = self.stalls.pop_expired(self.now, is_over) {
            if !is_over(&entry) {
                expired.push(entry.0);
            }
        }
        for key in expired {
            self.schedule_close(key, CloseReason::Stalled, None);
        }
    }

    /// When a stall may be due, if ever.
    pub(crate) fn next_stall(&self) -> Option<Instant> {
        self.stalls.next()
    }

    fn start_stall(&mut self, key: u32, cause: StallCause, target: u64) {
        let Some(client) = client_mut(&mut self.connections, key) else { return };
        debug_assert!(client.stall.is_none(), "nothing is applied while a stall goes on");
        client.stall = Some(Box::new(Stall { since: self.now, target, cause }));
        self.stalled_clients += usize::from(cause == StallCause::OwnQueue);
        self.stalls.start(self.now, (key, self.now));
    }

    /// The client's queue has to come down to `target`, in the time that is left to it if it has to
    /// come down already.
    fn stall_for_total_limit(&mut self, key: u32, target: u64) {
        match client_mut(&mut self.connections, key).and_then(|client| client.stall.as_mut()) {
            Some(stall) => stall.target = target,
            None => self.start_stall(key, StallCause::TotalQueue, target),
        }
    }

    pub(super) fn end_stall(&mut self, key: u32) {
        let stall = client_mut(&mut self.connections, key).and_then(|client| client.stall.take());
        if stall.is_some_and(|stall| stall.cause == StallCause::OwnQueue) {
            self.stalled_clients -= 1;
        }
    }
}

impl<S: Write> Outbound<S> {
    /// Whether a line of `size` bytes fits the queues of `audience`, after flushing those that are
    /// in the way. If it does not, starts the stalls that it has to wait for. Clients that are to be
    /// disconnected instead are pending_closes, and not in the way.
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
                // In reverse, since one that is disconnected gives its place to the last.
                for place in (0..self.registered.len()).rev() {
                    fits &= self.fits_client(self.registered[place], size);
                }
                self.recompute_max_queue_bound();
            }
        }
        let added = size * self.registered_among(audience);
        fits && (added == 0 || self.fits_total(added))
    }

    /// How many of the audience are still registered.
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

    fn fits_client(&mut self, key: u32, size: u64) -> bool {
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
                self.start_stall(key, StallCause::OwnQueue, target(self.client_limit, size));
                false
            }
        }
    }

    fn fits_total(&mut self, size: u64) -> bool {
        let target = target(self.total_limit, size);
        // A pause that goes on does so until the queues have come down as far as is needed now.
        let most = match self.total_low_watermark {
            Some(_) => target,
            None => self.total_limit.saturating_sub(size),
        };
        if self.queued_total <= most {
            return true;
        }
        for place in 0..self.registered.len() {
            self.flush(self.registered[place]);
        }
        if self.queued_total <= most {
            return true;
        }
        if self.slow_client == SlowClient::Disconnect {
            self.disconnect_longest(most);
            return true;
        }
        self.total_low_watermark = Some(target);
        self.is_watermark_stale = false;
        let total = self.queued_total;
        for place in 0..self.registered.len() {
            let key = self.registered[place];
            let queued = self.queued(key);
            if queued > 0 {
                self.stall_for_total_limit(key, share(queued, target, total));
            }
        }
        false
    }
}

impl<S> Outbound<S> {
    /// Disconnects the clients with the longest queues, until no more than `most` bytes are queued
    /// for all.
    fn disconnect_longest(&mut self, most: u64) {
        let mut queues: Vec<(u64, u32)> =
            self.registered.iter().map(|&key| (self.queued(key), key)).collect();
        queues.sort_unstable_by_key(|&(queued, _)| Reverse(queued));
        for (_, key) in queues {
            if self.queued_total <= most {
                return;
            }
            self.disconnect(key);
        }
    }

    /// Disconnects a client for its queue, and gives back the memory of that queue at once.
    fn disconnect(&mut self, key: u32) {
        let queued = self.queued(key);
        let user = self.leave(key);
        self.departed.extend(user);
        if let Some(client) = client_mut(&mut self.connections, key) {
            client.send_queue.clear(&mut self.pool);
            client.dropped_bytes = queued;
        }
        self.schedule_close(key, CloseReason::QueueFull, None);
    }
}

/// How far a queue that cannot take `size` more bytes has to come down: to half, or further where
/// that is not enough for what waits.
fn target(limit: u64, size: u64) -> u64 {
    (limit / 2).min(limit.saturating_sub(size))
}

/// How far a queue of `queued` bytes has to come down when all together have to, from `total` to
/// `target`: to half, or further where the pause would go on if everybody did no more than that.
fn share(queued: u64, target: u64, total: u64) -> u64 {
    let in_proportion = u128::from(queued) * u128::from(target) / u128::from(total.max(1));
    // No more than `queued`, for the target lies below the total.
    (in_proportion as u64).min(queued / 2)
}

fn is_stalled<S>(connections: &Slab<Connection<S>>, key: u32, since: Instant) -> bool {
    match connections.get(key as usize) {
        Some(Connection::Client(client)) => {
            client.stall.as_ref().is_some_and(|stall| stall.since == since)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::engine::{Offer, Sink};
    use crate::protocol::{Line, UserId};

    /// A socket that takes nothing for now.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const STALL_TIMEOUT: Duration = Duration::from_secs(1);

    /// Three clients who do not read; all their queues together may hold 100 bytes.
    fn three_full_clients(now: Instant) -> Outbound<Full> {
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 100,
            stall_timeout: STALL_TIMEOUT,
            ..Config::default()
        };
        three_clients(&config, now)
    }

    fn three_clients(config: &Config, now: Instant) -> Outbound<Full> {
        let mut deliveries = Outbound::new(config, now);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for key in 0..3 {
            let client = Client::new(Full, peer, now);
            deliveries.connections.insert(Connection::Client(client));
            deliveries.join(key, UserId(key.into()), Recipient(key));
        }
        deliveries
    }

    fn offer_to_first(deliveries: &mut Outbound<Full>) -> Offer {
        deliveries.offer(Recipients::One(Recipient(0)), Line::Slice(b"0123456789"))
    }

    #[test]
    fn what_a_disconnected_client_does_not_get_takes_no_room_from_the_others() {
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 160,
            slow_client: SlowClient::Disconnect,
            ..Config::default()
        };
        let mut deliveries = three_clients(&config, Instant::now());
        for (key, len) in [(0, 68), (1, 28), (2, 28)] {
            let line = vec![b'x'; len];
            let offer = deliveries.offer(Recipients::One(Recipient(key)), Line::Slice(&line));
            assert_eq!(offer, Offer::Taken);
        }
        let offer = deliveries.offer(Recipients::Many(&[0, 1, 2]), Line::Slice(&[b'x'; 38]));
        assert_eq!((offer, deliveries.queued_total()), (Offer::Taken, 140));
        assert_eq!(deliveries.registered().len(), 2, "only the first is over its limit");
    }

    #[test]
    fn a_pause_that_is_looked_at_anew_keeps_its_target_and_its_clock() {
        let start = Instant::now();
        let mut deliveries = three_full_clients(start);
        let broadcast = deliveries.offer(Recipients::All, Line::Slice(&[b'x'; 28]));
        assert_eq!((broadcast, deliveries.queued_total()), (Offer::Taken, 90));
        assert_eq!(offer_to_first(&mut deliveries), Offer::Refused, "102 bytes are too many");
        assert!(deliveries.is_paused() && !deliveries.may_accept());
        deliveries.flush_pending();

        deliveries.begin_turn(start + STALL_TIMEOUT / 2);
        deliveries.leave(2);
        assert!(deliveries.may_accept(), "it may be for fewer now");
        assert_eq!(offer_to_first(&mut deliveries), Offer::Refused, "60 bytes are more than half");
        assert!(deliveries.is_paused() && !deliveries.may_accept());
        assert_eq!(deliveries.next_stall(), Some(start + STALL_TIMEOUT));

        deliveries.begin_turn(start + STALL_TIMEOUT);
        deliveries.expire_stalls();
        let pending_closes: Vec<u32> =
            deliveries.take_pending_closes().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(pending_closes, [0, 1]);

        deliveries.leave(1);
        assert_eq!(offer_to_first(&mut deliveries), Offer::Taken, "30 bytes are less than half");
        deliveries.on_applied();
        assert!(!deliveries.is_paused());
    }
}
