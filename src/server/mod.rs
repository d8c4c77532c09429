//! The I/O shell: polling, listeners, signals, the descriptor limit, and capture files.

mod capture;
mod fd_limit;
mod signals;
mod tcp;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use capture::Capture;
use fd_limit::DescriptorBudget;
use signals::{Request, SignalThread};
use tcp::TcpAcceptor;

use crate::config::Config;
use crate::hub::{CLIENT_LISTENER, Capacity, EVENT_LISTENER, Hub, NextTurn, Readiness};

const SIGNALS: Token = Token(usize::MAX - 3);

/// Readiness taken from the kernel in one call.
const EVENTS_PER_POLL: usize = 1024;

/// The least time that a capture has for its last lines, however short the drain timeout is: a disk
/// that works needs less.
const MIN_CAPTURE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on.
    Listen {
        /// For whom: "events" or "clients".
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The capture file could not be started; the error names it.
    Capture(io::Error),
    /// The poll or the signal handlers could not be set up.
    Setup(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Listen { purpose, address, error } => {
                write!(f, "cannot listen on {address} for {purpose}: {error}")
            }
            StartError::Capture(error) => write!(f, "cannot capture to {error}"),
            StartError::Setup(error) => write!(f, "cannot set up the event loop: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// After SIGINT or SIGTERM and a drain.
    Graceful,
    /// At once, after a second signal.
    Forced,
}

/// The poll, and whether it told of a signal.
#[derive(Debug)]
struct Poller {
    poll: Poll,
    events: Events,
    signal_pending: bool,
}

impl Poller {
    /// Waits for readiness, no longer than `timeout`, and appends it to `ready`. Returns whether
    /// there may be more than fitted.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<bool> {
        let mut polled = self.poll.poll(&mut self.events, timeout);
        // Whoever was interrupted does not know yet what is ready: a turn with nothing ready would
        // take every source for read dry.
        while polled.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        }
        polled?;
        let mut told = 0;
        for event in &self.events {
            told += 1;
            match event.token() {
                SIGNALS => self.signal_pending = true,
                Token(token) => ready.push(Readiness {
                    token,
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed() || event.is_error(),
                }),
            }
        }
        Ok(told == EVENTS_PER_POLL)
    }
}

/// Divides the descriptors that are free under `limit` between sources and clients. Lowers `max_sources`
/// where that many do not fit.
fn fit_descriptors(limit: u64, config: &mut Config) -> Capacity {
    let budget = DescriptorBudget::measure(limit);
    let wanted_sources = config.max_sources;
    let max_sources = budget.max_sources(wanted_sources);
    config.max_sources = max_sources;
    let capacity = budget.capacity(max_sources, config.max_clients);
    let Capacity { max_clients, max_awaiting_id } = capacity;
    log::info!(
        "descriptor limit {limit}, {} open: at most {max_sources} sources, {max_clients} clients, and \
         {max_awaiting_id} more that await identification",
        budget.open
    );
    if max_sources < wanted_sources {
        log::warn!(
            "max_sources lowered from {wanted_sources} to {max_sources} to fit the descriptor limit"
        );
    }
    let fitting = budget.capacity(max_sources, None).max_clients;
    if max_clients > fitting {
        log::warn!(
            "max_clients {max_clients} exceeds the {fitting} that the descriptor limit allows"
        );
    }
    capacity
}

/// The server: one poll, one thread, both listeners open.
pub struct Server {
    poller: Poller,
    signals: SignalThread,
    hub: Hub<TcpAcceptor>,
    drain_timeout: Duration,
    event_address: SocketAddr,
    client_address: SocketAddr,
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
    /// Opens both listeners and takes over the signals.
    ///
    /// # Errors
    ///
    /// Names the address that could not be listened on.
    pub fn bind(config: &Config) -> Result<Server, StartError> {
        let descriptor_limit = fd_limit::raise_limit();
        let poll = Poll::new().map_err(StartError::Setup)?;
        let registry = poll.registry();
        // Before anything that may block: a second signal ends the process then as well.
        let signals = Waker::new(registry, SIGNALS)
            .and_then(SignalThread::start)
            .map_err(StartError::Setup)?;
        // Before the listeners: a server that cannot capture accepts nobody.
        let capture = config.capture.as_deref().map(Capture::start).transpose();
        let capture = capture.map_err(StartError::Capture)?;
        let listen = |purpose, address, token| {
            TcpAcceptor::bind(address, registry, token, config.peer_timeout)
                .and_then(|acceptor| Ok((acceptor.local_addr()?, acceptor)))
                .map_err(|error| StartError::Listen { purpose, address, error })
        };
        let (event_address, sources) = listen("events", config.event_listen, EVENT_LISTENER)?;
        let (client_address, clients) = listen("clients", config.client_listen, CLIENT_LISTENER)?;
        let mut config = config.clone();
        let capacity = fit_descriptors(descriptor_limit, &mut config);
        let drain_timeout = config.drain_timeout;
        let mut hub = Hub::new(config, capacity, sources, clients, Instant::now());
        if let Some(capture) = capture {
            hub.record_to(Box::new(capture));
        }
        if !event_address.ip().is_loopback() {
            log::warn!(
                "event sources may connect from other machines ({event_address}): whoever reaches \
                 this port controls the stream"
            );
        }
        let events = Events::with_capacity(EVENTS_PER_POLL);
        let poller = Poller { poll, events, signal_pending: false };
        Ok(Server { poller, signals, hub, drain_timeout, event_address, client_address })
    }

    /// Where event sources connect.
    #[must_use]
    pub fn event_address(&self) -> SocketAddr {
        self.event_address
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Serves until a signal ends it, logs the totals then, and finishes the capture.
    ///
    /// # Errors
    ///
    /// Only when the poll itself fails.
    pub fn run(mut self) -> io::Result<Shutdown> {
        let stop = self.serve_until_stopped();
        self.hub.report_suppressed_now();
        log::info!("{}", self.hub.totals());
        if !matches!(stop, Ok(Shutdown::Forced))
            && let Some(recorder) = self.hub.take_recorder()
        {
            recorder.finish(self.drain_timeout.max(MIN_CAPTURE_TIMEOUT));
        }
        stop
    }

    fn serve_until_stopped(&mut self) -> io::Result<Shutdown> {
        let mut ready = Vec::with_capacity(EVENTS_PER_POLL);
        loop {
            if self.hub.is_stopped() {
                return Ok(Shutdown::Graceful);
            }
            ready.clear();
            let mut timeout = self.sleep();
            // A source beyond what one call tells of would pass for one that was read dry.
            while self.poller.wait(timeout, &mut ready)? && ready.len() < self.hub.max_readiness() {
                timeout = Some(Duration::ZERO);
            }
            // Before the turn: it may be a long one.
            if std::mem::take(&mut self.poller.signal_pending)
                && self.handle_signals() == Shutdown::Forced
            {
                return Ok(Shutdown::Forced);
            }
            self.turn(&ready)?;
        }
    }

    fn turn(&mut self, ready: &[Readiness]) -> io::Result<()> {
        let mut result = Ok(false);
        self.hub.turn(Instant::now(), ready, |more| {
            result = self.poller.wait(Some(Duration::ZERO), more);
            matches!(result, Ok(true))
        });
        result.map(|_| ())
    }

    /// How long the next poll may sleep; `None` for ever.
    fn sleep(&self) -> Option<Duration> {
        // The poll that was asked during the turn may have told of a signal.
        if self.poller.signal_pending {
            return Some(Duration::ZERO);
        }
        match self.hub.next_turn() {
            NextTurn::Now => Some(Duration::ZERO),
            NextTurn::Until(when) => Some(when.saturating_duration_since(Instant::now())),
            NextTurn::WhenReady => None,
        }
    }

    /// Does what the signals ask for that have come.
    fn handle_signals(&mut self) -> Shutdown {
        for request in self.signals.take_requests() {
            match request {
                Request::Stop => {
                    log::info!("stopping: what was read is delivered first");
                    self.hub.stop(Instant::now());
                }
                Request::ForcedStop => return Shutdown::Forced,
                Request::Stats => log::info!("{}", self.hub.totals()),
                Request::Hangup => log::info!("SIGHUP ignored"),
            }
        }
        Shutdown::Graceful
    }
}
