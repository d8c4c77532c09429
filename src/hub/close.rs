//! Closing connections, and the identification timeout.

use std::io::{self, ErrorKind};
use std::time::Instant;

use log::Level;

use super::Hub;
use crate::hub::clients::client::{Client, ClientState};
use crate::hub::close_reason::CloseReason;
use crate::hub::log_limiter::{CausedBy, LogKind};
use crate::hub::token::ClientKey;
use crate::hub::transport::Acceptor;

impl<A: Acceptor> Hub<A> {
    /// Closes clients whose identification timeout has expired.
    pub(super) fn expire_handshakes(&mut self) {
        let outbound = &self.outbound;
        let is_stale = |&(key, since): &(ClientKey, Instant)| {
            !outbound.client(key).is_some_and(|client| client.is_awaiting_id_since(since))
        };
        let mut expired = Vec::new();
        while let Some(entry) = self.identify_timeouts.pop_expired(self.now, is_stale) {
            if !is_stale(&entry) {
                expired.push(entry.0);
            }
        }
        for key in expired {
            self.outbound.schedule_close(key, CloseReason::IdentifyTimeout, None);
        }
    }

    /// Closes all connections whose close is pending.
    pub(super) fn close_pending(&mut self) {
        self.close_ended_sources();
        self.decide_on_sources();
        self.close_clients();
        self.expire_lingering();
    }

    /// Closes the clients whose close is pending. No key is freed before all readiness of the turn
    /// is applied, so that stale readiness cannot reach a new client with the same key.
    pub(super) fn close_clients(&mut self) {
        for user in self.outbound.take_departed() {
            self.engine.unregister(user);
        }
        for (key, reason, error) in self.outbound.take_pending_closes() {
            self.close_client(key, reason, error);
        }
    }

    fn close_client(&mut self, key: ClientKey, reason: CloseReason, error: Option<io::Error>) {
        if let Some(user) = self.outbound.unregister(key) {
            self.engine.unregister(user);
        }
        let Some(mut client) = self.outbound.clients.take(key) else { return };
        self.counters.clients_closed.count(reason);
        self.open_clients -= 1;
        self.ip_limiter.release(client.peer.ip().to_canonical());
        let is_expected = reason.is_expected() || is_probe(&client, error.as_ref());
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
            Some(user) => self.log(
                LogKind::ClientClosed(reason),
                level,
                format_args!(
                    "user {user} at {peer} closed: {reason}{}, {queued} bytes queued",
                    CausedBy(error)
                ),
            ),
            None => self.log(
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

/// Returns whether the connection was reset before it sent any bytes, as health checks do.
fn is_probe<S>(client: &Client<S>, error: Option<&io::Error>) -> bool {
    let is_reset = error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset);
    let has_sent_nothing = match &client.state {
        ClientState::AwaitingId(handshake) => handshake.lines.pending_bytes() == 0,
        ClientState::Registered { .. } | ClientState::Closing { .. } => false,
    };
    is_reset && has_sent_nothing
}
