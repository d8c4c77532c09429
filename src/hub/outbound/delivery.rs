//! The engine's sink: queues each event for all of its recipients, or pauses when a queue is full.

use std::cmp::Reverse;
use std::io::Write;
use std::time::Instant;

use super::Outbound;
use super::backpressure::client_low_watermark;
use super::output::ClientOutput;
use crate::engine::{Full, Recipient, Recipients, Sink};
use crate::hub::clients::ClientTable;
use crate::hub::close_reason::CloseReason;
use crate::hub::outbound::byte_buffer::wire_len;
use crate::hub::token::ClientKey;
use crate::protocol::Line;

/// Queues events of the engine, and flushes full queues to their connections first.
#[derive(Debug)]
pub(crate) struct Delivery<'a, S> {
    pub(crate) outbound: &'a mut Outbound,
    pub(crate) clients: &'a mut ClientTable<S>,
    pub(crate) now: Instant,
}

impl<S: Write> Sink for Delivery<'_, S> {
    #[inline]
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Result<(), Full> {
        let size = wire_len(&line) as u64;
        if !self.outbound.fits_fast(audience, size) && !self.try_reserve(audience, size) {
            return Err(Full);
        }
        self.outbound.enqueue(audience, &line);
        Ok(())
    }
}

impl<S: Write> Delivery<'_, S> {
    /// Ends a pause for the total limit, because an event was applied.
    #[inline]
    pub(crate) fn on_applied(&mut self) {
        self.outbound.on_applied(self.clients);
    }

    /// Returns whether a line of `size` bytes fits the queues of `audience`, after flushing full
    /// ones. If it does not, starts the stalls that the line has to wait for. Under the disconnect
    /// policy closes clients instead, and the line fits.
    #[cold]
    fn try_reserve(&mut self, audience: Recipients<'_>, size: u64) -> bool {
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
                for index in (0..self.outbound.registered.len()).rev() {
                    fits &= self.fits_client(self.outbound.registered[index], size);
                }
                self.outbound.recompute_max_queue_bound(self.clients);
            }
        }
        let added = size * self.outbound.registered_among(audience);
        fits && (added == 0 || self.fits_total(added))
    }

    fn fits_recipient(&mut self, recipient: u32, size: u64) -> bool {
        self.outbound.batch.client(recipient).is_none_or(|key| self.fits_client(key, size))
    }

    fn fits_client(&mut self, key: ClientKey, size: u64) -> bool {
        if self.clients.output(key).is_some_and(ClientOutput::is_replaying) {
            return true;
        }
        let limit = self.outbound.backpressure.client_limit();
        if self.queued(key) + size > limit {
            self.outbound.flush(self.clients, key);
        }
        let queued = self.queued(key);
        let Some(client) = self.clients.get_mut(key) else { return true };
        if client.is_closing() || queued == 0 || queued + size <= limit {
            return true;
        }
        if self.outbound.backpressure.disconnects() {
            self.disconnect(key);
            return true;
        }
        let output = client.output_mut();
        self.outbound.backpressure.stall_for_own_queue(key, output, size, self.now);
        false
    }

    fn fits_total(&mut self, size: u64) -> bool {
        let max = self.outbound.backpressure.max_total_before(size);
        if self.outbound.queued_total <= max {
            return true;
        }
        for index in 0..self.outbound.registered.len() {
            self.outbound.flush(self.clients, self.outbound.registered[index]);
        }
        if self.outbound.queued_total <= max {
            return true;
        }
        if self.outbound.backpressure.disconnects() {
            self.disconnect_longest(max);
            return true;
        }
        self.pause_for_total(size);
        false
    }

    /// Begins or renews a pause for the total limit: each client with bytes queued has to fall to
    /// its part of the low watermark.
    fn pause_for_total(&mut self, size: u64) {
        let low_watermark = self.outbound.backpressure.pause_for_total(size);
        let total = self.outbound.queued_total;
        for index in 0..self.outbound.registered.len() {
            let key = self.outbound.registered[index];
            let queued = self.queued(key);
            if queued > 0
                && let Some(output) = self.clients.output_mut(key)
            {
                let low_watermark = client_low_watermark(queued, low_watermark, total);
                let backpressure = &mut self.outbound.backpressure;
                backpressure.stall_for_total_limit(key, output, low_watermark, self.now);
            }
        }
    }

    /// Disconnects the clients with the longest queues, until at most `max` bytes are queued
    /// in total.
    fn disconnect_longest(&mut self, max: u64) {
        let registered = self.outbound.registered.iter();
        let mut queues: Vec<(u64, ClientKey)> =
            registered.map(|&key| (self.queued(key), key)).collect();
        queues.sort_unstable_by_key(|&(queued, _)| Reverse(queued));
        for (_, key) in queues {
            if self.outbound.queued_total <= max {
                return;
            }
            self.disconnect(key);
        }
    }

    /// Disconnects a client for its full queue, and frees that queue immediately.
    fn disconnect(&mut self, key: ClientKey) {
        let queued = self.queued(key);
        if self.outbound.unregister(self.clients, key) {
            self.outbound.departed.push(key);
        }
        if let Some(output) = self.clients.output_mut(key) {
            output.clear_queue(&mut self.outbound.pool);
            *self.outbound.dropped.entry(key).or_default() += queued;
        }
        self.clients.schedule_close(key, CloseReason::QueueFull);
    }

    fn queued(&self, key: ClientKey) -> u64 {
        self.outbound.queued(self.clients, key)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, SlowClient};
    use crate::hub::budgets::Budgets;
    use crate::hub::test_stream::TestStream;

    const STALL_TIMEOUT: Duration = Duration::from_secs(1);

    /// Three clients that do not read.
    struct Queues {
        outbound: Outbound,
        clients: ClientTable<TestStream>,
        now: Instant,
    }

    impl Queues {
        fn new(config: &Config, now: Instant) -> Queues {
            let mut queues =
                Queues { outbound: Outbound::new(config), clients: ClientTable::new(), now };
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            for number in 0..3 {
                let key = queues.clients.insert(TestStream::default(), peer, now);
                queues.outbound.register(&mut queues.clients, key, Recipient(number));
            }
            queues
        }

        fn offer(&mut self, audience: Recipients<'_>, bytes: usize) -> Result<(), Full> {
            self.offer_line(audience, &vec![b'x'; bytes])
        }

        fn offer_line(&mut self, audience: Recipients<'_>, line: &[u8]) -> Result<(), Full> {
            let Queues { outbound, clients, now } = self;
            let offer =
                Delivery { outbound, clients, now: *now }.offer(audience, Line::Slice(line));
            self.outbound.check(&self.clients);
            offer
        }

        fn stream(&mut self, key: u32) -> &mut TestStream {
            self.clients.get_mut(ClientKey(key)).unwrap().stream_and_output().0
        }

        /// Lets the socket of a client accept that many more bytes, and flushes.
        fn accept(&mut self, key: u32, bytes: usize) {
            self.stream(key).capacity = bytes;
            self.outbound.on_writable(&mut self.clients, ClientKey(key));
            self.outbound.flush_pending(&mut self.clients, &Budgets::default(), 0);
            self.outbound.check(&self.clients);
        }

        fn offer_to_first(&mut self) -> Result<(), Full> {
            self.offer(Recipients::One(Recipient(0)), 10)
        }

        fn unregister(&mut self, key: u32) {
            assert!(self.outbound.unregister(&mut self.clients, ClientKey(key)));
        }
    }

    #[test]
    fn what_a_disconnected_client_does_not_get_takes_no_room_from_the_others() {
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 160,
            slow_client: SlowClient::Disconnect,
            ..Config::default()
        };
        let mut queues = Queues::new(&config, Instant::now());
        for (key, len) in [(0, 68), (1, 28), (2, 28)] {
            assert_eq!(queues.offer(Recipients::One(Recipient(key)), len), Ok(()));
        }
        assert_eq!(queues.offer(Recipients::Many(&[0, 1, 2]), 38), Ok(()));
        assert_eq!(queues.outbound.queued_total(), 140);
        assert_eq!(queues.outbound.registered().len(), 2, "only the first is over its limit");
        assert_eq!(queues.outbound.take_departed(), [ClientKey(0)]);
    }

    #[test]
    fn a_renewed_pause_keeps_its_low_watermark_and_its_timer() {
        let start = Instant::now();
        let config = Config {
            client_queue_bytes: 100,
            total_queue_bytes: 100,
            stall_timeout: STALL_TIMEOUT,
            ..Config::default()
        };
        let mut queues = Queues::new(&config, start);
        assert_eq!(queues.offer(Recipients::All, 28), Ok(()));
        assert_eq!(queues.outbound.queued_total(), 90);
        assert_eq!(queues.offer_to_first(), Err(Full), "102 bytes are too many");
        assert!(queues.outbound.is_paused() && !queues.outbound.may_accept());
        queues.outbound.flush_pending(&mut queues.clients, &Budgets::default(), 0);

        queues.now = start + STALL_TIMEOUT / 2;
        queues.unregister(2);
        assert!(queues.outbound.may_accept(), "the event may have fewer recipients now");
        assert_eq!(queues.offer_to_first(), Err(Full), "60 bytes are more than half");
        assert!(queues.outbound.is_paused() && !queues.outbound.may_accept());
        assert_eq!(queues.outbound.next_stall_deadline(), Some(start + STALL_TIMEOUT));

        queues.now = start + STALL_TIMEOUT;
        queues.outbound.expire_stalls(&mut queues.clients, queues.now);
        let closed: Vec<u32> =
            queues.clients.take_pending_closes().into_iter().map(|(key, _)| key.0).collect();
        assert_eq!(closed, [0, 1]);

        queues.unregister(1);
        assert_eq!(queues.offer_to_first(), Ok(()), "30 bytes are less than half");
        queues.outbound.on_applied(&mut queues.clients);
        assert!(!queues.outbound.is_paused());
    }

    #[test]
    fn a_client_gets_its_bytes_once_its_socket_accepts_them() {
        let mut queues = Queues::new(&Config::default(), Instant::now());
        assert_eq!(queues.offer(Recipients::All, 8), Ok(()));
        assert_eq!(queues.offer(Recipients::One(Recipient(1)), 3), Ok(()));
        queues.outbound.flush_pending(&mut queues.clients, &Budgets::default(), 0);
        queues.outbound.check(&queues.clients);
        assert_eq!((queues.outbound.queued_total(), queues.outbound.bytes_written()), (35, 0));
        queues.accept(1, 12);
        assert_eq!(queues.stream(1).written, b"xxxxxxxx\r\nxx");
        assert_eq!((queues.outbound.queued_total(), queues.outbound.bytes_written()), (23, 12));
    }

    #[test]
    fn output_beyond_one_staging_buffer_arrives_once_and_in_order() {
        for capacity in [0, 1, 700, 1500, usize::MAX] {
            let mut queues = Queues::new(&Config::default(), Instant::now());
            queues.stream(0).capacity = capacity;
            let mut expected = Vec::new();
            for number in 0..200 {
                let line = format!("line {number}");
                let audience = match number % 3 {
                    0 => Recipients::All,
                    _ => Recipients::Many(&[0, 2]),
                };
                assert_eq!(queues.offer_line(audience, line.as_bytes()), Ok(()));
                expected.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            queues.outbound.flush_pending(&mut queues.clients, &Budgets::default(), 0);
            queues.outbound.check(&queues.clients);
            queues.accept(0, usize::MAX);
            assert!(queues.stream(0).written == expected, "first accepts {capacity} bytes");
        }
    }

    #[test]
    fn all_full_recipients_stall_at_once() {
        let config = Config { client_queue_bytes: 100, ..Config::default() };
        let mut queues = Queues::new(&config, Instant::now());
        assert_eq!(queues.offer(Recipients::All, 88), Ok(()));
        assert_eq!(queues.offer(Recipients::Many(&[0, 1]), 18), Err(Full));
        assert_eq!(
            queues.outbound.backpressure.stalled_clients(),
            2,
            "neither waits for the other"
        );
    }

    #[test]
    fn a_renewed_pause_renews_the_low_watermark_of_each_client() {
        let start = Instant::now();
        let config = Config {
            client_queue_bytes: 1000,
            total_queue_bytes: 100,
            stall_timeout: STALL_TIMEOUT,
            ..Config::default()
        };
        let mut queues = Queues::new(&config, start);
        assert_eq!(queues.offer(Recipients::All, 28), Ok(()));
        let offer_large = |queues: &mut Queues| queues.offer(Recipients::One(Recipient(0)), 78);
        assert_eq!(offer_large(&mut queues), Err(Full), "the total has to fall to 20 bytes");
        queues.outbound.flush_pending(&mut queues.clients, &Budgets::default(), 0);
        queues.unregister(2);
        assert_eq!(offer_large(&mut queues), Err(Full));
        queues.accept(0, 20);
        queues.accept(1, 19);
        queues.outbound.expire_stalls(&mut queues.clients, start + STALL_TIMEOUT);
        let closes = queues.clients.take_pending_closes();
        let closed: Vec<ClientKey> = closes.into_iter().map(|(key, _)| key).collect();
        assert_eq!(closed, [ClientKey(1)], "11 bytes are more than its part, 10 bytes are not");
    }
}
