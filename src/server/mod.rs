//! The I/O shell: polling, listeners, signals, reload, the service manager, the descriptor limit, and capture
//! files.

mod activation;
mod admin;
mod capture;
mod fd_limit;
mod journal;
mod process;
mod reload;
mod restore_thread;
mod service_manager;
mod signals;
mod start_error;
mod startup;
#[cfg(feature = "cluster")]
mod stream;
mod tcp;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

pub use activation::{ActivationError, InheritedListeners};

use admin::Admin;
use capture::Capture;
use fd_limit::DescriptorBudget;
pub use journal::{JournalError, ToolError, run_tool as run_journal_tool};
use reload::Reloader;
use restore_thread::{OpenLog, RestoreThread};
use service_manager::ServiceManager;
use signals::{Request, SignalThread};
use start_error::ListenHint;
use startup::{Port, Startup};
#[cfg(feature = "cluster")]
pub use stream::StreamError;
use tcp::TcpAcceptor;

use crate::admin::{MAX_CONNECTIONS, is_admin_token};
use crate::config::{Config, ConfigSource, Reloaded};
use crate::hub::{CLIENT_LISTENER, Capacity, EVENT_LISTENER, Hub, NextTurn, Readiness};
use crate::logging;

/// The token of the waker, which all helper threads share, because a poll has only one.
const WAKER: Token = Token(usize::MAX - 3);

/// The maximum number of readiness events per poll.
const EVENTS_PER_POLL: usize = 1024;

/// The minimum timeout for the last lines of a capture, for short drain timeouts. A working disk needs
/// less.
const MIN_CAPTURE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Listening on an address failed.
    #[error(
        "cannot listen on {address} for {purpose}: {error}{}",
        ListenHint { purpose, address: *address, error }
    )]
    Listen {
        /// The purpose of the listener: "events", "clients" or "operators".
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The capture cannot be started. The error names the file.
    #[error("cannot capture to {0}")]
    Capture(io::Error),
    /// The journal cannot be opened.
    #[error("{0}")]
    Journal(JournalError),
    /// The stream that several servers share cannot be used.
    #[cfg(feature = "cluster")]
    #[error("{0}")]
    Stream(StreamError),
    /// The thread that restores the state has ended without a result.
    #[error("the start ended unexpectedly, see above")]
    Ended,
    /// The poll or the signal handlers cannot be set up.
    #[error("cannot set up the event loop: {0}")]
    Setup(io::Error),
}

impl StartError {
    /// Returns whether the journal is corrupt.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, StartError::Journal(error) if error.is_corruption())
    }
}

/// How the server shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// After SIGINT or SIGTERM and a drain.
    Graceful,
    /// Immediate, after a second signal.
    Forced,
    /// After a drain, because only a new start can go on: the stream was trimmed beyond this server.
    Outrun,
}

/// The poll and its pending signals.
#[derive(Debug)]
struct Poller {
    poll: Poll,
    events: Events,
    /// Readiness of the admin listener and its connections since the last turn.
    admin_ready: Vec<Readiness>,
    /// Whether the poll has reported the waker, so that signals may be pending.
    signal_pending: bool,
}

impl Poller {
    fn new(poll: Poll) -> Poller {
        Poller {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            admin_ready: Vec::new(),
            // Signals may have come during the start.
            signal_pending: true,
        }
    }

    /// Waits for readiness, at most for `timeout`, and appends it to `ready`. Returns whether more events
    /// may be pending.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let mut polled = self.poll.poll(&mut self.events, timeout);
        // After EINTR, poll again without waiting. An empty result would mark every source as drained.
        while polled.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        }
        polled?;
        let mut reported = 0;
        for event in &self.events {
            reported += 1;
            match event.token() {
                // Or the journal has committed something, which the hub looks for in each turn.
                WAKER => self.signal_pending = true,
                Token(token) if is_admin_token(token) => self.admin_ready.push(readiness(event)),
                Token(_) => ready.push(readiness(event)),
            }
        }
        Ok(reported == EVENTS_PER_POLL)
    }
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        token: event.token().0,
        readable: event.is_readable() || event.is_read_closed() || event.is_error(),
        writable: event.is_writable(),
        read_closed: event.is_read_closed() || event.is_error(),
        urgent: event.is_priority(),
    }
}

/// Sets the size of the send buffer of clients, and warns if the kernel allows less.
fn set_send_buffer(clients: &mut TcpAcceptor, bytes: Option<u64>) {
    clients.set_send_buffer(bytes);
    if let Some(bytes) = bytes
        && let Ok(allowed) = tcp::allowed_send_buffer(bytes)
        && allowed < bytes
    {
        log::warn!(
            "--client-send-buffer-bytes {bytes}: the kernel limits it to {allowed} (net.core.wmem_max)"
        );
    }
}

/// Divides the free descriptors between sources and clients. Lowers `max_sources` if that many do not fit.
fn fit_descriptors(budget: DescriptorBudget, config: &mut Config) -> Capacity {
    let wanted_sources = config.max_sources;
    let max_sources = budget.max_sources(wanted_sources);
    config.max_sources = max_sources;
    let capacity = budget.capacity(max_sources, config.max_clients);
    let Capacity { max_clients, max_awaiting_id } = capacity;
    log::info!(
        "descriptor limit {}, {} open: at most {max_sources} sources, {max_clients} clients, and \
         {max_awaiting_id} more clients that await identification",
        budget.limit,
        budget.open
    );
    if max_sources < wanted_sources {
        log::warn!(
            "--max-sources lowered from {wanted_sources} to {max_sources} to fit the descriptor limit"
        );
    }
    let fitting = budget.capacity(max_sources, None).max_clients;
    if max_clients > fitting {
        log::warn!(
            "--max-clients {max_clients} exceeds the {fitting} that the descriptor limit allows"
        );
    }
    capacity
}

/// The server: one poll on one thread, with open listeners.
pub struct Server {
    poller: Poller,
    signals: SignalThread,
    service_manager: ServiceManager,
    reloader: Reloader,
    hub: Hub<TcpAcceptor>,
    /// The settings in force, as they were given.
    config: Config,
    /// The descriptors at the start, without connections.
    descriptors: DescriptorBudget,
    event_address: SocketAddr,
    client_address: SocketAddr,
    admin: Option<Admin>,
    /// Whether the server drains because only a new start can go on.
    is_outrun: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("event_address", &self.event_address)
            .field("client_address", &self.client_address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Installs the signal handlers, restores the state from the journal or the stream, if there is one, and
    /// opens the listeners, except `inherited` ones. `source` is where a reload reads the settings.
    ///
    /// Operators are served from the start. Returns `None` if a signal asked to stop before the state was
    /// restored.
    ///
    /// # Errors
    ///
    /// An address is not available, the capture cannot be started, or the setup of the poll fails.
    pub fn bind(
        config: Config,
        source: ConfigSource,
        inherited: InheritedListeners,
    ) -> Result<Option<Server>, StartError> {
        let descriptor_limit = fd_limit::raise_fd_limit();
        let poll = Poll::new().map_err(StartError::Setup)?;
        // Before anything that may block, so that a second signal ends the process during the start, too.
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(StartError::Setup)?);
        let signals = SignalThread::start(Arc::clone(&waker)).map_err(StartError::Setup)?;
        let mut poller = Poller::new(poll);
        let service_manager = ServiceManager::from_environment(Instant::now());
        let InheritedListeners { events, clients, admin } = inherited;
        // Before a recovery, which may take long, so that a port in use is noticed at once.
        let events = Port::reserve("events", events, config.event_listen)?;
        let clients = Port::reserve("clients", clients, config.client_listen)?;
        let mut admin = Admin::start(admin, &config, poller.poll.registry(), descriptor_limit)?;
        let restoring = RestoreThread::start(&config, Arc::clone(&waker));
        let log = match restoring.map_err(StartError::Setup)? {
            Some(restoring) => {
                let startup = Startup {
                    poller: &mut poller,
                    signals: &signals,
                    service_manager: &service_manager,
                    admin: admin.as_mut(),
                    config: &config,
                };
                match startup.wait_for(&restoring)? {
                    Some(log) => Some(log),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        // Before the listeners, so that a server that cannot capture accepts no connection.
        let capture = config.capture.as_deref().map(Capture::start).transpose();
        let capture = capture.map_err(StartError::Capture)?;
        let (registry, peer_timeout) = (poller.poll.registry(), config.peer_timeout);
        let (event_address, sources) = events.listen(registry, EVENT_LISTENER, peer_timeout)?;
        let (client_address, mut clients) =
            clients.listen(registry, CLIENT_LISTENER, peer_timeout)?;
        set_send_buffer(&mut clients, config.client_send_buffer_bytes);
        let mut descriptors = DescriptorBudget::measure(descriptor_limit);
        if let Some(admin) = &mut admin {
            descriptors = descriptors.without_open(admin.open()).with_admin(MAX_CONNECTIONS);
            admin.set_descriptors(descriptors);
        }
        let mut fitted = config.clone();
        let capacity = fit_descriptors(descriptors, &mut fitted);
        let mut hub = Hub::new(fitted, capacity, sources, clients, Instant::now());
        hub = match log {
            Some(OpenLog::Journal(journal)) => hub.with_log(*journal),
            #[cfg(feature = "cluster")]
            Some(OpenLog::Stream(stream)) => hub.with_log(*stream),
            None => hub,
        };
        if let Some(capture) = capture {
            hub.record_to(Box::new(capture));
        }
        if !event_address.ip().is_loopback() {
            log::warn!(
                "event sources may connect from other machines ({event_address}): whatever reaches \
                 this port controls the stream"
            );
        }
        if admin.is_some() {
            hub.sample_deliveries();
        }
        Ok(Some(Server {
            poller,
            signals,
            service_manager,
            reloader: Reloader::new(source, waker),
            hub,
            config,
            descriptors,
            event_address,
            client_address,
            admin,
            is_outrun: false,
        }))
    }

    /// Returns the address for event sources.
    #[must_use]
    pub fn event_address(&self) -> SocketAddr {
        self.event_address
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Returns the address for operators, if they are served.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Runs until a signal ends the server, then logs the totals and finishes the capture.
    ///
    /// # Errors
    ///
    /// The poll failed. No other error ends the server.
    pub fn run(mut self) -> io::Result<Shutdown> {
        let shutdown = self.run_until_shutdown();
        self.hub.report_suppressed_now();
        log::info!("{}", self.hub.totals());
        if !matches!(shutdown, Ok(Shutdown::Forced)) {
            let timeout = self.config.drain_timeout.max(MIN_CAPTURE_TIMEOUT);
            if let Some(log) = self.hub.take_log() {
                log.finish(timeout);
            }
            if let Some(recorder) = self.hub.take_recorder() {
                recorder.finish(timeout);
            }
        }
        shutdown
    }

    fn run_until_shutdown(&mut self) -> io::Result<Shutdown> {
        self.service_manager.ready(&self.status());
        let mut ready = Vec::with_capacity(EVENTS_PER_POLL);
        loop {
            if self.hub.is_stopped() {
                return Ok(if self.is_outrun { Shutdown::Outrun } else { Shutdown::Graceful });
            }
            ready.clear();
            let mut timeout = self.poll_timeout();
            // One call returns at most EVENTS_PER_POLL events. A ready source beyond that would look
            // drained.
            while self.poller.wait(timeout, &mut ready)? && ready.len() < self.hub.max_readiness() {
                timeout = Some(Duration::ZERO);
            }
            // Before the turn, because it may be long.
            if std::mem::take(&mut self.poller.signal_pending)
                && self.handle_signals() == Shutdown::Forced
            {
                return Ok(Shutdown::Forced);
            }
            self.turn(&ready)?;
            self.stop_if_outrun();
            self.report_to_service_manager();
        }
    }

    fn turn(&mut self, ready: &[Readiness]) -> io::Result<()> {
        let mut result = Ok(false);
        let (start, applied) = (Instant::now(), self.hub.applied());
        self.hub.turn(start, ready, |more| {
            result = self.poller.wait(Some(Duration::ZERO), more);
            matches!(result, Ok(true))
        });
        if let Some(admin) = &mut self.admin {
            admin.turn(start, applied, &self.poller.admin_ready, &mut self.hub);
            self.poller.admin_ready.clear();
        }
        result.map(|_| ())
    }

    /// Begins a drain if only a new start can go on. Clients are closed, because they would miss events without
    /// being told.
    fn stop_if_outrun(&mut self) {
        if self.hub.is_outrun() && !self.hub.is_draining() {
            log::warn!(
                "starting again, because the stream was trimmed beyond this server: {}",
                self.hub.log_problem().unwrap_or_default()
            );
            self.is_outrun = true;
            self.hub.stop(Instant::now());
        }
    }

    /// Returns the timeout of the next poll. `None`: no timeout.
    fn poll_timeout(&self) -> Option<Duration> {
        // A poll during the turn may have reported a signal.
        if self.poller.signal_pending {
            return Some(Duration::ZERO);
        }
        let admin = self.admin.as_ref().map_or(NextTurn::WhenReady, Admin::next_turn);
        let deadlines = match self.hub.next_turn().min(admin) {
            NextTurn::Now => return Some(Duration::ZERO),
            NextTurn::Until(when) => [Some(when), self.service_manager.next_deadline()],
            NextTurn::WhenReady => [None, self.service_manager.next_deadline()],
        };
        let deadline = deadlines.into_iter().flatten().min();
        deadline.map(|when| when.saturating_duration_since(Instant::now()))
    }

    /// Tells the watchdog that the loop turns, with the state in a line.
    fn report_to_service_manager(&mut self) {
        let hub = &self.hub;
        let addresses = (self.event_address, self.client_address);
        self.service_manager.tick(|| (!hub.is_draining()).then(|| status(hub, addresses)));
    }

    fn status(&self) -> String {
        status(&self.hub, (self.event_address, self.client_address))
    }

    /// Handles the requests of received signals.
    fn handle_signals(&mut self) -> Shutdown {
        for request in self.signals.take_requests() {
            match request {
                Request::Stop => {
                    log::info!("stopping: delivering received events first");
                    self.service_manager.stopping(self.config.drain_timeout);
                    self.is_outrun = false;
                    self.hub.stop(Instant::now());
                }
                Request::ForcedStop => return Shutdown::Forced,
                Request::Stats => log::info!("{}", self.hub.totals()),
                Request::Reload if self.hub.is_draining() => {
                    log::warn!("settings not reloaded: the server is stopping");
                }
                Request::Reload => {
                    self.service_manager.reloading();
                    self.reloader.request();
                    self.report_reloaded();
                }
            }
        }
        self.finish_reload();
        Shutdown::Graceful
    }

    /// Puts settings in force that were read again, if any were.
    fn finish_reload(&mut self) {
        match self.reloader.take_result() {
            Some(Ok(config)) if !self.hub.is_draining() => self.reload(&config),
            Some(Err(error)) => log::error!("settings not reloaded: {error}"),
            Some(Ok(_)) | None => return,
        }
        self.report_reloaded();
    }

    /// Tells the service manager that no reload is in progress any more.
    fn report_reloaded(&self) {
        if !self.reloader.is_reading() {
            self.service_manager.reloaded(&self.status());
        }
    }

    /// Puts the settings in force that can change while the server runs, and names the others.
    fn reload(&mut self, config: &Config) {
        let Reloaded { changed, unchangeable } = self.config.reload(config);
        logging::change(self.config.log_level, self.config.log_format);
        let mut fitted = self.config.clone();
        let capacity = fit_descriptors(self.descriptors, &mut fitted);
        for acceptor in self.hub.acceptors_mut() {
            acceptor.set_peer_timeout(fitted.peer_timeout);
        }
        if let Some(clients) = self.hub.client_acceptor_mut() {
            set_send_buffer(clients, fitted.client_send_buffer_bytes);
        }
        self.hub.reconfigure(fitted, capacity);
        match changed.is_empty() {
            true => log::info!("settings reloaded: nothing changed"),
            false => log::info!("settings reloaded: {} changed", changed.join(", ")),
        }
        if !unchangeable.is_empty() {
            let names = unchangeable.join(", ");
            log::warn!("settings that need a restart to change keep their values: {names}");
        }
    }
}

/// Returns the state of the server in a line, for the service manager.
fn status(hub: &Hub<TcpAcceptor>, (events, clients): (SocketAddr, SocketAddr)) -> String {
    let totals = hub.totals();
    format!(
        "events on {events}, clients on {clients}: {} clients, {} sources, awaited sequence {}",
        totals.clients_connected, totals.sources_connected, totals.awaited
    )
}
