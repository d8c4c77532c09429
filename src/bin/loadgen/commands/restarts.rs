//! `verify --restart-every`: a generated load against a server that is killed and started again.
//!
//! A *life* lasts from a start of the server to its kill. All clients connect at its beginning, so that they
//! are due exactly the events from the sequence on that the server awaits then.

use std::io;
use std::time::{Duration, Instant};

use log::debug;
use serde::Serialize;
use serde_json::json;

use crate::client::reconnects::Reconnects;
use crate::client::session::{Observer, Position, Remains, Session, Until};
use crate::client::sync::Answers;
use crate::options::CommonOptions;
use crate::oracle::mismatch::Mismatch;
use crate::output::chart::{Axis, Chart, LineChart, Series};
use crate::output::document::{Findings, Verdict};
use crate::output::format::{format_bytes, format_count, format_seconds, format_si};
use crate::output::interruption;
use crate::output::progress::Progress;
use crate::output::summary::median;
use crate::output::table::Table;
use crate::run::{FIRST_SEQUENCE, mismatch_text};
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::Interrupted;
use crate::target::server::{Server, ServerCommand};
use crate::workload::chunks::ChunkedStream;
use crate::workload::generated::WorkloadSpec;
use crate::workload::prng::Prng;
use crate::workload::segment::Segment;

/// A start may be killed within this time, in µs.
const MAX_START_MICROS: u64 = 20_000;

/// How often a server is killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestartPlan {
    /// Mean length of a life.
    pub(super) every: Duration,
    /// Number of kills after which the stream ends. `None`: it ends after all events.
    pub(super) restarts: Option<u64>,
    /// Mean time between two clients that leave and come back, as all do after a restart. `None`: after a restart
    /// clients are due only the events from the awaited sequence on.
    pub(super) reconnect_every: Option<Duration>,
}

/// Outcome of a run with restarts.
pub(super) struct RestartOutcome {
    figures: Figures,
    starts: Vec<StartTime>,
    mismatches: Vec<Mismatch>,
    is_interrupted: bool,
    /// Time without progress after which a run ends.
    timeout: Duration,
}

/// A start of the server after a kill.
#[derive(Clone, Copy, Debug)]
struct StartTime {
    /// Since the start of the run.
    seconds: f64,
    /// From the start of the program to its ready line.
    duration_seconds: f64,
}

/// Figures of a run with restarts.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    /// Events that the server has applied.
    events: u64,
    /// Bytes that all clients have received.
    delivered_bytes: u64,
    /// From the first start to the end, with all restarts.
    seconds: f64,
    restarts: u64,
    /// Further kills, in the first milliseconds of a start.
    killed_starts: u64,
    /// Clients that left and came back, besides those after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_reconnects: Option<u64>,
    /// Time from a start of the program to its ready line, of all starts but the first.
    start_median_seconds: Option<f64>,
    start_max_seconds: Option<f64>,
    /// Users whose follows the last round has shown, and the number of its status updates.
    last_users: u64,
    last_status_updates: u64,
    events_per_second: f64,
}

impl RestartOutcome {
    pub(super) fn text(&self) -> String {
        if let Some(text) = mismatch_text(&self.mismatches, self.timeout) {
            return text;
        }
        let Figures { events, delivered_bytes, seconds, restarts, .. } = self.figures;
        let head = match self.is_interrupted {
            true => interruption(),
            false => "ALL NOTIFICATIONS RECEIVED\n",
        };
        let mut text = format!(
            "{head}  time        {seconds:.3} s, with all restarts\n  \
               events      {events:<12} {}/s\n  \
               bytes       {:.1} MB out\n  \
               restarts    {restarts:<12}",
            format_si(self.figures.events_per_second),
            delivered_bytes as f64 / 1e6,
        );
        if let (Some(median), Some(max)) =
            (self.figures.start_median_seconds, self.figures.start_max_seconds)
        {
            let (median, max) = (format_seconds(median), format_seconds(max));
            text += &format!(" a start took {median} in the median, {max} at most");
        }
        text += &format!("\n  kills       {} more while it started\n", self.figures.killed_starts);
        if let Some(count) = self.figures.client_reconnects {
            text += &format!("  reconnects  {count} of clients, besides those after a restart\n");
        }
        let Figures { last_users, last_status_updates, .. } = self.figures;
        if last_users > 0 {
            text += &format!(
                "  graph       of {last_users} users as expected, by {last_status_updates} status updates\n"
            );
        }
        text
    }

    pub(super) fn findings(&self) -> Findings {
        let mismatches: Vec<String> = self.mismatches.iter().map(ToString::to_string).collect();
        if !mismatches.is_empty() {
            return Findings::failed(mismatches);
        }
        let (verdict, reason) = match self.is_interrupted {
            true => {
                (Verdict::Interrupted, "A signal ended the run; these are the figures up to it.")
            }
            false => (
                Verdict::Passed,
                "In every life of the server each client received what was due, and at the end the graph \
                 was as expected.",
            ),
        };
        Findings {
            runs: vec![json!(self.figures)],
            tables: vec![self.figures.table()],
            charts: vec![self.chart()],
            ..Findings::new(verdict, reason)
        }
    }

    fn chart(&self) -> Chart {
        let points = self.starts.iter().map(|start| (start.seconds, start.duration_seconds * 1e3));
        let series = vec![Series { name: "start", points: points.collect() }];
        let title = "Time of each start, from the program's start to its ready line";
        Chart::lines(title, LineChart::over_time(Axis::linear(""), "ms", series))
    }
}

impl Figures {
    fn table(&self) -> Table {
        let mut table = Table::new("Restarts", &["", ""]);
        table.add_pair("Events applied", format_count(self.events));
        table.add_pair("Bytes delivered", format_bytes(self.delivered_bytes as f64));
        table.add_pair("Time, with all restarts", format_seconds(self.seconds));
        table.add_pair("Restarts", format_count(self.restarts));
        table.add_pair("Kills during a start", format_count(self.killed_starts));
        for (name, seconds) in [
            ("Median time of a start", self.start_median_seconds),
            ("Longest start", self.start_max_seconds),
        ] {
            if let Some(seconds) = seconds {
                table.add_pair(name, format_seconds(seconds));
            }
        }
        table.add_pair("Users in the last round", format_count(self.last_users));
        table
    }
}

/// Runs `spec` against the server that `command` starts, with kills in between, and stops it.
///
/// # Errors
///
/// A connection fails, or the server does not start, forgets something, or does not stop properly.
pub(super) fn verify(
    spec: &WorkloadSpec,
    common: CommonOptions,
    command: &ServerCommand,
    plan: RestartPlan,
) -> io::Result<RestartOutcome> {
    let total_events = plan.restarts.map_or(spec.total_events, |_| u64::MAX);
    let mut stream = ChunkedStream::new(spec.clone(), total_events);
    stream.next_chunk()?;
    allow_clients(stream.last_users().len())?;
    let progress = match plan.restarts {
        Some(restarts) => Progress::of(restarts, "restarts", common.log_interval),
        None => Progress::of(spec.total_events, "events", common.log_interval),
    };
    let start = Instant::now();
    let server = Server::start(command)?;
    let mut run = Run {
        command: command.clone().listening_on(server.addresses),
        plan,
        timeout: common.timeout,
        segment: Segment::for_clients(stream.clients().len()),
        stream,
        answers: Answers::default(),
        received: None,
        positions: None,
        from: FIRST_SEQUENCE,
        random: Prng::from_seed(spec.seed),
        began: start,
        starts: Vec::new(),
        figures: Figures::default(),
        progress,
    };
    let result = run.run(server);
    let figures = run.figures(start.elapsed());
    let (mismatches, is_interrupted) = match result {
        Ok(mismatches) => (mismatches, false),
        Err(error) if Interrupted::of(&error).is_some() => (Vec::new(), true),
        Err(error) => return Err(error),
    };
    let timeout = common.timeout;
    Ok(RestartOutcome { figures, starts: run.starts, mismatches, is_interrupted, timeout })
}

/// A run in progress.
struct Run {
    command: ServerCommand,
    plan: RestartPlan,
    timeout: Duration,
    stream: ChunkedStream,
    segment: Segment,
    /// What the server has said so far.
    answers: Answers,
    /// What clients had received when the server was killed. `None` before the first kill.
    received: Option<Vec<u64>>,
    /// Where clients come back. `None` before the first kill, and if they do not.
    positions: Option<Vec<Position>>,
    /// The sequence from which on that was due.
    from: u64,
    random: Prng,
    began: Instant,
    /// All starts but the first.
    starts: Vec<StartTime>,
    figures: Figures,
    progress: Progress,
}

/// The end of a life.
enum LifeEnd {
    /// The time to kill the server has come.
    Due(Session),
    /// The stream has ended.
    Complete(Session),
    /// A client has received something else than expected.
    Mismatch(Session),
}

impl Run {
    fn run(&mut self, mut server: Server) -> io::Result<Vec<Mismatch>> {
        loop {
            let (session, is_complete) = match self.live(&server)? {
                LifeEnd::Due(session) => (session, false),
                LifeEnd::Complete(session) => (session, true),
                LifeEnd::Mismatch(session) => return Ok(session.into_mismatches()),
            };
            server.kill()?;
            let mismatches = self.take_remains(session.read_to_end(&self.segment)?);
            if !mismatches.is_empty() {
                return Ok(mismatches);
            }
            server = self.restart()?;
            if is_complete {
                return self.show_graph(server);
            }
        }
    }

    /// Connects to a server that has just started, and sends until it is to be killed.
    fn live(&mut self, server: &Server) -> io::Result<LifeEnd> {
        let mut positions = self.positions.take();
        let mut session = self.connect(server, positions.as_deref())?;
        let awaited = session.awaited()?;
        self.check_start(awaited)?;
        debug!("life {}: sequence {awaited} is awaited", self.figures.restarts + 1);
        let until = self.next_kill(awaited);
        if positions.is_none() {
            self.from = awaited;
        }
        loop {
            while self.from == self.stream.range().end {
                if !self.has_more_to_send() || !self.stream.next_chunk()? {
                    self.count_reconnects(&session);
                    return Ok(LifeEnd::Complete(session));
                }
            }
            let end = self.stream.range().end;
            // Clients that have come back continue the same segment. What the server has of it already is late.
            if positions.take().is_none() {
                self.stream.write_segment(self.from, &mut self.segment);
            }
            if !self.send(&mut session, until)? {
                self.count_reconnects(&session);
                return Ok(LifeEnd::Due(session));
            }
            if session.has_mismatches() {
                return Ok(LifeEnd::Mismatch(session));
            }
            // The last events may have no recipients. The server may have committed all before it was killed.
            if awaited < end {
                session.wait_until_committed(end - 1)?;
            }
            self.figures.delivered_bytes += self.segment.deliveries.bytes();
            self.from = end;
        }
    }

    /// Connects the source and the clients, which come back where they are.
    fn connect(&self, server: &Server, positions: Option<&[Position]>) -> io::Result<Session> {
        let (to, clients, timeout) = (server.addresses, self.stream.clients(), self.timeout);
        let answers = self.answers.continued();
        let session = match positions {
            None => Session::connect_synced(to, clients, answers, timeout)?,
            Some(positions) => {
                Session::connect_returning(to, clients, positions, answers, timeout)?
            }
        };
        Ok(match self.plan.reconnect_every {
            None => session,
            Some(every) => {
                session.with_reconnects(Reconnects::new(to.clients, every, self.figures.restarts))
            }
        })
    }

    fn count_reconnects(&mut self, session: &Session) {
        if let Some(count) = session.client_reconnects() {
            *self.figures.client_reconnects.get_or_insert_default() += count;
        }
    }

    /// Sends the segment. Returns whether everything has arrived, or something wrong.
    fn send(&mut self, session: &mut Session, until: Option<Until>) -> io::Result<bool> {
        if let Some(answers) = session.answers() {
            answers.set_sent_before(self.from + self.segment.events);
        }
        let mut observer = RunProgress {
            progress: &mut self.progress,
            began: self.began,
            restarts: self.plan.restarts.map(|_| self.figures.restarts),
            events: self.from - FIRST_SEQUENCE,
            segment_events: self.segment.events as f64,
            segment_bytes: self.segment.wire.len().max(1) as f64,
        };
        let end = session.run_segment_until(&self.segment, &mut observer, until)?;
        Ok(end.is_complete)
    }

    fn has_more_to_send(&self) -> bool {
        self.plan.restarts.is_none_or(|restarts| self.figures.restarts < restarts)
    }

    /// Returns the time of the next kill. `None` once there have been enough. In each life something is
    /// committed, so that the stream advances.
    fn next_kill(&mut self, awaited: u64) -> Option<Until> {
        let share = 0.5 + self.random.below(1001) as f64 / 1000.0;
        let time = Instant::now() + self.plan.every.mul_f64(share);
        self.has_more_to_send().then_some(Until { time, committed: awaited })
    }

    /// Starts the server again. Every fourth time it is killed once more while it starts.
    fn restart(&mut self) -> io::Result<Server> {
        if self.random.below(4) == 0 {
            let after = Duration::from_micros(self.random.below(MAX_START_MICROS));
            Server::start_and_kill(&self.command, after)?;
            self.figures.killed_starts += 1;
        }
        let start = Instant::now();
        let server = Server::start(&self.command)?;
        self.starts.push(StartTime {
            seconds: self.began.elapsed().as_secs_f64(),
            duration_seconds: start.elapsed().as_secs_f64(),
        });
        self.figures.restarts += 1;
        Ok(server)
    }

    /// Checks that a server that awaits a sequence after its start has forgotten nothing that a client has
    /// received. (That it has forgotten nothing of which it has said that it is committed, is checked with
    /// the answers.)
    fn check_start(&self, awaited: u64) -> io::Result<()> {
        let Some(received) = &self.received else {
            return match awaited {
                FIRST_SEQUENCE => Ok(()),
                _ => Err(io::Error::other(format!(
                    "the server awaits sequence {awaited} at first, not {FIRST_SEQUENCE}: --data-dir has to \
                     name an empty directory"
                ))),
            };
        };
        let (from, end) = (self.from, self.stream.range().end);
        if awaited < from || awaited > end {
            return Err(io::Error::other(format!(
                "the server awaits sequence {awaited} after a restart, but {from} was awaited before, and \
                 all up to {} were sent",
                end - 1
            )));
        }
        let due = self.stream.bytes_due(from..awaited);
        for ((user, due), received) in self.stream.clients().iter().zip(due).zip(received) {
            if *received > due {
                return Err(io::Error::other(format!(
                    "user {user} had received {received} bytes from sequence {from} on, but those before \
                     {awaited}, which the server awaits after a restart, have only {due}: it has forgotten \
                     what a client has received"
                )));
            }
        }
        Ok(())
    }

    /// Takes what is left of a session whose server was killed. Returns the differences.
    fn take_remains(&mut self, remains: Remains) -> Vec<Mismatch> {
        let is_continued =
            self.plan.reconnect_every.is_some() && self.from < self.stream.range().end;
        self.positions = is_continued.then_some(remains.positions);
        // A complete segment is counted already, and one that is continued will be.
        if is_continued {
            self.received = Some(remains.received);
        } else if self.from < self.stream.range().end {
            self.figures.delivered_bytes += remains.received.iter().sum::<u64>();
            self.received = Some(remains.received);
        } else {
            self.received = Some(vec![0; remains.received.len()]);
        }
        self.answers = remains.answers;
        remains.mismatches
    }

    /// Lets status updates show the follower graph of a server that has restarted, and stops it.
    fn show_graph(&mut self, server: Server) -> io::Result<Vec<Mismatch>> {
        let answers = self.answers.continued();
        let users = self.stream.last_users();
        self.figures.last_users = users.len() as u64;
        let mut session = Session::connect_synced(server.addresses, users, answers, self.timeout)?;
        self.check_start(session.awaited()?)?;
        self.stream.write_last_round(&mut self.segment);
        self.figures.last_status_updates = self.segment.events - 1;
        self.send(&mut session, None)?;
        if session.has_mismatches() {
            return Ok(session.into_mismatches());
        }
        let next = self.from + self.segment.events;
        session.wait_until_committed(next - 1)?;
        self.figures.delivered_bytes += self.segment.deliveries.bytes();
        self.from = next;
        let mismatches = session.finish()?;
        server.stop()?;
        Ok(mismatches)
    }

    fn figures(&self, time: Duration) -> Figures {
        let events = self.from - FIRST_SEQUENCE;
        let seconds = time.as_secs_f64();
        let starts: Vec<f64> = self.starts.iter().map(|start| start.duration_seconds).collect();
        Figures {
            events,
            seconds,
            start_median_seconds: (!starts.is_empty()).then(|| median(starts.clone())),
            start_max_seconds: starts.iter().copied().max_by(f64::total_cmp),
            events_per_second: events as f64 / seconds,
            ..self.figures.clone()
        }
    }
}

/// Reports the progress of a run while a segment is sent.
struct RunProgress<'a> {
    progress: &'a mut Progress,
    /// When the run began.
    began: Instant,
    /// The restarts so far, if they are the goal.
    restarts: Option<u64>,
    events: u64,
    segment_events: f64,
    segment_bytes: f64,
}

impl Observer for RunProgress<'_> {
    fn progress(&mut self, now: Instant, sent: u64, _: u64) {
        let share = sent as f64 / self.segment_bytes;
        let events = self.events + (share * self.segment_events) as u64;
        self.progress.show(now, now - self.began, self.restarts.unwrap_or(events));
    }
}
