//! Registration: the one place where a user's connection enters and leaves the follower graph and
//! the outbound queues.

use log::Level;

use crate::engine::{Engine, Registration};
use crate::hub::clients::{Client, ClientTable};
use crate::hub::close_reason::CloseReason;
use crate::hub::context::Context;
use crate::hub::log_limiter::LogKind;
use crate::hub::log_line::log_line;
use crate::hub::outbound::Outbound;
use crate::hub::resumes::Resumes;
use crate::hub::token::ClientKey;
use crate::hub::transport::Stream;
use crate::protocol::{IdLine, UserId};

/// Registers and unregisters clients in follower graph and outbound queues together.
pub(super) struct Registry<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) outbound: &'a mut Outbound,
    pub(super) resumes: &'a mut Resumes,
    pub(super) cx: &'a mut Context,
}

impl Registry<'_> {
    /// Returns whether the user may be registered: it takes over its own session, or there is
    /// capacity.
    pub(super) fn has_capacity_for(&self, user: UserId) -> bool {
        self.outbound.registered().len() < self.cx.capacity.max_clients
            || self.engine.graph().recipient(user).is_some()
    }

    /// Registers the client as the only connection of its user, taking over from an older one. The
    /// older one gets the lines that its socket accepts.
    pub(super) fn register<S: Stream>(
        &mut self,
        clients: &mut ClientTable<S>,
        key: ClientKey,
        IdLine { user, after }: IdLine,
    ) {
        let Registration { recipient, was_registered } = self.engine.register(user);
        let older = self.outbound.client_at(recipient).or_else(|| self.resumes.client_of(user));
        if was_registered && let Some(older) = older {
            self.outbound.flush_before_close(clients, older);
            self.outbound.unregister(clients, older);
            self.resumes.remove(older);
            clients.schedule_close(older, CloseReason::TakenOver);
        }
        match after {
            None => self.outbound.register(clients, key, recipient),
            Some(sequence) => {
                self.outbound.register_replaying(clients, key);
                self.resumes.start(key, user, sequence);
                self.cx.counters.resumes += 1;
            }
        }
        if let Some(client) = clients.get_mut(key) {
            client.on_registered(user);
            let peer = client.peer();
            self.cx.log(
                LogKind::ClientRegistered,
                Level::Debug,
                log_line!("user {user} connected from {peer}"; user = user, peer = peer),
            );
        }
    }

    /// Unregisters the client, if it is registered: its user is offline, and its queued lines are
    /// not sent.
    pub(super) fn unregister<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        if self.outbound.unregister(clients, key) {
            self.unregister_user_of(clients, key);
        }
    }

    /// Unregisters the users of clients that were disconnected for their queues while events were
    /// applied.
    pub(super) fn unregister_departed<S>(&mut self, clients: &ClientTable<S>) {
        for key in self.outbound.take_departed() {
            self.unregister_user_of(clients, key);
        }
    }

    fn unregister_user_of<S>(&mut self, clients: &ClientTable<S>, key: ClientKey) {
        self.resumes.remove(key);
        if let Some(user) = clients.get(key).and_then(Client::user) {
            self.engine.unregister(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::Config;
    use crate::hub::capacity::Capacity;
    use crate::hub::test_stream::TestStream;
    use crate::protocol::Sequence;

    /// A registry for at most one client, and the table.
    struct Parts {
        engine: Engine,
        outbound: Outbound,
        resumes: Resumes,
        cx: Context,
        clients: ClientTable<TestStream>,
    }

    impl Parts {
        fn new() -> Parts {
            let config = Config::default();
            Parts {
                engine: Engine::new(Sequence::new(1).unwrap(), config.reorder_window),
                outbound: Outbound::new(&config),
                resumes: Resumes::new(Duration::ZERO),
                cx: Context::new(config, Capacity::for_clients(1), Instant::now()),
                clients: ClientTable::new(),
            }
        }

        fn connect(&mut self) -> ClientKey {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            self.clients.insert(TestStream::default(), peer, self.cx.now)
        }

        fn split(&mut self) -> (Registry<'_>, &mut ClientTable<TestStream>) {
            let Parts { engine, outbound, resumes, cx, clients } = self;
            (Registry { engine, outbound, resumes, cx }, clients)
        }
    }

    const USER: UserId = UserId(7);
    const LIVE: IdLine = IdLine { user: USER, after: None };

    #[test]
    fn a_newer_connection_takes_over_and_the_older_one_is_closed() {
        let mut parts = Parts::new();
        let (older, newer) = (parts.connect(), parts.connect());
        let (mut registry, clients) = parts.split();
        registry.register(clients, older, LIVE);
        assert!(!registry.has_capacity_for(UserId(8)) && registry.has_capacity_for(USER));
        registry.register(clients, newer, LIVE);
        assert_eq!(registry.outbound.registered(), [newer]);
        let closes = clients.take_pending_closes();
        assert_eq!((closes[0].0, closes[0].1.reason), (older, CloseReason::TakenOver));
        registry.unregister(clients, older);
        assert!(registry.engine.graph().recipient(USER).is_some(), "the newer one stays");
        registry.unregister(clients, newer);
        assert!(registry.engine.graph().recipient(USER).is_none());
        assert!(registry.outbound.registered().is_empty() && registry.has_capacity_for(USER));
    }
}
