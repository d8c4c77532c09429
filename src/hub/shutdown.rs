//! The graceful shutdown: applies and delivers what was read, until a deadline.

use std::time::{Duration, Instant};

use super::Hub;
use crate::hub::clients::client::{Client, ClientState};
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::Disconnect;
use crate::hub::token::ClientKey;
use crate::hub::transport::Acceptor;

/// A shutdown in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shutdown {
    deadline: Instant,
}

impl Shutdown {
    fn new(now: Instant, drain_timeout: Duration) -> Shutdown {
        Shutdown { deadline: now + drain_timeout }
    }

    /// Returns when the drain timeout expires.
    pub(super) fn deadline(self) -> Instant {
        self.deadline
    }

    /// Returns whether the drain timeout has expired.
    pub(super) fn has_expired(self, now: Instant) -> bool {
        now >= self.deadline
    }
}

impl<A: Acceptor> Hub<A> {
    /// Closes the listeners and stops reading. What was read is applied and delivered in the
    /// following turns, until [`is_stopped`](Self::is_stopped) or the drain timeout.
    ///
    /// Readiness that was reported before may refer to connections that are closed here. It is
    /// ignored, because no new connection reuses their keys.
    pub fn stop(&mut self, now: Instant) {
        if self.is_draining() {
            return;
        }
        self.now = now;
        self.shutdown = Some(Shutdown::new(now, self.config.drain_timeout));
        self.source_listener = None;
        self.client_listener = None;
        self.close_unidentified_clients();
        // Clients with an empty queue will not become ready, so they are closed now.
        self.advance_shutdown();
        self.close_pending();
    }

    /// Returns whether a shutdown is in progress.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Returns whether the shutdown is complete.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_draining() && self.sources.open() == 0 && self.outbound.clients.is_empty()
    }

    /// Returns whether the drain timeout of a shutdown has expired.
    pub(super) fn is_drain_expired(&self) -> bool {
        self.shutdown.is_some_and(|shutdown| shutdown.has_expired(self.now))
    }

    /// Closes connections that the shutdown, if any, no longer waits for.
    pub(super) fn advance_shutdown(&mut self) {
        if !self.is_draining() {
            return;
        }
        let is_expired = self.is_drain_expired();
        let is_applied =
            !self.engine.has_ready() && !self.sources.iter().any(|source| source.may_have_lines);
        if !is_expired && !is_applied {
            return;
        }
        if !is_applied {
            log::warn!("drain timeout expired before all input was applied");
        }
        if self.engine.has_gap() && self.sources.open() > 0 {
            log::warn!(
                "{} events after missing sequence {} are not delivered",
                self.engine.reorder().len(),
                self.engine.awaited()
            );
        }
        self.close_all_sources();
        self.close_drained_clients(is_expired);
    }

    fn close_unidentified_clients(&mut self) {
        let is_awaiting_id =
            |client: &Client<_>| matches!(client.state, ClientState::AwaitingId(_));
        let clients = self.outbound.clients.iter().filter(|(_, client)| is_awaiting_id(client));
        let unidentified: Vec<ClientKey> = clients.map(|(key, _)| key).collect();
        for key in unidentified {
            self.outbound.schedule_close(key, CloseReason::Stopped, None);
        }
    }

    fn close_all_sources(&mut self) {
        for key in self.sources.keys() {
            let end = self.sources.get_mut(key).and_then(|source| source.end.take());
            let stopped = Disconnect { reason: CloseReason::Stopped, error: None };
            self.close_source(key, end.unwrap_or(stopped));
        }
    }

    /// Closes the registered clients whose queue is empty, and all others once the drain
    /// timeout has expired.
    fn close_drained_clients(&mut self, is_expired: bool) {
        let registered = self.outbound.registered();
        let done: Vec<(ClientKey, CloseReason)> = registered
            .iter()
            .filter_map(|&key| match self.outbound.client(key)?.send_queue.is_empty() {
                true => Some((key, CloseReason::Stopped)),
                false => is_expired.then_some((key, CloseReason::DrainTimeout)),
            })
            .collect();
        for (key, reason) in done {
            self.outbound.schedule_close(key, reason, None);
        }
    }
}
