//! Operators' HTTP in the loop of the server.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::process;
use super::tcp::TcpAcceptor;
use crate::admin::histogram::Histograms;
use crate::admin::status::{Server, Status};
use crate::admin::{AdminServer, Monitored};
use crate::hub::{Hub, NextTurn, Readiness};

/// The time for which a peer of the admin port may be unreachable. Its requests time out before.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// The admin listener with its connections, and what an answer tells besides the hub's state.
#[derive(Debug)]
pub(super) struct Admin {
    server: AdminServer<TcpAcceptor>,
    address: SocketAddr,
    facts: Facts,
}

/// What is known of the process and its loop.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) started: Instant,
    /// The settings in force.
    pub(super) settings: Map<String, Value>,
    pub(super) max_descriptors: u64,
    /// The number of descriptors that were open before the first connection.
    pub(super) open_at_start: u64,
    pub(super) histograms: Histograms,
}

impl Admin {
    pub(super) fn new(
        acceptor: TcpAcceptor,
        address: SocketAddr,
        max_connections: usize,
        facts: Facts,
    ) -> Admin {
        let is_loopback = address.ip().is_loopback();
        if !is_loopback {
            log::warn!(
                "operators' HTTP is open to other machines ({address}): whatever reaches this port sees \
                 settings, users and their addresses"
            );
        }
        Admin { server: AdminServer::new(acceptor, max_connections, is_loopback), address, facts }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Records a turn of the hub that began at `start`, and answers requests.
    pub(super) fn turn(
        &mut self,
        start: Instant,
        applied: u64,
        ready: &[Readiness],
        hub: &mut Hub<TcpAcceptor>,
    ) {
        let now = Instant::now();
        let Admin { server, facts, .. } = self;
        let histograms = &mut facts.histograms;
        histograms.turn_seconds.record(nanos(now - start));
        histograms.turn_events.record(applied);
        if let Some(read_at) = hub.take_delivery_sample() {
            histograms.delivery_delay_seconds.record(nanos(now - read_at));
        }
        let open = server.open();
        server.turn(now, ready, &mut View { hub, facts, open, now });
    }

    /// Returns when the next turn has to begin.
    pub(super) fn next_turn(&self) -> NextTurn {
        self.server.next_turn()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The server as its operators see it.
struct View<'a> {
    hub: &'a Hub<TcpAcceptor>,
    facts: &'a Facts,
    /// The number of admin connections.
    open: usize,
    now: Instant,
}

impl Monitored for View<'_> {
    fn utc_now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn unready_reason(&self) -> Option<Cow<'static, str>> {
        self.hub.is_draining().then_some(Cow::Borrowed("draining"))
    }

    fn status(&mut self) -> Status {
        let facts = self.facts;
        let assumed = facts.open_at_start + (self.hub.open() + self.open) as u64;
        Status {
            server: Server {
                version: env!("CARGO_PKG_VERSION"),
                pid: std::process::id(),
                uptime_seconds: self.now.duration_since(facts.started),
                state: self.hub.state(),
                unready_reason: self.unready_reason().map(Cow::into_owned),
            },
            process: process::measure(facts.max_descriptors, assumed),
            histograms: facts.histograms,
            settings: facts.settings.clone(),
            ..self.hub.status(self.now)
        }
    }
}
