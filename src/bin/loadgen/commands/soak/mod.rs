//! `soak`: a mixed load with clients that come and go, for as long as asked, and what becomes of the
//! server's memory, descriptors and latency meanwhile.
//!
//! ```text
//! Ticks ─lines─▶ Sources ─write─▶ server ─▶ PersistentClient    every byte compared with the model
//!                                        ─▶ Visitors  whole lines, theirs, ascending, no gap between
//!                                                     broadcasts; closed if and only if they must be
//! ```
//!
//! What is due is kept for the few seconds that it is under way, so the run may last for ever.

mod churn;
mod churn_client;
mod samples;
mod sources;
mod stream_check;
mod ticks;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use log::info;
use mio::{Events, Poll, Token};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::json;

use self::churn::Visitors;
use self::samples::Memory;
pub(crate) use self::samples::Sample;
use self::sources::Sources;
use self::stream_check::Sent;
pub(crate) use self::ticks::Pace;
use self::ticks::Ticks;
use super::{CommandResult, watched_server};
use crate::args;
use crate::client::open_loop::histogram;
use crate::client::persistent_client::PersistentClient;
use crate::client::silence::{Served, expect_silence};
use crate::output::percentiles::Percentiles;
use crate::output::{show, write_json, write_report};
use crate::sys::interrupt::{self, Interrupted};
use crate::sys::procfs::{self, Process, allow_clients};
use crate::sys::timerfd::Timer;
use crate::target::server::{Addresses, Server};
use crate::target::server_log::{ServerLog, Totals};
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;

/// Read of one client at a time.
const READ_BYTES: usize = 64 * 1024;
/// Ticks begun, when they are behind, before the clients are read.
const MOST_TICKS_AT_ONCE: usize = 16;
/// Users that visitors are, and users that nobody ever is.
const VISITING_USERS: u64 = 150;
const ABSENT_USERS: u64 = 50;
/// A source is replaced for every so many visitors.
const VISITORS_A_SOURCE: u64 = 25;
/// The longest sleep.
const SLEEP: Duration = Duration::from_millis(10);
/// How often totals are asked for at the end, until they are as they should be.
const ASK_AGAIN: Duration = Duration::from_millis(50);

const TIMER: Token = Token(usize::MAX - 1);
const SERVER_LOG: Token = Token(usize::MAX - 2);
/// PersistentClient clients have the tokens from 0 on.
const FIRST_SOURCE: usize = 1 << 32;
const FIRST_VISITOR: usize = 1 << 33;

/// Limits that a soak reaches every few seconds, where the usual ones would take it hours.
const SOAKED_SERVER: [(&str, u64); 3] = [
    ("--identify-timeout-ms", 1000),
    ("--client-queue-bytes", 65_536),
    ("--stall-timeout-ms", 2000),
];

pub(super) fn run(flags: &args::Soak) -> CommandResult {
    let habits = super::begin(flags.common(), flags.cpu)?;
    let duration = match (flags.minutes, flags.seconds) {
        (Some(_), Some(_)) => Err("--minutes and --seconds exclude each other".to_owned())?,
        (Some(minutes), None) => Duration::from_secs_f64(minutes * 60.0),
        (None, seconds) => Duration::from_secs_f64(seconds.unwrap_or(60.0)),
    };
    let spec = SoakSpec {
        mix: flags.mix.clone().map_or_else(|| "even".parse(), Ok)?,
        pace: Pace { rate: flags.rate, burst: flags.burst },
        sources: flags.sources,
        steady: flags.clients,
        visits: flags.visits,
        seed: flags.random_seed,
        duration,
        every: Duration::from_secs_f64(flags.every),
        timeout: habits.timeout,
    };
    let introduction = spec.introduction();
    info!("{introduction}");
    let server = watched_server(flags.target(), &SOAKED_SERVER, flags.server_cpu)?;
    let outcome = soak(&spec, server, &mut |row| show(row))?;
    show(&format!("{introduction}\n{}", outcome.summary()));
    let result = json!({
        "command": "soak", "experiment": introduction, "machine": procfs::host_info(),
        "ok": outcome.is_right(), "figures": outcome.figures(),
    });
    write_json(flags.json.as_deref(), &result)?;
    write_report(
        flags.report.as_deref(),
        &introduction,
        &result,
        &samples::charts(&outcome.samples),
    )?;
    Ok(outcome.is_right())
}

/// What is done, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct SoakSpec {
    pub(crate) mix: Mix,
    pub(crate) pace: Pace,
    /// Open at once.
    pub(crate) sources: usize,
    /// Clients that stay.
    pub(crate) steady: u64,
    /// Visitors a second.
    pub(crate) visits: f64,
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// Time between two samples.
    pub(crate) every: Duration,
    /// What has not come after so long will not come.
    pub(crate) timeout: Duration,
}

impl SoakSpec {
    /// Says what will be done.
    pub(crate) fn introduction(&self) -> String {
        let SoakSpec { mix, pace, steady, visits, seed, duration, .. } = self;
        format!(
            "soak: {} events/s of the mix `{mix}` and a burst of {} every second, {steady} clients \
             that stay, {visits} a second that come and go, seed {seed}, for {duration:?}",
            pace.rate, pace.burst
        )
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    memory: Option<Memory>,
    /// What was wrong, and when.
    fault: Option<String>,
    /// A signal came, and this is what there was until then.
    is_interrupted: bool,
    events: u64,
    visitors: u64,
    takeovers: u64,
}

/// The figures of an [`Outcome`] for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures<'a> {
    events: u64,
    visitors: u64,
    takeovers: u64,
    fault: Option<&'a str>,
    memory: Option<Memory>,
    samples: &'a [Sample],
}

impl Outcome {
    /// Whether everything that could be checked was right.
    pub(crate) fn is_right(&self) -> bool {
        self.fault.is_none()
            && !self.is_interrupted
            && self.memory.as_ref().is_none_or(Memory::is_right)
    }

    pub(crate) fn figures(&self) -> Figures<'_> {
        Figures {
            events: self.events,
            visitors: self.visitors,
            takeovers: self.takeovers,
            fault: self.fault.as_deref(),
            memory: self.memory,
            samples: &self.samples,
        }
    }

    /// The result for people, behind the rows.
    pub(crate) fn summary(&self) -> String {
        let mut text = match &self.fault {
            None if self.is_interrupted => "INTERRUPTED\n".to_owned(),
            None => "ALL AS EXPECTED\n".to_owned(),
            Some(fault) => format!("NOT AS EXPECTED\n  {fault}\n"),
        };
        text.push_str(&format!(
            "  sent        {} events, to {} visitors and those who stayed; {} takeovers\n",
            self.events, self.visitors, self.takeovers
        ));
        text.push_str(&self.memory.map_or_else(String::new, |memory| memory.verdict()));
        text
    }
}

/// Soaks `server`, and stops it. Rows go to `show` as they come.
///
/// # Errors
///
/// The server cannot be connected to in the first place, or does not stop as it should.
pub(crate) fn soak(
    spec: &SoakSpec,
    mut server: Server,
    show: &mut dyn FnMut(&str),
) -> io::Result<Outcome> {
    let mut soak = Soak::connect(spec, &mut server, show)?;
    let error = soak.run().and_then(|()| soak.finish()).err();
    let is_interrupted = error.as_ref().is_some_and(|error| Interrupted::of(error).is_some());
    if is_interrupted {
        soak.sample(None);
    }
    let fault = error
        .filter(|_| !is_interrupted)
        .map(|error| format!("after {:.1} s: {error}", soak.start.elapsed().as_secs_f64()));
    let outcome = Outcome {
        memory: Memory::judge(&soak.samples),
        events: soak.ticks.next_sequence() - 1,
        visitors: soak.visitors.ever(),
        takeovers: soak.visitors.takeovers(),
        samples: soak.samples,
        fault,
        is_interrupted,
    };
    drop((soak.sources, soak.steady, soak.visitors));
    if outcome.fault.is_none() && !is_interrupted {
        server.stop()?;
    }
    Ok(outcome)
}

/// The run under way.
struct Soak<'a> {
    spec: &'a SoakSpec,
    show: &'a mut dyn FnMut(&str),
    process: Option<Process>,
    poll: Poll,
    events: Events,
    timer: Timer,
    server_log: Option<ServerLog>,
    ticks: Ticks,
    sources: Sources,
    steady: Vec<PersistentClient>,
    visitors: Visitors,
    prng: Prng,
    buffer: Box<[u8]>,
    wire: Vec<u8>,
    start: Instant,
    next_visit: Instant,
    /// When the next sample is to be taken.
    next_sample: Instant,
    /// When totals were asked for that have not come.
    asked: Option<Instant>,
    latencies: Histogram<u64>,
    /// When steady clients last received something that was due.
    last_arrival: Instant,
    /// The server's, before anybody was connected.
    descriptors_before: Option<usize>,
    /// The server's processor time, and when it was read.
    cpu: (Option<Duration>, Instant),
    samples: Vec<Sample>,
}

impl<'a> Soak<'a> {
    fn connect(
        spec: &'a SoakSpec,
        server: &mut Server,
        show: &'a mut dyn FnMut(&str),
    ) -> io::Result<Soak<'a>> {
        allow_clients(spec.steady as usize + spec.sources)?;
        let Addresses { events, clients } = server.addresses;
        let (poll, mut prng) = (Poll::new()?, Prng::from_seed(spec.seed));
        let registry = poll.registry();
        let descriptors_before = server.process.and_then(Process::descriptors);
        let log = server.take_log();
        let server_log = log.map(|log| ServerLog::new(log, registry, SERVER_LOG)).transpose()?;
        let sources = Sources::connect(events, spec.sources, registry, FIRST_SOURCE)?;
        let users: Vec<u64> = (1..=spec.steady).collect();
        let connect = |&user: &u64| {
            let place = user as usize - 1;
            PersistentClient::connect(clients, user, place, (registry, Token(place)))
        };
        let steady = users.iter().map(connect).collect::<io::Result<_>>()?;
        let visiting = spec.steady + 1..spec.steady + 1 + VISITING_USERS;
        let all_users = visiting.end - 1 + ABSENT_USERS;
        let visitors = Visitors::new(clients, visiting, spec.timeout, FIRST_VISITOR);
        let generator_prng = Prng::from_seed(prng.next());
        let ticks = Ticks::new(spec.mix.clone(), spec.pace, &users, all_users, generator_prng);
        let now = Instant::now();
        Ok(Soak {
            spec,
            show,
            process: server.process,
            timer: Timer::new(registry, TIMER)?,
            poll,
            events: Events::with_capacity(1024),
            server_log,
            ticks,
            sources,
            steady,
            visitors,
            prng,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            wire: Vec::new(),
            start: now,
            next_visit: now,
            next_sample: now + spec.every,
            asked: None,
            latencies: histogram()?,
            last_arrival: now,
            descriptors_before,
            cpu: (server.process.and_then(Process::cpu_time), now),
            samples: Vec::new(),
        })
    }

    /// # Errors
    ///
    /// Says what is wrong.
    fn run(&mut self) -> io::Result<()> {
        (self.show)(&Sample::head());
        let end = self.start + self.spec.duration;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            self.begin_ticks(now);
            self.admit_visitors(now)?;
            if now >= self.next_sample && self.asked.is_none() && !self.ask(now)? {
                self.sample(None);
            }
            let totals = self.go_on(self.ticks.until_next(now).unwrap_or(SLEEP))?;
            if totals.is_some() && self.asked.take().is_some() {
                self.sample(totals);
            }
        }
        let totals = self.totals()?;
        self.sample(totals);
        Ok(())
    }

    fn begin_ticks(&mut self, now: Instant) {
        for _ in 0..MOST_TICKS_AT_ONCE {
            self.wire.clear();
            if !self.ticks.begin_next(now, &mut self.wire) {
                return;
            }
            self.sources.take(&self.wire);
        }
    }

    fn admit_visitors(&mut self, now: Instant) -> io::Result<()> {
        if self.spec.visits > 0.0 && now >= self.next_visit {
            // However late it is, they do not come all at once.
            self.next_visit = now + Duration::from_secs_f64(1.0 / self.spec.visits);
            self.visitors.admit(&mut self.prng, self.poll.registry())?;
            if self.visitors.ever().is_multiple_of(VISITORS_A_SOURCE) {
                self.sources.replace_one(&mut self.prng);
            }
        }
        Ok(())
    }

    /// Writes, sleeps for `patience` unless something comes, reads and checks. Returns totals that
    /// have come.
    fn go_on(&mut self, patience: Duration) -> io::Result<Option<Totals>> {
        interrupt::check()?;
        self.sources.write(self.poll.registry(), self.ticks.next_sequence())?;
        self.timer.set(patience.min(SLEEP))?;
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        let mut totals = None;
        for event in &self.events {
            match event.token() {
                TIMER => {}
                SERVER_LOG => {
                    totals = self.server_log.as_mut().map_or(Ok(None), ServerLog::read)?
                }
                Token(place) if place < self.steady.len() => {
                    let steady = &mut self.steady[place];
                    let mut arrived = |late: Duration| {
                        self.latencies.saturating_record(late.as_nanos() as u64);
                    };
                    let in_flight = self.ticks.in_flight();
                    while steady.read(&mut self.buffer, in_flight, &mut arrived)? {}
                    self.last_arrival = Instant::now();
                }
                Token(token) if token < FIRST_VISITOR => self.sources.note(event),
                Token(token) => self.visitors.note(token),
            }
        }
        let now = Instant::now();
        let (next_sequence, broadcasts) = (self.ticks.next_sequence(), self.ticks.broadcasts());
        self.visitors.look(now, &mut self.buffer, Sent { next_sequence, broadcasts })?;
        self.check_patience(now)?;
        Ok(totals)
    }

    /// Asks for totals; returns whether there will be any.
    fn ask(&mut self, now: Instant) -> io::Result<bool> {
        let (Some(process), Some(_)) = (self.process, &self.server_log) else { return Ok(false) };
        self.asked = Some(now);
        process.signal(Signal::USR1)?;
        Ok(true)
    }

    /// Asks for totals and waits for them; `None` where there are none.
    fn totals(&mut self) -> io::Result<Option<Totals>> {
        let mut totals = None;
        if self.ask(Instant::now())? {
            while totals.is_none() {
                totals = self.go_on(SLEEP)?;
            }
            self.asked = None;
        }
        Ok(totals)
    }

    fn sample(&mut self, totals: Option<Totals>) {
        let now = Instant::now();
        self.next_sample += self.spec.every;
        let percentiles = Percentiles::of(&self.latencies);
        self.latencies.reset();
        let (cpu_before, before) = self.cpu;
        self.cpu = (self.process.and_then(Process::cpu_time), now);
        let used = self.cpu.0.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        let time = (now - before).as_secs_f64();
        let sample = Sample {
            seconds: (now - self.start).as_secs_f64(),
            events: self.ticks.next_sequence() - 1,
            visitors: self.visitors.ever(),
            memory_bytes: self.process.and_then(Process::memory),
            descriptors: self.process.and_then(Process::descriptors),
            clients: totals.map(|totals| totals.clients_connected),
            sources: totals.map(|totals| totals.sources_connected),
            p50_us: percentiles.p50,
            p99_us: percentiles.p99,
            max_us: percentiles.max,
            server_busy: used.map(|used| used.as_secs_f64() / time),
            own_memory_bytes: Process { id: std::process::id() }.memory(),
        };
        (self.show)(&sample.row());
        self.samples.push(sample);
    }

    /// # Errors
    ///
    /// Nothing has come for too long where something is due.
    fn check_patience(&mut self, now: Instant) -> io::Result<()> {
        let timeout = self.spec.timeout;
        if self.asked.is_some_and(|asked| now - asked > timeout) {
            return Err(io::Error::other(format!("SIGUSR1 brought no totals within {timeout:?}")));
        }
        if self.ticks.is_at_rest() {
            self.last_arrival = now;
        } else if now.saturating_duration_since(self.last_arrival) > timeout {
            let in_flight = self.ticks.in_flight();
            let mut missing = self.steady.iter_mut().filter_map(|one| one.missing(in_flight));
            return missing.next().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Waits until everything has arrived, lets all visitors leave, and sees to it that the server
    /// has forgotten them and sends nothing more.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    fn finish(&mut self) -> io::Result<()> {
        while !self.ticks.is_at_rest() {
            self.go_on(SLEEP)?;
        }
        self.visitors.send_home();
        self.wait_for_rest()?;
        let mut sources: Vec<_> = self.sources.streams().collect();
        let mut clients: Vec<Served<'_>> =
            self.steady.iter_mut().map(PersistentClient::served).collect();
        expect_silence(&mut sources, &mut clients)
    }

    /// Waits until the server counts nobody but those who are connected.
    fn wait_for_rest(&mut self) -> io::Result<()> {
        let rest = Totals {
            clients_connected: self.spec.steady,
            sources_connected: self.spec.sources as u64,
            queued_bytes: 0,
        };
        let descriptors =
            self.descriptors_before.map(|before| before + self.steady.len() + self.spec.sources);
        let deadline = Instant::now() + self.spec.timeout;
        while let Some(totals) = self.totals()? {
            let open = self.process.and_then(Process::descriptors);
            if totals == rest && open == descriptors {
                break;
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "at rest the server says {totals:?} and has {open:?} descriptors, where \
                     {rest:?} and {descriptors:?} are expected"
                )));
            }
            self.listen(ASK_AGAIN)?;
        }
        Ok(())
    }

    /// Goes on for so long.
    fn listen(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.go_on(SLEEP)?;
        }
        Ok(())
    }
}
