//! Operators' HTTP in the loop of the server.

use std::borrow::Cow;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mio::Registry;
use time::OffsetDateTime;

use super::StartError;
use super::fd_limit::DescriptorBudget;
use super::process;
use super::restore_thread::Progress;
use super::startup::Port;
use super::tcp::TcpAcceptor;
use crate::admin::histogram::Histograms;
use crate::admin::history::{History, HistoryColumns, Sample};
use crate::admin::status::{
    self, Events, Gap, Graph, MAX_SLOW_CLIENTS, Pause, RecentClose, SCHEMA, SlowClient, State,
    Status, Traffic,
};
use crate::admin::{ADMIN_LISTENER, AdminServer, MAX_CONNECTIONS, Monitored};
use crate::config::Config;
use crate::engine::{StateHash, StreamStatus};
use crate::hub::{ClosedConnection, Details, Hub, NextTurn, Readiness, Side, Stats};

/// The time for which a peer of the admin port may be unreachable. Its requests time out before.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// The admin listener with its connections, and what an answer tells besides the hub's state.
#[derive(Debug)]
pub(super) struct Admin {
    server: AdminServer<TcpAcceptor>,
    address: SocketAddr,
    started: Instant,
    descriptors: DescriptorBudget,
    histograms: Histograms,
    history: History,
}

impl Admin {
    /// Listens for operators on the inherited listener, or on the configured address if there is one.
    pub(super) fn start(
        inherited: Option<TcpListener>,
        config: &Config,
        registry: &Registry,
        descriptor_limit: u64,
    ) -> Result<Option<Admin>, StartError> {
        let address = inherited.as_ref().and_then(|listener| listener.local_addr().ok());
        let Some(address) = address.or(config.admin_listen) else { return Ok(None) };
        let port = Port::reserve("operators", inherited, address)?;
        let (address, acceptor) = port.listen(registry, ADMIN_LISTENER, PEER_TIMEOUT)?;
        let descriptors = DescriptorBudget::measure(descriptor_limit).with_admin(MAX_CONNECTIONS);
        Ok(Some(Admin::new(acceptor, address, descriptors)))
    }

    fn new(acceptor: TcpAcceptor, address: SocketAddr, descriptors: DescriptorBudget) -> Admin {
        let (now, is_loopback) = (Instant::now(), address.ip().is_loopback());
        if !is_loopback {
            log::warn!(
                "operators' HTTP is open to other machines ({address}): whatever reaches this port sees \
                 the settings, and the users with their addresses"
            );
        }
        Admin {
            server: AdminServer::new(acceptor, descriptors.admin as usize, is_loopback),
            address,
            started: now,
            descriptors,
            histograms: Histograms::default(),
            history: History::new(now),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts descriptors again, and limits the connections accordingly.
    pub(super) fn set_descriptors(&mut self, descriptors: DescriptorBudget) {
        self.server.set_max_connections(descriptors.admin as usize);
        self.descriptors = descriptors;
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> usize {
        self.server.open()
    }

    /// Serves connections while the journal is replayed.
    pub(super) fn turn_while_replaying(
        &mut self,
        ready: &[Readiness],
        config: &Config,
        progress: Progress,
    ) {
        let now = Instant::now();
        self.history.record(now, Sample::default);
        let Admin { server, started, descriptors, history, .. } = self;
        let mut view = ReplayView {
            config,
            progress,
            now,
            uptime: now - *started,
            history,
            max_descriptors: descriptors.limit,
            assumed_descriptors: descriptors.open + server.open() as u64,
        };
        server.turn(now, ready, &mut view);
    }

    /// Measures a turn of the hub, which began at `start` with this many events applied, and serves
    /// connections.
    pub(super) fn turn(
        &mut self,
        start: Instant,
        applied_before: u64,
        ready: &[Readiness],
        hub: &mut Hub<TcpAcceptor>,
    ) {
        let now = Instant::now();
        self.histograms.turn_seconds.record(nanos(now - start));
        self.histograms.turn_events.record(hub.applied() - applied_before);
        if let Some(read_at) = hub.take_delivered() {
            self.histograms.delivery_delay_seconds.record(nanos(now - read_at));
        }
        self.history.record(now, || sample(&hub.totals()));
        let Admin { server, started, descriptors, histograms, history, .. } = self;
        let mut view = View {
            hub,
            now,
            uptime: now - *started,
            histograms,
            history,
            max_descriptors: descriptors.limit,
            assumed_descriptors: descriptors.open + (hub.open() + server.open()) as u64,
        };
        server.turn(now, ready, &mut view);
    }

    /// Returns when the next turn has to begin.
    pub(super) fn next_turn(&self) -> NextTurn {
        self.server.next_turn().min(NextTurn::Until(self.history.due()))
    }
}

/// The server as its operators see it while the journal is replayed.
struct ReplayView<'a> {
    config: &'a Config,
    progress: Progress,
    now: Instant,
    uptime: Duration,
    history: &'a History,
    max_descriptors: u64,
    /// Used where the system does not count them.
    assumed_descriptors: u64,
}

impl Monitored for ReplayView<'_> {
    fn utc_now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn unready_reason(&self) -> Option<Cow<'static, str>> {
        Some(self.progress.to_string().into())
    }

    fn history(&self) -> HistoryColumns {
        self.history.columns(self.now)
    }

    fn status(&mut self) -> Status {
        Status {
            schema: SCHEMA,
            server: status::Server {
                version: env!("CARGO_PKG_VERSION"),
                pid: std::process::id(),
                uptime_seconds: self.uptime,
                state: State::Replaying,
                unready_reason: Some(self.progress.to_string()),
            },
            sequence: status::Sequence {
                awaited: self.progress.awaited().unwrap_or(self.config.first_sequence),
                ..status::Sequence::default()
            },
            process: process::measure(self.max_descriptors, self.assumed_descriptors),
            settings: self.config.to_json(),
            ..Status::default()
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The server as its operators see it after a turn.
struct View<'a> {
    hub: &'a Hub<TcpAcceptor>,
    now: Instant,
    uptime: Duration,
    histograms: &'a Histograms,
    history: &'a History,
    max_descriptors: u64,
    /// Used where the system does not count them.
    assumed_descriptors: u64,
}

impl Monitored for View<'_> {
    fn utc_now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn unready_reason(&self) -> Option<Cow<'static, str>> {
        if self.hub.is_draining() {
            return Some(Cow::Borrowed("draining"));
        }
        self.hub.log_problem().map(Into::into)
    }

    fn history(&self) -> HistoryColumns {
        self.history.columns(self.now)
    }

    fn status(&mut self) -> Status {
        let (totals, details) = (self.hub.totals(), self.hub.details());
        Status {
            schema: SCHEMA,
            server: self.server_status(&details),
            sequence: sequence_status(&totals, &details, self.hub.state_hash()),
            stream: self.hub.stream_status().as_ref().map(stream_status),
            events: event_counts(&totals),
            traffic: Traffic {
                lines_queued: totals.lines_queued,
                bytes_read: totals.counters.bytes_read,
                bytes_written: totals.bytes_written,
                queued_bytes: totals.queued_bytes,
            },
            pause: Pause {
                pauses: totals.counters.pauses.count,
                paused_seconds: details.paused,
                current_pause_seconds: details.current_pause,
            },
            clients: status::Clients {
                connected: totals.clients_connected,
                max: details.max_clients,
                accepted: totals.counters.clients_accepted,
                full_queues: details.full_queues,
                closed: totals.closed_clients(),
            },
            sources: status::Sources {
                connected: totals.sources_connected,
                max: details.max_sources,
                accepted: totals.counters.sources_accepted,
                closed: totals.closed_sources(),
            },
            graph: Graph { users: totals.users, follows: details.follows },
            resume: status::Resume {
                resuming: details.resuming,
                started: totals.counters.resumes,
                completed: totals.counters.resumes_completed,
                gaps: totals.counters.resume_gaps,
                lines_replayed: totals.counters.lines_replayed,
                kept_events: details.kept_events,
                kept_bytes: details.kept_bytes,
            },
            accept_errors: totals.counters.accept_errors,
            slow_clients: self.slow_clients(),
            recent_closes: self.recent_closes(),
            process: process::measure(self.max_descriptors, self.assumed_descriptors),
            histograms: *self.histograms,
            settings: details.settings,
        }
    }
}

impl View<'_> {
    fn server_status(&self, details: &Details) -> status::Server {
        status::Server {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: self.uptime,
            state: match details.current_pause {
                _ if self.hub.is_draining() => State::Draining,
                Some(_) => State::Paused,
                None => State::Running,
            },
            unready_reason: self.unready_reason().map(Cow::into_owned),
        }
    }

    fn slow_clients(&self) -> Vec<SlowClient> {
        let slow_client = |client: crate::hub::QueuedClient| SlowClient {
            user: client.user.map(|user| user.0),
            peer: client.peer,
            queued_bytes: client.queued_bytes,
        };
        self.hub.longest_queues(MAX_SLOW_CLIENTS).into_iter().map(slow_client).collect()
    }

    fn recent_closes(&self) -> Vec<RecentClose> {
        let recent_close = |closed: &ClosedConnection| RecentClose {
            side: match closed.side {
                Side::Source => status::Side::Source,
                Side::Client => status::Side::Client,
            },
            user: closed.user.map(|user| user.0),
            peer: closed.peer,
            reason: closed.reason.name(),
            expected: closed.is_expected,
            input: closed.input.as_deref().map(str::to_owned),
            queued_bytes: closed.unwritten_bytes,
            age_seconds: self.now.saturating_duration_since(closed.at),
        };
        self.hub.recent_closes().map(recent_close).collect()
    }
}

fn sample(totals: &Stats) -> Sample {
    Sample {
        applied: totals.engine.applied(),
        lines_queued: totals.lines_queued,
        bytes_written: totals.bytes_written,
    }
}

fn sequence_status(
    totals: &Stats,
    details: &Details,
    state_hash: Option<StateHash>,
) -> status::Sequence {
    status::Sequence {
        awaited: totals.awaited,
        committed: totals
            .awaited
            .checked_sub(1)
            .filter(|_| totals.awaited > details.first_sequence),
        state_hash: state_hash.map(|hash| hash.to_string()),
        buffered_events: totals.buffered_events,
        max_buffered_events: totals.max_buffered_events,
        gap: details.gap.map(|(first_missing, age_seconds)| Gap { first_missing, age_seconds }),
    }
}

fn stream_status(stream: &StreamStatus) -> status::Stream {
    status::Stream {
        position: stream.position,
        end: stream.end,
        lag: stream.end - stream.position,
        trouble: stream.trouble,
        own_entries: stream.own_entries,
        other_entries: stream.other_entries,
        covered_batches: stream.covered_batches,
        repaired_entries: stream.repaired_entries,
        errors: stream.errors,
        retained_bytes: stream.retained_bytes,
    }
}

fn event_counts(totals: &Stats) -> Events {
    let engine = &totals.engine;
    Events {
        applied: engine.applied(),
        follows: engine.follows,
        unfollows: engine.unfollows,
        broadcasts: engine.broadcasts,
        private_messages: engine.private_messages,
        status_updates: engine.status_updates,
        malformed: totals.counters.malformed,
        void: engine.void,
        duplicate: engine.duplicate,
        late: engine.late,
        lost: engine.lost,
        unterminated: totals.counters.unterminated,
    }
}
