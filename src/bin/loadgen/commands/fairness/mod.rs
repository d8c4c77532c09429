//! `fairness`: waiting times of other clients while a source floods the server.
//!
//! One thread both floods and measures. It polls the probe clients between small steps of the
//! flood, so a measured time is too long by at most one step and never too short; the poll interval
//! is measured too.
//!
//! The waiting time of queued bytes is bounded from outside. The server writes whatever a turn
//! queues at the end of that turn, unless the socket buffer is full, and with many broadcasts each
//! turn writes to each client. So the interval between writes to a client that is read at once is
//! the length of a turn, and no queued byte waits longer. If broadcasts are rare, the interval
//! spans several turns and is still an upper bound.

mod clients;
mod crowd;
mod wait_times;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::clients::{ProbeClient, WriteIntervalProbe};
use self::crowd::Crowd;
pub(crate) use self::wait_times::Outcome;
use self::wait_times::{WaitTimes, record};
use super::{
    CommandResult, conclude, merged, server_settings, server_with_log, unless_interrupted,
};
use crate::args;
use crate::client::flood::{Flood, FloodSpec, MAX_CHECKED};
use crate::output::document::Plan;
use crate::output::progress::Progress;
use crate::output::{OutputFiles, heading, interruption, print};
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt;
use crate::target::monitor::Monitor;
use crate::target::server::{Addresses, Server};
use crate::target::server_log::ServerLog;

/// Time of flooding before the measurement, to warm buffers.
const WARM_UP: Duration = Duration::from_millis(500);
/// New clients per unidentified client, and per signal.
const CLIENTS_PER_UNIDENTIFIED: u64 = 10;
const CLIENTS_PER_SIGNAL: u64 = 20;
/// Maximum sleep: a poll timeout has whole milliseconds.
const SLEEP: Duration = Duration::from_millis(1);

const WRITE_PROBE: Token = Token(usize::MAX - 2);
const SERVER_LOG: Token = Token(usize::MAX - 3);
/// Tokens of probe clients start here; receivers have lower ones.
const FIRST_CLIENT: usize = 1 << 32;
/// Tokens of the clients that come back at once start here.
const FIRST_RETURNING: usize = 1 << 48;

/// Flag of the server with the number of events for which clients may come back, and its value for a started
/// server: also how many events they have missed.
const RESUME_FLAG: &str = "--resume-events";
const MISSED_EVENTS: u64 = 1_000_000;
/// Maximum time of flooding until so many were sent.
const MAX_WARM_UP: Duration = Duration::from_secs(60);

pub(super) fn run(flags: &args::Fairness) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let identify_timeout = identify_timeout(flags)?;
    let experiment = Experiment {
        flood: FloodSpec {
            mix: flags.mix.clone().map_or_else(|| "even".parse(), Ok)?,
            users: 10 * flags.clients as u64,
            receivers: flags.clients,
        },
        duration: Duration::from_secs_f64(flags.duration),
        interval: Duration::from_secs_f64(flags.interval_ms / 1000.0),
        identify_timeout: identify_timeout.map(Duration::from_millis),
        returning: flags.returning.unwrap_or(0),
        bound: Duration::from_secs_f64(flags.bound_ms / 1000.0),
        timeout: common.timeout,
        log_interval: common.log_interval,
    };
    if experiment.flood.mix.weights.broadcast == 0 {
        Err("--mix: it must contain broadcasts, because a new client waits for one".to_owned())?;
    }
    let resume = (experiment.returning > 0).then_some((RESUME_FLAG, MISSED_EVENTS));
    let own: Vec<_> =
        identify_timeout.map(|ms| (IDENTIFY_TIMEOUT_FLAG, ms)).into_iter().chain(resume).collect();
    let plan = Plan {
        kind: "fairness",
        description: experiment.describe(),
        settings: merged(
            experiment.settings(),
            json!({
                "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": server_settings(flags.target(), &own),
            }),
        ),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let server = server_with_log(flags.target(), &own, flags.server_cpu)?;
        let outcome = measure(&experiment, server)?;
        print(&format!("{}{}{}", interruption(), heading(&plan.description), outcome.table()));
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

/// Flag of the server with the time after which it closes an unidentified client.
const IDENTIFY_TIMEOUT_FLAG: &str = "--identify-timeout-ms";
/// Its value for a started server.
const IDENTIFY_TIMEOUT_MS: u64 = 100;

/// Returns the server's identify timeout; `None` if unknown.
fn identify_timeout(flags: &args::Fairness) -> Result<Option<u64>, String> {
    let target = flags.target();
    if !target.has_server_flag(IDENTIFY_TIMEOUT_FLAG) {
        return Ok(flags.identify_timeout_ms.or(flags.spawn.then_some(IDENTIFY_TIMEOUT_MS)));
    }
    if flags.identify_timeout_ms.is_some() {
        return Err(format!(
            "{IDENTIFY_TIMEOUT_FLAG} has no effect with --server-arg {IDENTIFY_TIMEOUT_FLAG}: both set the \
             server's timeout"
        ));
    }
    Ok(target.server_number(IDENTIFY_TIMEOUT_FLAG))
}

/// Settings of a fairness measurement.
#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    pub(crate) flood: FloodSpec,
    pub(crate) duration: Duration,
    /// Time between two new clients.
    pub(crate) interval: Duration,
    /// The server's identify timeout; `None` if unknown.
    pub(crate) identify_timeout: Option<Duration>,
    /// Clients that come back at once, at the start of the measurement.
    pub(crate) returning: usize,
    /// Maximum waiting time.
    pub(crate) bound: Duration,
    /// Time after which a wait is given up.
    pub(crate) timeout: Duration,
    /// Time between progress lines.
    pub(crate) log_interval: Duration,
}

impl Experiment {
    /// Returns the settings of a result.
    fn settings(&self) -> Value {
        let FloodSpec { mix, users, receivers } = &self.flood;
        json!({
            "mix": mix, "users": users, "clients": receivers,
            "durationSeconds": self.duration.as_secs_f64(),
            "intervalMs": self.interval.as_secs_f64() * 1e3,
            "identifyTimeoutMs": self.identify_timeout.map(|time| time.as_millis() as u64),
            "returning": self.returning,
            "boundMs": self.bound.as_secs_f64() * 1e3,
            "timeoutMs": self.timeout.as_millis() as u64,
        })
    }

    /// Describes the measurement in one line.
    pub(crate) fn describe(&self) -> String {
        let FloodSpec { mix, users, receivers } = &self.flood;
        let returning = match self.returning {
            0 => String::new(),
            count => format!(", {count} clients come back at once"),
        };
        format!(
            "fairness: the mix `{mix}` as fast as the server accepts it, {receivers} of {users} users \
             connected, {} of them checked, a new client every {:?} for {:?}{returning}",
            (*receivers).min(MAX_CHECKED),
            self.interval,
            self.duration
        )
    }
}

/// Floods `server`, measures, and stops it. A signal ends the measurement early.
///
/// # Errors
///
/// A connection fails, a wait exceeds the timeout, or a client receives unexpected bytes.
pub(crate) fn measure(experiment: &Experiment, mut server: Server) -> io::Result<Outcome> {
    let mut run = FairnessRun::connect(experiment, &mut server)?;
    run.flood_until(Instant::now() + WARM_UP)?;
    run.flood_until_missed()?;
    interrupt::check()?;
    run.waits = WaitTimes::new()?;
    let busy_before = server.monitor.and_then(Monitor::cpu_time);
    let waiting_before = server.monitor.and_then(Monitor::run_delay);
    let (start, first) = (Instant::now(), run.flood.next_sequence());
    run.let_crowd_come_back();
    unless_interrupted(run.connect_clients_until(start + experiment.duration))?;
    let (time, sent) = (start.elapsed().as_secs_f64(), run.flood.next_sequence() - first);
    let busy_after = server.monitor.and_then(Monitor::cpu_time);
    let waiting_after = server.monitor.and_then(Monitor::run_delay);
    let result = run.drain().and_then(|()| run.settle());
    let crowd = run.crowd.map(|crowd| crowd.outcome());
    let waits = run.waits;
    unless_interrupted(result.and_then(|()| server.stop()))?;
    let share = |after: Option<Duration>, before: Option<Duration>| {
        let used = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        used.map(|used| used.as_secs_f64() / time)
    };
    let busy = share(busy_after, busy_before);
    let waiting = share(waiting_after, waiting_before);
    let outcome = Outcome::new(waits, experiment.bound, sent as f64 / time, busy, waiting);
    Ok(outcome.with_crowd(crowd))
}

/// A measurement in progress.
struct FairnessRun<'a> {
    experiment: &'a Experiment,
    to: Addresses,
    monitor: Option<Monitor>,
    poll: Poll,
    events: Events,
    flood: Flood,
    write_probe: WriteIntervalProbe,
    server_log: Option<ServerLog>,
    /// Time of a pending request for totals.
    stats_requested_at: Option<Instant>,
    /// Waiting probe clients, by token.
    clients: HashMap<usize, ProbeClient>,
    /// The clients that come back at once, if there are any.
    crowd: Option<Crowd>,
    connected_count: u64,
    waits: WaitTimes,
    last_poll: Instant,
}

impl<'a> FairnessRun<'a> {
    fn connect(experiment: &'a Experiment, server: &mut Server) -> io::Result<FairnessRun<'a>> {
        let (poll, to) = (Poll::new()?, server.addresses);
        let log = server.take_log();
        let server_log =
            log.map(|log| ServerLog::new(log, poll.registry(), SERVER_LOG)).transpose()?;
        let write_probe = experiment.flood.users + 1;
        let flood = Flood::connect(to, &experiment.flood, write_probe, poll.registry())?;
        let client = flood.connect_probe(to, write_probe, (poll.registry(), WRITE_PROBE))?;
        Ok(FairnessRun {
            experiment,
            to,
            monitor: server.monitor,
            write_probe: WriteIntervalProbe::new(client),
            poll,
            events: Events::with_capacity(1024),
            flood,
            server_log,
            stats_requested_at: None,
            clients: HashMap::new(),
            crowd: None,
            connected_count: 0,
            waits: WaitTimes::new()?,
            last_poll: Instant::now(),
        })
    }

    fn flood_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end && !interrupt::has_come() {
            self.step()?;
        }
        Ok(())
    }

    /// Floods until enough was sent for clients to have missed, if there are any, and connects them.
    fn flood_until_missed(&mut self) -> io::Result<()> {
        if self.experiment.returning == 0 {
            return Ok(());
        }
        let end = Instant::now() + MAX_WARM_UP;
        while self.flood.next_sequence() <= MISSED_EVENTS
            && Instant::now() < end
            && !interrupt::has_come()
        {
            self.step()?;
        }
        allow_clients(self.experiment.flood.receivers + self.experiment.returning)?;
        // No event addresses these users. The next ones are those of new clients.
        let first_user = u64::from(u32::MAX) + self.experiment.flood.users;
        let registration = (self.poll.registry(), FIRST_RETURNING);
        let crowd = Crowd::connect(self.to, self.experiment.returning, first_user, registration)?;
        self.crowd = Some(crowd);
        Ok(())
    }

    /// Lets the connected clients come back, for up to [`MISSED_EVENTS`].
    fn let_crowd_come_back(&mut self) {
        let next = self.flood.next_sequence();
        let after = next.saturating_sub(MISSED_EVENTS + 1);
        if let Some(crowd) = &mut self.crowd {
            crowd.come_back(after, next);
        }
    }

    /// Floods and connects new clients at the given interval.
    fn connect_clients_until(&mut self, end: Instant) -> io::Result<()> {
        let start = Instant::now();
        let mut next = start;
        let mut progress = Progress::of_time(end - start, self.experiment.log_interval);
        while next < end && !interrupt::has_come() {
            self.step()?;
            let now = Instant::now();
            progress.show_time(now, now - start, true);
            if now >= next {
                self.connect_client(now)?;
                next = now + self.experiment.interval;
            }
        }
        Ok(())
    }

    /// Floods until no probe client waits.
    fn drain(&mut self) -> io::Result<()> {
        while !self.clients.is_empty() || self.stats_requested_at.is_some() {
            interrupt::check()?;
            self.step()?;
        }
        Ok(())
    }

    /// Ends the flood and waits until all of it has arrived, so that the server is idle for the
    /// next run.
    fn settle(&mut self) -> io::Result<()> {
        self.flood.end();
        while !self.flood.has_arrived() {
            interrupt::check()?;
            self.step()?;
            if self.flood.last_arrival().elapsed() > self.experiment.timeout {
                return self.flood.missing().map_or(Ok(()), Err);
            }
        }
        self.flood.finish(self.write_probe.client())
    }

    /// Advances the flood by one step and polls.
    fn step(&mut self) -> io::Result<()> {
        self.flood.step()?;
        let mut has_work = self.flood.has_work();
        if let Some(crowd) = &mut self.crowd {
            crowd.step()?;
            has_work |= crowd.has_work();
        }
        let timeout = if has_work { Duration::ZERO } else { SLEEP };
        record(&mut self.waits.poll_interval, self.last_poll.elapsed());
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        self.last_poll = Instant::now();
        for event in &self.events {
            match event.token() {
                WRITE_PROBE => {
                    self.write_probe.read(self.flood.in_flight(), &mut self.waits.turn)?;
                }
                SERVER_LOG => {
                    let totals = self.server_log.as_mut().map_or(Ok(None), ServerLog::read)?;
                    if let Some(asked) = self.stats_requested_at.take_if(|_| totals.is_some()) {
                        record(&mut self.waits.signal, asked.elapsed());
                    }
                }
                _ if self.flood.set_ready(event) => {}
                _ if self.crowd.as_mut().is_some_and(|crowd| crowd.set_ready(event)) => {}
                Token(token) => {
                    let Some(client) = self.clients.get_mut(&token) else { continue };
                    if client.poll(self.flood.next_sequence(), &mut self.waits)? {
                        self.clients.remove(&token);
                    }
                }
            }
        }
        self.check_timeouts()
    }

    /// Connects one new client, and at intervals an unidentified one or a signal.
    fn connect_client(&mut self, now: Instant) -> io::Result<()> {
        let number = self.connected_count;
        self.connected_count += 1;
        let token = FIRST_CLIENT + 2 * number as usize;
        // No event addresses these users, so what they receive first is a broadcast.
        let user = self.experiment.flood.users + 2 + number;
        let registry = self.poll.registry();
        self.clients
            .insert(token, ProbeClient::connect_new(self.to, user, registry, Token(token))?);
        if let Some(timeout) = self.experiment.identify_timeout
            && number.is_multiple_of(CLIENTS_PER_UNIDENTIFIED)
        {
            let silent =
                ProbeClient::connect_unidentified(self.to, timeout, registry, Token(token + 1))?;
            self.clients.insert(token + 1, silent);
        }
        if number.is_multiple_of(CLIENTS_PER_SIGNAL) && self.stats_requested_at.is_none() {
            self.request_stats(now)?;
        }
        Ok(())
    }

    /// Requests totals by SIGUSR1, if the log can be read.
    fn request_stats(&mut self, now: Instant) -> io::Result<()> {
        let process = self.monitor.and_then(Monitor::process);
        if let (Some(process), Some(_)) = (process, &self.server_log) {
            self.stats_requested_at = Some(now);
            process.signal(Signal::USR1)?;
        }
        Ok(())
    }

    /// Checks the timeouts of all waits.
    ///
    /// # Errors
    ///
    /// A wait has exceeded the timeout.
    fn check_timeouts(&self) -> io::Result<()> {
        let timeout = self.experiment.timeout;
        let is_lost = |since: Instant| self.last_poll.saturating_duration_since(since) > timeout;
        let lost = self
            .clients
            .values()
            .find(|client| is_lost(client.due()))
            .map(ProbeClient::timeout_message);
        let silence = self
            .stats_requested_at
            .filter(|&asked| is_lost(asked))
            .map(|_| "SIGUSR1 brought no totals");
        match lost.or(silence) {
            Some(message) => Err(io::Error::other(format!("{message} within {timeout:?}"))),
            None => Ok(()),
        }
    }
}
