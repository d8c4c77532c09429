//! `soak`: a mixed load with churn for a given time, and the server's memory, descriptors and
//! latency over that time.
//!
//! ```text
//! TickSchedule ─lines─▶ Sources ─write─▶ server ─▶ PersistentClient  every byte compared
//!                                               ─▶ ChurnClients      whole lines, addressed to the
//!                                                  user, ascending, without a missing broadcast;
//!                                                  closed if and only if required
//! ```
//!
//! Expected output is kept only for the few seconds that it is in flight, so a run may last
//! indefinitely.

mod churn;
mod churn_client;
mod samples;
mod sources;
mod stream_check;
mod ticks;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::{Value, json};

use self::churn::ChurnClients;
use self::samples::MemoryTrend;
pub(crate) use self::samples::Sample;
use self::sources::Sources;
use self::stream_check::SentSoFar;
pub(crate) use self::ticks::Pace;
use self::ticks::TickSchedule;
use super::several::compare_states;
use super::{CommandResult, conclude, merged, server_settings, server_with_log};
use crate::args;
use crate::client::first_delivery::FirstDelivery;
use crate::client::open_loop::histogram;
use crate::client::persistent_client::PersistentClient;
use crate::client::run_end::{Served, expect_silence};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::format::{format_bytes, format_count, format_micros, format_seconds};
use crate::output::percentiles::Percentiles;
use crate::output::summary::median;
use crate::output::table::Table;
use crate::output::{OutputFiles, heading, print};
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs::Process;
use crate::sys::timerfd::Timer;
use crate::target::admin::AdminPort;
use crate::target::monitor::Monitors;
use crate::target::server::Server;
use crate::target::server_log::{ServerLog, Totals};
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;

/// Bytes per read from a client.
const READ_BYTES: usize = 64 * 1024;
/// Maximum ticks started before clients are read, when the schedule is behind.
const MAX_TICKS_PER_STEP: usize = 16;
/// Users of churn clients, and users that never connect.
const CHURN_USERS: u64 = 150;
const ABSENT_USERS: u64 = 50;
/// Churn clients per replaced source.
const CLIENTS_PER_SOURCE: u64 = 25;
/// Maximum sleep.
const SLEEP: Duration = Duration::from_millis(10);
/// Interval of requests for totals at the end.
const STATS_INTERVAL: Duration = Duration::from_millis(50);

const TIMER: Token = Token(usize::MAX - 1);
const SERVER_LOG: Token = Token(usize::MAX - 2);
/// Persistent clients have tokens from 0 on.
const FIRST_SOURCE: usize = 1 << 32;
const FIRST_CHURN_CLIENT: usize = 1 << 33;

/// Server limits that a soak reaches every few seconds, where the defaults would take hours.
const SOAK_SERVER_FLAGS: [(&str, u64); 3] = [
    ("--identify-timeout-ms", 1000),
    ("--client-queue-bytes", 65_536),
    ("--stall-timeout-ms", 2000),
];

pub(super) fn run(flags: &args::Soak) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let duration = match (flags.minutes, flags.seconds) {
        (Some(_), Some(_)) => Err("--minutes and --seconds exclude each other".to_owned())?,
        (Some(minutes), None) => Duration::from_secs_f64(minutes * 60.0),
        (None, seconds) => Duration::from_secs_f64(seconds.unwrap_or(60.0)),
    };
    let spec = SoakSpec {
        mix: flags.mix.clone().map_or_else(|| "even".parse(), Ok)?,
        pace: Pace { rate: flags.rate, burst: flags.burst },
        sources: flags.sources,
        persistent: flags.clients,
        visits: flags.visits,
        seed: flags.random_seed,
        duration,
        every: Duration::from_secs_f64(flags.every),
        timeout: common.timeout,
    };
    let plan = Plan {
        kind: "soak",
        description: spec.describe(),
        settings: merged(
            spec.settings(),
            json!({
                "cpu": flags.cpu, "serverCpu": flags.server_cpu,
                "server": server_settings(flags.targets(), &SOAK_SERVER_FLAGS),
            }),
        ),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let server = server_with_log(flags.targets(), &SOAK_SERVER_FLAGS, flags.server_cpu)?;
        let outcome = soak(&spec, server, &mut |row| print(row))?;
        print(&format!("{}{}", heading(&plan.description), outcome.summary()));
        Ok(outcome.findings())
    };
    conclude(&plan, files, measure())
}

/// Settings of a soak.
#[derive(Clone, Debug)]
pub(crate) struct SoakSpec {
    pub(crate) mix: Mix,
    pub(crate) pace: Pace,
    /// Simultaneous sources.
    pub(crate) sources: usize,
    /// Number of persistent clients.
    pub(crate) persistent: u64,
    /// Churn clients per second.
    pub(crate) visits: f64,
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// Time between two samples.
    pub(crate) every: Duration,
    /// Time after which a missing delivery is an error.
    pub(crate) timeout: Duration,
}

impl SoakSpec {
    /// Returns the settings of a result.
    fn settings(&self) -> Value {
        json!({
            "mix": self.mix, "rate": self.pace.rate, "burst": self.pace.burst,
            "sources": self.sources, "clients": self.persistent, "visits": self.visits,
            "seed": self.seed, "durationSeconds": self.duration.as_secs_f64(),
            "everySeconds": self.every.as_secs_f64(), "timeoutMs": self.timeout.as_millis() as u64,
        })
    }

    /// Describes the soak in one line.
    pub(crate) fn describe(&self) -> String {
        let SoakSpec { mix, pace, persistent, visits, seed, duration, .. } = self;
        format!(
            "soak: {} events/s of the mix `{mix}` and a burst of {} per second, {persistent} persistent \
             clients, {visits} visits per second, seed {seed}, for {duration:?}",
            pace.rate, pace.burst
        )
    }
}

/// Outcome of a soak.
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    memory: Option<MemoryTrend>,
    /// The first failure, and its time.
    failure: Option<String>,
    /// A signal ended the run early.
    is_interrupted: bool,
    events: u64,
    churn_clients: u64,
    takeovers: u64,
}

/// The figures of an [`Outcome`]; `None` if unknown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    events: u64,
    visits: u64,
    takeovers: u64,
    /// Medians of the intervals' percentiles, and the overall maximum.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
    peak_memory_bytes: Option<u64>,
    server_busy_percent: Option<f64>,
    memory: Option<MemoryTrend>,
}

impl Outcome {
    fn figures(&self) -> Figures {
        let values = |value: fn(&Sample) -> Option<f64>| -> Vec<f64> {
            self.samples.iter().filter_map(value).collect()
        };
        let middle = |value| Some(median(values(value))).filter(|middle| middle.is_finite());
        Figures {
            events: self.events,
            visits: self.churn_clients,
            takeovers: self.takeovers,
            p50_us: middle(|sample| sample.p50_us),
            p99_us: middle(|sample| sample.p99_us),
            max_us: values(|sample| sample.max_us).into_iter().reduce(f64::max),
            peak_memory_bytes: self.samples.iter().filter_map(|sample| sample.memory_bytes).max(),
            server_busy_percent: middle(|sample| sample.server_busy_percent),
            memory: self.memory,
        }
    }

    /// Returns the verdict, and its reason as a sentence.
    fn verdict(&self) -> (Verdict, String) {
        let memory = self.memory.as_ref().map(MemoryTrend::describe);
        let memory = memory.map_or_else(String::new, |memory| format!(" {memory}"));
        match &self.failure {
            Some(failure) => (Verdict::Failed, failure.clone()),
            None if self.is_interrupted => {
                let reason = "A signal ended the run; these are the figures up to it.";
                (Verdict::Interrupted, reason.to_owned())
            }
            None if self.memory.as_ref().is_some_and(|memory| !memory.passed()) => {
                (Verdict::Failed, memory.trim_start().to_owned())
            }
            None => (Verdict::Passed, format!("Every client received what it must.{memory}")),
        }
    }

    /// Returns the result for JSON and a report.
    pub(crate) fn findings(&self) -> Findings {
        let (verdict, reason) = self.verdict();
        let faults = if verdict == Verdict::Failed { vec![reason.clone()] } else { Vec::new() };
        Findings {
            faults,
            runs: vec![json!(self.figures())],
            series: self.samples.iter().map(|sample| json!(sample)).collect(),
            tables: vec![self.table()],
            charts: samples::charts(&self.samples),
            ..Findings::new(verdict, reason)
        }
    }

    fn table(&self) -> Table {
        let figures = self.figures();
        let mut table = Table::new("The run", &["", ""]);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                table.add_pair(name, value);
            }
        };
        add("Measured time", self.samples.last().map(|sample| format_seconds(sample.seconds)));
        add("Events sent", Some(format_count(figures.events)));
        add("Visits", Some(format_count(figures.visits)));
        add("Takeovers among them", Some(format_count(figures.takeovers)));
        add("Median latency, median of the intervals", figures.p50_us.map(format_micros));
        add("99th percentile, median of the intervals", figures.p99_us.map(format_micros));
        add("Maximum latency", figures.max_us.map(format_micros));
        let bytes = |bytes: u64| format_bytes(bytes as f64);
        add("Peak memory of the server", figures.peak_memory_bytes.map(bytes));
        add(
            "CPU of the server",
            figures.server_busy_percent.map(|busy| format!("{busy:.1} % of a core")),
        );
        table
    }

    /// Formats the result as text, to follow the rows.
    pub(crate) fn summary(&self) -> String {
        let mut text = match &self.failure {
            None if self.is_interrupted => "INTERRUPTED\n".to_owned(),
            None => "ALL AS EXPECTED\n".to_owned(),
            Some(failure) => format!("NOT AS EXPECTED\n  {failure}\n"),
        };
        text.push_str(&format!(
            "  sent        {} events, with {} visits, {} of them takeovers\n",
            self.events, self.churn_clients, self.takeovers
        ));
        text.push_str(&self.memory.map_or_else(String::new, |memory| memory.verdict()));
        text
    }
}

/// Soaks `server`, and stops it. Rows are passed to `show_row` when they are sampled.
///
/// # Errors
///
/// The first connections fail, or the server does not stop properly.
pub(crate) fn soak(
    spec: &SoakSpec,
    mut server: Server,
    show_row: &mut dyn FnMut(&str),
) -> io::Result<Outcome> {
    let mut soak = Soak::connect(spec, &mut server, show_row)?;
    let error = soak.run().and_then(|()| soak.finish()).err();
    let is_interrupted = error.as_ref().is_some_and(|error| Interrupted::of(error).is_some());
    if is_interrupted {
        soak.sample(None);
    }
    let failure = error
        .filter(|_| !is_interrupted)
        .map(|error| format!("after {:.1} s: {error}", soak.start.elapsed().as_secs_f64()));
    let outcome = Outcome {
        memory: MemoryTrend::evaluate(&soak.samples),
        events: soak.ticks.next_sequence() - 1,
        churn_clients: soak.churn_clients.total(),
        takeovers: soak.churn_clients.takeovers(),
        samples: soak.samples,
        failure,
        is_interrupted,
    };
    drop((soak.sources, soak.persistent, soak.churn_clients));
    if outcome.failure.is_none() && !is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}

/// A soak in progress.
struct Soak<'a> {
    spec: &'a SoakSpec,
    show_row: &'a mut dyn FnMut(&str),
    monitors: Monitors,
    poll: Poll,
    events: Events,
    timer: Timer,
    server_log: Option<ServerLog>,
    ticks: TickSchedule,
    sources: Sources,
    persistent: Vec<PersistentClient>,
    churn_clients: ChurnClients,
    prng: Prng,
    buffer: Box<[u8]>,
    wire: Vec<u8>,
    start: Instant,
    next_churn_client: Instant,
    /// Time of the next sample.
    next_sample: Instant,
    /// Time of a pending request for totals.
    stats_requested_at: Option<Instant>,
    latencies: Histogram<u64>,
    /// Time when an expected part last arrived at a persistent client.
    last_arrival: Instant,
    first_delivery: FirstDelivery,
    /// The server's descriptors before any connection.
    descriptors_before: Option<usize>,
    /// The server's CPU time, and when it was read.
    cpu: (Option<Duration>, Instant),
    samples: Vec<Sample>,
}

impl<'a> Soak<'a> {
    fn connect(
        spec: &'a SoakSpec,
        server: &mut Server,
        show_row: &'a mut dyn FnMut(&str),
    ) -> io::Result<Soak<'a>> {
        allow_clients(spec.persistent as usize + spec.sources)?;
        let servers = server.all_addresses();
        let events: Vec<SocketAddr> = servers.iter().map(|server| server.events).collect();
        let clients: Vec<SocketAddr> = servers.iter().map(|server| server.clients).collect();
        let monitors = server.all_monitors();
        let (poll, mut prng) = (Poll::new()?, Prng::from_seed(spec.seed));
        let registry = poll.registry();
        // Other operators of a server elsewhere come and go.
        let descriptors_before = monitors.process().and_then(Process::descriptors);
        let log = server.take_log();
        let server_log = log.map(|log| ServerLog::new(log, registry, SERVER_LOG)).transpose()?;
        let first_delivery = FirstDelivery::new(events[0]);
        let sources = Sources::connect(events, spec.sources, registry, FIRST_SOURCE)?;
        let users: Vec<u64> = (1..=spec.persistent).collect();
        let connect = |&user: &u64| {
            let index = user as usize - 1;
            PersistentClient::connect(
                clients[index % clients.len()],
                user,
                index,
                (registry, Token(index)),
            )
        };
        let persistent = users.iter().map(connect).collect::<io::Result<_>>()?;
        let churn_users = spec.persistent + 1..spec.persistent + 1 + CHURN_USERS;
        let all_users = churn_users.end - 1 + ABSENT_USERS;
        let churn_clients =
            ChurnClients::new(clients, churn_users, spec.timeout, FIRST_CHURN_CLIENT);
        let generator_prng = Prng::from_seed(prng.next());
        let ticks =
            TickSchedule::new(spec.mix.clone(), spec.pace, &users, all_users, generator_prng);
        let now = Instant::now();
        Ok(Soak {
            spec,
            show_row,
            timer: Timer::new(registry, TIMER)?,
            poll,
            events: Events::with_capacity(1024),
            server_log,
            ticks,
            sources,
            persistent,
            churn_clients,
            prng,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            wire: Vec::new(),
            start: now,
            next_churn_client: now,
            next_sample: now + spec.every,
            stats_requested_at: None,
            latencies: histogram()?,
            last_arrival: now,
            first_delivery,
            descriptors_before,
            cpu: (monitors.cpu_time(), now),
            monitors,
            samples: Vec::new(),
        })
    }

    /// Runs the load for the given time.
    ///
    /// # Errors
    ///
    /// A check fails; the error describes it.
    fn run(&mut self) -> io::Result<()> {
        (self.show_row)(&Sample::head());
        let end = self.start + self.spec.duration;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            self.start_ticks(now);
            self.connect_churn_clients(now)?;
            if now >= self.next_sample
                && self.stats_requested_at.is_none()
                && !self.request_stats(now)?
            {
                self.sample(None);
            }
            let totals = self.step(self.ticks.until_next(now).unwrap_or(SLEEP))?;
            if totals.is_some() && self.stats_requested_at.take().is_some() {
                self.sample(totals);
            }
        }
        let totals = self.totals()?;
        self.sample(totals);
        Ok(())
    }

    fn start_ticks(&mut self, now: Instant) {
        for _ in 0..MAX_TICKS_PER_STEP {
            self.wire.clear();
            if !self.ticks.start_next(now, &mut self.wire) {
                return;
            }
            self.sources.enqueue(&self.wire);
        }
    }

    fn connect_churn_clients(&mut self, now: Instant) -> io::Result<()> {
        if self.spec.visits > 0.0 && now >= self.next_churn_client {
            // Late clients do not connect all at once.
            self.next_churn_client = now + Duration::from_secs_f64(1.0 / self.spec.visits);
            self.churn_clients.connect_one(&mut self.prng, self.poll.registry())?;
            if self.churn_clients.total().is_multiple_of(CLIENTS_PER_SOURCE) {
                self.sources.replace_one(&mut self.prng);
            }
        }
        Ok(())
    }

    /// Writes, polls for at most `timeout`, reads and checks. Returns totals if they have arrived.
    fn step(&mut self, timeout: Duration) -> io::Result<Option<Totals>> {
        interrupt::check()?;
        self.sources.write(self.poll.registry(), self.ticks.next_sequence())?;
        self.timer.set(timeout.min(SLEEP))?;
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        let mut totals = None;
        for event in &self.events {
            match event.token() {
                TIMER => {}
                SERVER_LOG => {
                    totals = self.server_log.as_mut().map_or(Ok(None), ServerLog::read)?;
                }
                Token(index) if index < self.persistent.len() => {
                    let persistent = &mut self.persistent[index];
                    let mut arrived = |late: Duration| {
                        self.latencies.saturating_record(late.as_nanos() as u64);
                    };
                    let in_flight = self.ticks.in_flight();
                    while persistent.read(&mut self.buffer, in_flight, &mut arrived)? {}
                    self.last_arrival = Instant::now();
                    self.first_delivery.arrived();
                }
                Token(token) if token < FIRST_CHURN_CLIENT => self.sources.set_ready(event),
                Token(token) => self.churn_clients.set_readable(token),
            }
        }
        let now = Instant::now();
        let (next_sequence, broadcasts) = (self.ticks.next_sequence(), self.ticks.broadcasts());
        self.churn_clients.poll(now, &mut self.buffer, SentSoFar { next_sequence, broadcasts })?;
        self.check_timeouts(now)?;
        if self.stats_requested_at.is_some() {
            for port in self.monitors.admins() {
                let of_port = port.status()?.totals();
                totals = Some(totals.map_or(of_port, |sum| sum + of_port));
            }
        }
        Ok(totals)
    }

    /// Requests totals; returns whether they can be read.
    fn request_stats(&mut self, now: Instant) -> io::Result<bool> {
        let can_read = self.monitors.admins().next().is_some() || self.server_log.is_some();
        if can_read {
            self.stats_requested_at = Some(now);
            self.monitors.process().map_or(Ok(()), |process| process.signal(Signal::USR1))?;
        }
        Ok(can_read)
    }

    /// Requests totals and waits for them; `None` if they cannot be read.
    fn totals(&mut self) -> io::Result<Option<Totals>> {
        let mut totals = None;
        if self.request_stats(Instant::now())? {
            while totals.is_none() {
                totals = self.step(SLEEP)?;
            }
            self.stats_requested_at = None;
        }
        Ok(totals)
    }

    fn sample(&mut self, totals: Option<Totals>) {
        let now = Instant::now();
        self.next_sample += self.spec.every;
        let percentiles = (!self.latencies.is_empty()).then(|| Percentiles::of(&self.latencies));
        self.latencies.reset();
        let (cpu_before, before) = self.cpu;
        self.cpu = (self.monitors.cpu_time(), now);
        let used = self.cpu.0.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        let time = (now - before).as_secs_f64();
        let sample = Sample {
            seconds: (now - self.start).as_secs_f64(),
            events: self.ticks.next_sequence() - 1,
            churn_clients: self.churn_clients.total(),
            memory_bytes: self.monitors.memory(),
            descriptors: self.monitors.descriptors(),
            clients: totals.map(|totals| totals.clients_connected),
            sources: totals.map(|totals| totals.sources_connected),
            p50_us: percentiles.map(|at| at.p50),
            p99_us: percentiles.map(|at| at.p99),
            max_us: percentiles.map(|at| at.max),
            server_busy_percent: used.map(|used| 100.0 * used.as_secs_f64() / time),
            own_memory_bytes: Process { id: std::process::id() }.memory(),
        };
        (self.show_row)(&sample.row());
        self.samples.push(sample);
    }

    /// Checks for progress.
    ///
    /// # Errors
    ///
    /// Expected output has not arrived for the timeout.
    fn check_timeouts(&mut self, now: Instant) -> io::Result<()> {
        let timeout = self.spec.timeout;
        if self.stats_requested_at.is_some_and(|asked| now - asked > timeout) {
            return Err(io::Error::other(format!("SIGUSR1 brought no totals within {timeout:?}")));
        }
        if !self.ticks.is_idle() {
            let sources = &self.sources;
            self.first_delivery.check(0, || sources.local_addr())?;
        }
        if self.ticks.is_idle() {
            self.last_arrival = now;
        } else if now.saturating_duration_since(self.last_arrival) > timeout {
            let in_flight = self.ticks.in_flight();
            let mut missing = self.persistent.iter_mut().filter_map(|one| one.missing(in_flight));
            return missing.next().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Waits until everything has arrived, disconnects all churn clients, and checks that the
    /// server has released them and sends nothing more.
    ///
    /// # Errors
    ///
    /// A check fails; the error describes it.
    fn finish(&mut self) -> io::Result<()> {
        while !self.ticks.is_idle() {
            self.step(SLEEP)?;
        }
        self.churn_clients.disconnect_all();
        self.wait_until_idle()?;
        let admins: Vec<AdminPort> = self.monitors.admins().collect();
        // One server alone has nothing to be compared with.
        if admins.len() > 1 {
            compare_states(&admins, self.ticks.next_sequence(), self.spec.timeout)?;
        }
        let mut sources: Vec<_> = self.sources.streams().collect();
        let mut clients: Vec<Served<'_>> =
            self.persistent.iter_mut().map(PersistentClient::served).collect();
        expect_silence(&mut sources, &mut clients)
    }

    /// Waits until the server counts only the remaining connections.
    fn wait_until_idle(&mut self) -> io::Result<()> {
        let idle = Totals {
            clients_connected: self.spec.persistent,
            sources_connected: self.spec.sources as u64,
            queued_bytes: 0,
        };
        let descriptors = self
            .descriptors_before
            .map(|before| before + self.persistent.len() + self.spec.sources);
        let deadline = Instant::now() + self.spec.timeout;
        while let Some(totals) = self.totals()? {
            let open = self.monitors.process().and_then(Process::descriptors);
            if totals == idle && open == descriptors {
                break;
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "in the end the server reports {totals:?} and has {open:?} descriptors; \
                     expected {idle:?} and {descriptors:?}"
                )));
            }
            self.run_for(STATS_INTERVAL)?;
        }
        Ok(())
    }

    /// Runs steps for `time`.
    fn run_for(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step(SLEEP)?;
        }
        Ok(())
    }
}
