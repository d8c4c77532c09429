//! The state of a pause for slow clients. An event that does not fit pauses applying until queues fall below
//! their low watermark or the clients in the way are closed.
//!
//! [`Delivery`](super::delivery::Delivery) decides on a pause. The hub's reading of sources and the applier
//! obey it.

use std::time::Instant;

use super::output::ClientOutput;
use crate::config::{Config, SlowClient};
use crate::hub::outbound::block_pool::BlockPool;
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::ClientKey;

/// The cause of a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallCause {
    /// An event did not fit the queue of the client: applying waits for this client.
    OwnQueue,
    /// All queues together are full, and the client has bytes queued.
    TotalQueue,
}

/// A queue that has to fall to its low watermark within the stall timeout.
#[derive(Debug)]
pub(super) struct Stall {
    since: Instant,
    /// The stall ends when the queue has at most this many bytes.
    low_watermark: u64,
    cause: StallCause,
}

/// The limits of the queues, and the pause while an event waits for them.
///
/// A pause has two causes. Clients may be stalled for their own queue; it lasts while any is. All
/// queues together may be full; it lasts until their sum falls to the low watermark.
#[derive(Debug)]
pub(super) struct Backpressure {
    client_limit: u64,
    total_limit: u64,
    slow_client: SlowClient,
    /// Running stalls, by client and start time. An entry is stale once its stall has ended.
    stalls: TimeoutQueue<(ClientKey, Instant)>,
    /// The number of clients stalled for their own queue.
    stalled_clients: usize,
    /// Applying is paused until all queues together have at most this many bytes.
    total_low_watermark: Option<u64>,
    /// Whether a client was unregistered since the low watermark was set, so that the waiting event
    /// may have fewer recipients now.
    is_watermark_stale: bool,
}

impl Backpressure {
    pub(super) fn new(config: &Config) -> Backpressure {
        Backpressure {
            client_limit: config.client_queue_bytes,
            total_limit: total_limit(config),
            slow_client: config.slow_client,
            stalls: TimeoutQueue::new(config.stall_timeout),
            stalled_clients: 0,
            total_low_watermark: None,
            is_watermark_stale: false,
        }
    }

    /// Changes the settings. Returns whether the limits or the reaction to a full queue have changed:
    /// then the caller ends all stalls and pauses, so that the event that waits is tried again.
    #[must_use]
    pub(super) fn reconfigure(&mut self, config: &Config) -> bool {
        let before = (self.client_limit, self.total_limit, self.slow_client);
        self.client_limit = config.client_queue_bytes;
        self.total_limit = total_limit(config);
        self.slow_client = config.slow_client;
        self.stalls.set_timeout(config.stall_timeout);
        before != (self.client_limit, self.total_limit, self.slow_client)
    }

    /// Returns the maximum number of bytes queued for one client.
    #[inline]
    pub(super) fn client_limit(&self) -> u64 {
        self.client_limit
    }

    /// Returns the maximum number of bytes queued for all clients together.
    pub(super) fn total_limit(&self) -> u64 {
        self.total_limit
    }

    /// Returns whether clients with full queues are disconnected, instead of pausing.
    pub(super) fn disconnects(&self) -> bool {
        self.slow_client == SlowClient::Disconnect
    }

    /// Returns whether a queue of at most `queued` bytes and all queues together fit the limits,
    /// and no pause for the total limit is running.
    #[inline]
    pub(super) fn allows(&self, queued: u64, queued_total: u64) -> bool {
        self.total_low_watermark.is_none()
            && queued <= self.client_limit
            && queued_total <= self.total_limit
    }

    /// Returns whether applying is paused until queues fall.
    pub(super) fn is_paused(&self) -> bool {
        self.stalled_clients > 0 || self.is_total_paused()
    }

    /// Returns whether applying is paused for the total limit.
    #[inline]
    pub(super) fn is_total_paused(&self) -> bool {
        self.total_low_watermark.is_some()
    }

    /// Returns whether offering an event can succeed.
    #[inline]
    pub(super) fn may_accept(&self) -> bool {
        self.stalled_clients == 0 && (!self.is_total_paused() || self.is_watermark_stale)
    }

    /// Returns how many clients are stalled for their own queue.
    pub(super) fn stalled_clients(&self) -> usize {
        self.stalled_clients
    }

    /// Returns how many bytes may be queued in total before `size` more. A pause that is already
    /// running lasts until the low watermark for this size.
    pub(super) fn max_total_before(&self, size: u64) -> u64 {
        match self.is_total_paused() {
            true => low_watermark(self.total_limit, size),
            false => self.total_limit.saturating_sub(size),
        }
    }

    /// Begins or renews a pause in which `size` bytes wait for the total limit. Returns the low
    /// watermark.
    pub(super) fn pause_for_total(&mut self, size: u64) -> u64 {
        self.is_watermark_stale = false;
        *self.total_low_watermark.insert(low_watermark(self.total_limit, size))
    }

    /// Records that a client was unregistered: the waiting event may have fewer recipients.
    pub(super) fn on_unregister(&mut self) {
        self.is_watermark_stale = self.is_total_paused();
    }

    /// Returns whether a pause for the total limit ends at `queued_total` bytes.
    #[inline]
    pub(super) fn is_total_pause_over(&self, queued_total: u64) -> bool {
        self.total_low_watermark.is_some_and(|low_watermark| queued_total <= low_watermark)
    }

    /// Ends a pause for the total limit. The caller ends the stalls with this cause.
    pub(super) fn end_total_pause(&mut self) {
        self.total_low_watermark = None;
        self.is_watermark_stale = false;
    }

    /// Starts a stall of a client to whose queue `size` bytes do not fit.
    pub(super) fn stall_for_own_queue(
        &mut self,
        key: ClientKey,
        output: &mut ClientOutput,
        size: u64,
        now: Instant,
    ) {
        debug_assert!(output.stall().is_none(), "nothing is applied during a stall");
        let low_watermark = low_watermark(self.client_limit, size);
        self.start_stall(key, output, StallCause::OwnQueue, low_watermark, now);
        self.stalled_clients += 1;
    }

    /// Sets the low watermark of a client with bytes queued while the total limit is reached. A
    /// running stall timer is not restarted.
    pub(super) fn stall_for_total_limit(
        &mut self,
        key: ClientKey,
        output: &mut ClientOutput,
        low_watermark: u64,
        now: Instant,
    ) {
        match output.stall_mut() {
            Some(stall) => stall.low_watermark = low_watermark,
            None => self.start_stall(key, output, StallCause::TotalQueue, low_watermark, now),
        }
    }

    fn start_stall(
        &mut self,
        key: ClientKey,
        output: &mut ClientOutput,
        cause: StallCause,
        low_watermark: u64,
        now: Instant,
    ) {
        output.set_stall(Stall { since: now, low_watermark, cause });
        self.stalls.push(now, (key, now));
    }

    /// Ends the stall of a client, if there is one.
    pub(super) fn end_stall(&mut self, output: &mut ClientOutput) {
        if output.take_stall().is_some_and(|stall| stall.cause == StallCause::OwnQueue) {
            self.stalled_clients -= 1;
        }
    }

    /// Returns and forgets the clients whose stall timeout has expired. `output` finds the output
    /// of a client.
    pub(super) fn take_expired<'a>(
        &mut self,
        now: Instant,
        output: impl Fn(ClientKey) -> Option<&'a ClientOutput>,
    ) -> Vec<ClientKey> {
        let is_stale = |&(key, since): &(ClientKey, Instant)| {
            !output(key).is_some_and(|output| output.is_stalled_since(since))
        };
        self.stalls.take_expired(now, is_stale).into_iter().map(|(key, _)| key).collect()
    }

    /// Returns when the next stall timeout may expire, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.stalls.next_deadline()
    }
}

impl ClientOutput {
    fn is_stalled_since(&self, since: Instant) -> bool {
        self.stall().is_some_and(|stall| stall.since == since)
    }

    /// Returns whether the client is stalled for its own queue.
    pub(super) fn is_stalled_for_own_queue(&self) -> bool {
        self.has_stall(StallCause::OwnQueue)
    }

    /// Returns whether the client is stalled because all queues together are full.
    pub(super) fn is_stalled_for_total_limit(&self) -> bool {
        self.has_stall(StallCause::TotalQueue)
    }

    fn has_stall(&self, cause: StallCause) -> bool {
        self.stall().is_some_and(|stall| stall.cause == cause)
    }

    /// Returns whether the queue has fallen to the low watermark of its stall.
    #[inline]
    pub(super) fn is_stall_over(&self) -> bool {
        self.stall().is_some_and(|stall| self.unsent_bytes() as u64 <= stall.low_watermark)
    }
}

/// Returns the maximum number of bytes queued for all clients together.
fn total_limit(config: &Config) -> u64 {
    config.total_queue_bytes.min(BlockPool::MAX_QUEUED_BYTES)
}

/// Returns the low watermark of a queue that cannot take `size` more bytes: half its limit, or less
/// if the line would not fit then.
fn low_watermark(limit: u64, size: u64) -> u64 {
    (limit / 2).min(limit.saturating_sub(size))
}

/// Returns the low watermark of a queue of `queued` bytes when all queues together have to fall
/// from `total` to `total_low_watermark`: half of the queue, or its proportional share if that is
/// less.
pub(super) fn client_low_watermark(queued: u64, total_low_watermark: u64, total: u64) -> u64 {
    let in_proportion =
        u128::from(queued) * u128::from(total_low_watermark) / u128::from(total.max(1));
    // At most `queued`, because the low watermark is below the total.
    (in_proportion as u64).min(queued / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STALL_TIMEOUT: Duration = Duration::from_secs(1);
    const KEY: ClientKey = ClientKey(7);

    fn backpressure() -> Backpressure {
        Backpressure::new(&Config {
            client_queue_bytes: 100,
            total_queue_bytes: 1000,
            stall_timeout: STALL_TIMEOUT,
            ..Config::default()
        })
    }

    #[test]
    fn a_client_stalled_for_its_own_queue_pauses_until_its_stall_ends() {
        let now = Instant::now();
        let (mut backpressure, mut output) = (backpressure(), ClientOutput::default());
        assert!(backpressure.allows(100, 1000) && backpressure.may_accept());
        backpressure.stall_for_own_queue(KEY, &mut output, 60, now);
        assert!(backpressure.is_paused() && !backpressure.may_accept());
        assert_eq!(backpressure.stalled_clients(), 1);
        assert!(output.is_stall_over(), "an empty queue is below any low watermark");
        backpressure.end_stall(&mut output);
        backpressure.end_stall(&mut output);
        assert!(!backpressure.is_paused() && backpressure.may_accept());
    }

    #[test]
    fn a_pause_for_the_total_limit_ends_at_half_of_it_or_where_the_line_fits() {
        for (size, low_watermark) in [(10, 500), (700, 300), (2000, 0)] {
            let mut backpressure = backpressure();
            assert_eq!(backpressure.max_total_before(size), 1000_u64.saturating_sub(size));
            assert_eq!(backpressure.pause_for_total(size), low_watermark);
            assert_eq!(backpressure.max_total_before(size), low_watermark);
            assert!(!backpressure.is_total_pause_over(low_watermark + 1));
            assert!(backpressure.is_total_pause_over(low_watermark));
            backpressure.end_total_pause();
            assert!(!backpressure.is_paused());
        }
    }

    #[test]
    fn a_renewed_pause_ends_where_the_smaller_size_fits() {
        let mut backpressure = backpressure();
        assert_eq!(backpressure.pause_for_total(700), 300);
        backpressure.on_unregister();
        assert_eq!(backpressure.pause_for_total(600), 400);
        assert!(backpressure.is_total_pause_over(400) && !backpressure.is_total_pause_over(401));
    }

    #[test]
    fn an_event_is_offered_again_once_a_client_has_left() {
        let mut backpressure = backpressure();
        backpressure.on_unregister();
        backpressure.pause_for_total(10);
        assert!(!backpressure.may_accept());
        backpressure.on_unregister();
        assert!(backpressure.is_paused() && backpressure.may_accept());
        assert!(!backpressure.allows(0, 0), "the low watermark still has to be checked");
    }

    #[test]
    fn a_stall_expires_unless_it_has_ended() {
        let now = Instant::now();
        let (mut backpressure, mut output) = (backpressure(), ClientOutput::default());
        let expired = |backpressure: &mut Backpressure, output: &ClientOutput, now| {
            backpressure.take_expired(now, |_| Some(output))
        };
        backpressure.stall_for_total_limit(KEY, &mut output, 10, now);
        assert_eq!(backpressure.next_deadline(), Some(now + STALL_TIMEOUT));
        assert!(expired(&mut backpressure, &output, now).is_empty());
        assert_eq!(expired(&mut backpressure, &output, now + STALL_TIMEOUT), [KEY]);
        backpressure.end_stall(&mut output);
        backpressure.stall_for_total_limit(KEY, &mut output, 10, now);
        backpressure.end_stall(&mut output);
        assert!(expired(&mut backpressure, &output, now + STALL_TIMEOUT).is_empty());
        assert_eq!(backpressure.next_deadline(), None);
    }

    #[test]
    fn each_queue_has_to_fall_by_half_or_in_proportion() {
        assert_eq!(client_low_watermark(100, 900, 1000), 50);
        assert_eq!(client_low_watermark(100, 300, 1000), 30);
        assert_eq!(client_low_watermark(u64::MAX / 2, 1, u64::MAX), 0);
        assert_eq!(client_low_watermark(0, 0, 0), 0);
    }
}
