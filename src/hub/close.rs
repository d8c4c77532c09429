//! Ends: timeouts, the drain of a stop, closing.

use std::io::{self, ErrorKind};
use std::time::Instant;

use log::Level;

use super::Hub;
use crate::hub::clients::client::{Client, ClientState};
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::Disconnect;
use crate::hub::log_limiter::{CausedBy, LogKind};
use crate::hub::token::ClientKey;
use crate::hub::transport::Acceptor;

impl<A: Acceptor> Hub<A> {
    /// Gives up the clients that have not said who they are in time.
    pub(super) fn expire_handshakes(&mut self) {
        let connections = &self.outbound;
        let has_identified = |&(key, since): &(ClientKey, Instant)| {
            !connections.client(key).is_some_and(|client| client.is_awaiting_id_since(since))
        };
        let mut expired = Vec::new();
        while let Some(entry) = self.identify_timeouts.pop_expired(self.now, has_identified) {
            if !has_identified(&entry) {
                expired.push(entry.0);
            }
        }
        for key in expired {
            self.outbound.schedule_close(key, CloseReason::IdentifyTimeout, None);
        }
    }

    /// Gives up who has not taken its bytes in time, now that this turn has tried once more, and goes on
    /// with a drain.
    pub(super) fn expire(&mut self) {
        self.outbound.expire_stalls();
        self.log_limiter.report_suppressed(self.now);
        if let Some(deadline) = self.drain_deadline {
            self.drain(deadline);
        }
    }

    /// Closes what a stop waits for no longer.
    pub(super) fn drain(&mut self, deadline: Instant) {
        let is_over = self.now >= deadline;
        let is_applied =
            !self.engine.has_ready() && !self.sources.iter().any(|source| source.may_have_lines);
        if !is_over && !is_applied {
            return;
        }
        if !is_applied {
            log::warn!("the drain timeout is over before all that was read could be applied");
        }
        if self.engine.has_gap() && self.sources.open() > 0 {
            log::warn!(
                "{} events behind the missing sequence {} are not delivered",
                self.engine.reorder().len(),
                self.engine.awaited()
            );
        }
        for key in self.sources.keys() {
            let end = self.sources.get_mut(key).and_then(|source| source.end.take());
            let stopped = Disconnect { reason: CloseReason::Stopped, error: None };
            self.close_source(key, end.unwrap_or(stopped));
        }
        let registered = self.outbound.registered();
        let done: Vec<(ClientKey, CloseReason)> = registered
            .iter()
            .filter_map(|&key| match self.outbound.client(key)?.send_queue.is_empty() {
                true => Some((key, CloseReason::Stopped)),
                false => is_over.then_some((key, CloseReason::DrainTimeout)),
            })
            .collect();
        for (key, reason) in done {
            self.outbound.schedule_close(key, reason, None);
        }
    }

    /// Closes what is to be closed.
    pub(super) fn close(&mut self) {
        self.close_ended_sources();
        self.decide_on_sources();
        self.close_clients();
        self.expire_lingering();
    }

    /// Closes the clients that are to be closed. Nothing is freed before all readiness of the turn is
    /// noted, so that none of it can reach a new tenant of the same key.
    pub(super) fn close_clients(&mut self) {
        for user in self.outbound.take_departed() {
            self.engine.unregister(user);
        }
        for (key, reason, error) in self.outbound.take_pending_closes() {
            self.close_client(key, reason, error);
        }
    }

    fn close_client(&mut self, key: ClientKey, reason: CloseReason, error: Option<io::Error>) {
        if let Some(user) = self.outbound.leave(key) {
            self.engine.unregister(user);
        }
        let Some(mut client) = self.outbound.clients.take(key) else { return };
        self.counters.clients_closed.count(reason);
        self.open_clients -= 1;
        self.ip_limiter.depart(client.peer.ip().to_canonical());
        let is_expected = reason.is_expected() || is_mere_probe(&client, error.as_ref());
        let level = if is_expected { Level::Info } else { Level::Warn };
        let queued = client.dropped_bytes + client.send_queue.len() as u64;
        self.outbound.release(&mut client.send_queue);
        let peer = client.peer;
        let user = client.user();
        let may_linger = user.is_some() && error.is_none() && !client.is_read_to_end;
        match may_linger {
            true => self.linger(key, client.stream),
            false => self.outbound.clients.remove(key),
        }
        match user {
            Some(user) => self.say(
                LogKind::ClientClosed(reason),
                level,
                format_args!(
                    "user {user} at {peer} closed: {reason}{}, {queued} bytes queued",
                    CausedBy(error)
                ),
            ),
            None => self.say(
                LogKind::ClientClosed(reason),
                level,
                format_args!(
                    "client {peer} closed before identifying: {reason}{}",
                    CausedBy(error)
                ),
            ),
        }
    }
}

/// Returns whether the connection was reset before it had sent anything, as health checks do.
fn is_mere_probe<S>(client: &Client<S>, error: Option<&io::Error>) -> bool {
    let is_reset = error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset);
    is_reset
        && matches!(&client.state, ClientState::AwaitingId(id_line) if id_line.lines.pending_bytes() == 0)
}
