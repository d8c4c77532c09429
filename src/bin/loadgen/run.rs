//! A run: segments of a workload exchanged with a server, and the outcome.

use std::io;
use std::time::{Duration, Instant};

use log::debug;
use serde::Serialize;
use serde_json::json;

use crate::client::reconnects::Reconnects;
use crate::client::session::{Observer, Session};
use crate::client::sync::Answers;
use crate::options::CommonOptions;
use crate::oracle::mismatch::{Mismatch, MismatchKind};
use crate::output::chart::{Axis, Chart, LineChart, Series, rates};
use crate::output::document::{Findings, Verdict};
use crate::output::progress::Progress;
use crate::output::summary::Summary;
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::Interrupted;
use crate::target::monitor::Monitor;
use crate::target::server::Server;
use crate::workload::segment::{Segment, Workload};

/// Minimum time between two samples …
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_millis(1);
/// … or this part of the time so far, if that is more: so any run has at most some hundred samples.
const SAMPLES_PER_TIME: u32 = 100;

/// Options of a run.
#[derive(Clone, Copy)]
pub(crate) struct RunOptions {
    /// Total number of events, for the progress bar.
    pub(crate) total_events: u64,
    pub(crate) common: CommonOptions,
    /// The server generates the same segments and reports each on its output.
    pub(crate) server_mirrors_segments: bool,
    /// Keep samples over time.
    pub(crate) sample: bool,
    /// Compare what clients receive; otherwise only count it.
    pub(crate) check: bool,
    /// The source speaks `SYNC`, and the stream begins at sequence 1.
    pub(crate) sync: bool,
    /// Mean time between two clients that drop their connections and come back.
    pub(crate) reconnect_every: Option<Duration>,
}

impl RunOptions {
    /// Options with comparison and without samples.
    pub(crate) fn new(total_events: u64, common: CommonOptions) -> RunOptions {
        RunOptions {
            total_events,
            common,
            server_mirrors_segments: false,
            sample: false,
            check: true,
            sync: false,
            reconnect_every: None,
        }
    }
}

/// Outcome of a run.
pub(crate) struct Outcome {
    pub(crate) summary: Summary,
    /// In the order of detection.
    pub(crate) mismatches: Vec<Mismatch>,
    pub(crate) samples: Vec<Sample>,
    /// A signal ended the run early.
    pub(crate) is_interrupted: bool,
    /// Time without progress after which a run ends.
    timeout: Duration,
}

/// Sequence of the first event of a stream.
pub(crate) const FIRST_SEQUENCE: u64 = 1;

/// Mismatches shown after the first.
const MAX_SHOWN_MISMATCHES: usize = 4;

/// Formats the mismatches of a run as text. `None` if there are none. `timeout` is the time without progress
/// after which the run ends.
pub(crate) fn mismatch_text(mismatches: &[Mismatch], timeout: Duration) -> Option<String> {
    let (first, others) = mismatches.split_first()?;
    let mut text = format!("NOT AS EXPECTED\n  {first}\n");
    for other in others.iter().take(MAX_SHOWN_MISMATCHES) {
        text.push_str(&format!("  {other}\n"));
    }
    text.push_str(&match others.len().saturating_sub(MAX_SHOWN_MISMATCHES) {
        0 => String::new(),
        1 => "  1 more user differs\n".to_owned(),
        count => format!("  {count} more users differ\n"),
    });
    text.push_str(&hint(first, timeout).map(|hint| format!("  {hint}\n")).unwrap_or_default());
    Some(text)
}

/// Explains the first mismatch.
fn hint(first: &Mismatch, timeout: Duration) -> Option<String> {
    match first.kind {
        MismatchKind::Missing(_) => {
            Some(format!("gave up after {timeout:?} without progress (--timeout)"))
        }
        _ => first.hint().map(str::to_owned),
    }
}

impl Outcome {
    /// Formats the result as text.
    pub(crate) fn text(&self) -> String {
        match mismatch_text(&self.mismatches, self.timeout) {
            Some(text) => text,
            None if self.is_interrupted => format!("INTERRUPTED\n{}", self.summary),
            None => format!("ALL NOTIFICATIONS RECEIVED\n{}", self.summary),
        }
    }

    /// Returns the result for JSON and a report.
    pub(crate) fn findings(&self) -> Findings {
        if let Some(first) = self.mismatches.first() {
            // After a mismatch the figures are meaningless.
            let findings =
                Findings::failed(self.mismatches.iter().map(ToString::to_string).collect());
            return match hint(first, self.timeout) {
                Some(hint) => Findings { reason: format!("{first}; {hint}"), ..findings },
                None => findings,
            };
        }
        let (verdict, reason) = match self.is_interrupted {
            true => {
                (Verdict::Interrupted, "A signal ended the run; these are the figures up to it.")
            }
            false => (Verdict::Passed, "Every byte received by every client matched."),
        };
        Findings {
            runs: vec![json!(self.summary)],
            series: self.samples.iter().map(|sample| json!(sample)).collect(),
            tables: vec![self.summary.table()],
            charts: self.charts(),
            ..Findings::new(verdict, reason)
        }
    }

    /// Returns the charts of a run with samples.
    fn charts(&self) -> Vec<Chart> {
        let over_time = |title, unit, lines: &[(&'static str, SampleValue)], is_rate: bool| {
            let line = |&(name, value): &(&'static str, SampleValue)| {
                let points = self.samples.iter();
                let points: Vec<(f64, f64)> =
                    points.filter_map(|sample| Some((sample.seconds, value(sample)?))).collect();
                Series { name, points: if is_rate { rates(&points) } else { points } }
            };
            let series = lines.iter().map(line).collect();
            Chart::lines(title, LineChart::over_time(Axis::linear(""), unit, series))
        };
        vec![
            over_time("Events sent", "per second", &[("events", |now| Some(now.events))], true),
            over_time(
                "Bytes delivered",
                "MB per second",
                &[("bytes", |now| Some(now.delivered_bytes as f64 / 1e6))],
                true,
            ),
            over_time(
                "In flight: expected by clients, not received yet",
                "MB",
                &[("in flight", |now| Some(now.in_flight_bytes / 1e6))],
                false,
            ),
            over_time(
                "Resident memory of the server",
                "MB",
                &[("memory", |now| now.memory_bytes.map(|bytes| bytes as f64 / 1e6))],
                false,
            ),
        ]
    }
}

/// Reads a value of a sample.
type SampleValue = fn(&Sample) -> Option<f64>;

/// Progress at one moment of the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Events sent, interpolated by bytes.
    pub(crate) events: f64,
    pub(crate) delivered_bytes: u64,
    /// Expected for the bytes sent so far, interpolated, and not yet received.
    pub(crate) in_flight_bytes: f64,
    /// The server's resident memory.
    pub(crate) memory_bytes: Option<u64>,
}

/// Runs `workload` against `server` with a client per user.
///
/// Stops after the first segment with a mismatch, and after a signal.
///
/// # Errors
///
/// A connection cannot be established, or the source's connection fails.
pub(crate) fn run_load(
    workload: &mut dyn Workload,
    users: &[u64],
    server: &mut Server,
    options: RunOptions,
) -> io::Result<Outcome> {
    allow_clients(users.len())?;
    let mut segment = Segment::for_clients(users.len());
    // The first segment is prepared before connecting, so that events follow the last id at once.
    let mut more = prepare(workload, &mut segment, server, options)?;
    let mut session = connect(workload, users, server, options)?;
    if let Some(every) = options.reconnect_every {
        let reconnects = Reconnects::new(server.addresses.clients, every, users.len() as u64);
        session = session.with_reconnects(reconnects);
    }
    let mut recorder = Recorder::new(options, server.monitor);
    let mut exchange_all = || {
        while more && !session.has_mismatches() {
            run_segment(&mut session, &segment, &mut recorder, options)?;
            more = !session.has_mismatches() && prepare(workload, &mut segment, server, options)?;
        }
        Ok(())
    };
    let result = exchange_all().and_then(|()| {
        if options.sync && !session.has_mismatches() {
            session.wait_until_committed(FIRST_SEQUENCE + recorder.summary.events - 1)?;
            recorder.summary.source_reconnects = Some(session.source_reconnects());
        }
        recorder.summary.client_reconnects = session.client_reconnects();
        end(session, options)
    });
    let peak = server.monitor.and_then(Monitor::peak_memory);
    match result {
        Ok(mismatches) => Ok(recorder.into_outcome(mismatches, peak)),
        Err(error) if Interrupted::of(&error).is_some() => {
            recorder.stop_early(&segment);
            let outcome = recorder.into_outcome(Vec::new(), peak);
            Ok(Outcome { is_interrupted: true, ..outcome })
        }
        Err(error) => Err(error),
    }
}

fn connect(
    workload: &dyn Workload,
    users: &[u64],
    server: &Server,
    options: RunOptions,
) -> io::Result<Session> {
    let timeout = options.common.timeout;
    if !options.sync {
        return Session::connect(server.addresses, users, workload, timeout);
    }
    let mut session =
        Session::connect_synced(server.addresses, users, Answers::default(), timeout)?;
    match session.awaited()? {
        FIRST_SEQUENCE => Ok(session),
        awaited => Err(io::Error::other(format!(
            "the server awaits sequence {awaited}, but the stream begins at {FIRST_SEQUENCE}: it has \
             received events before. Restart it, with an empty data_dir"
        ))),
    }
}

fn run_segment(
    session: &mut Session,
    segment: &Segment,
    recorder: &mut Recorder,
    options: RunOptions,
) -> io::Result<()> {
    recorder.start(segment);
    if let Some(answers) = session.answers() {
        answers.set_sent_before(FIRST_SEQUENCE + recorder.summary.events + segment.events);
    }
    if options.check {
        let time = session.run_segment(segment, recorder)?;
        recorder.stop(segment, segment.deliveries.lines(), segment.deliveries.bytes(), time);
    } else {
        let count = session.count_segment(segment, recorder)?;
        recorder.stop(segment, count.lines, count.bytes, count.time);
    }
    debug!("{} events sent, {:?} measured", recorder.summary.events, recorder.measured);
    Ok(())
}

fn end(session: Session, options: RunOptions) -> io::Result<Vec<Mismatch>> {
    if session.has_mismatches() {
        return Ok(session.into_mismatches());
    }
    if options.check { session.finish() } else { session.end().map(|()| Vec::new()) }
}

fn prepare(
    workload: &mut dyn Workload,
    segment: &mut Segment,
    server: &mut Server,
    options: RunOptions,
) -> io::Result<bool> {
    let more = workload.next_segment(segment)?;
    if more && options.server_mirrors_segments {
        server.next_line()?;
    }
    Ok(more)
}

/// Accumulator of the segments' results, and of samples over time.
struct Recorder {
    progress: Progress,
    monitor: Option<Monitor>,
    summary: Summary,
    measured: Duration,
    cpu: Option<Duration>,
    cpu_before: Option<Duration>,
    segment: SegmentSize,
    /// Start of the first segment and end of the last one.
    span: Option<(Instant, Instant)>,
    timeout: Duration,
    segment_start: Instant,
    /// Progress of the current segment: time, and bytes sent and received.
    last: Option<(Instant, u64, u64)>,
    /// With sampling: the samples, and the time of the next one.
    samples: Option<(Vec<Sample>, Instant)>,
}

#[derive(Default)]
struct SegmentSize {
    events: u64,
    /// Bytes to send, and bytes expected by all clients.
    wire: u64,
    due: u64,
}

impl Recorder {
    fn new(options: RunOptions, monitor: Option<Monitor>) -> Recorder {
        let now = Instant::now();
        Recorder {
            progress: Progress::of(options.total_events, "events", options.common.log_interval),
            monitor,
            summary: Summary::default(),
            measured: Duration::ZERO,
            cpu: Some(Duration::ZERO),
            cpu_before: None,
            segment: SegmentSize::default(),
            span: None,
            timeout: options.common.timeout,
            segment_start: now,
            last: None,
            samples: options.sample.then(|| (Vec::new(), now)),
        }
    }

    fn start(&mut self, segment: &Segment) {
        self.segment = SegmentSize {
            events: segment.events,
            wire: segment.wire.len() as u64,
            due: segment.deliveries.bytes(),
        };
        self.cpu_before = self.monitor.and_then(Monitor::cpu_time);
        self.segment_start = Instant::now();
    }

    /// Adds an incomplete segment, its events and lines interpolated by bytes.
    fn stop_early(&mut self, segment: &Segment) {
        let Some((now, sent, received)) = self.last.take() else { return };
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        self.add_time(now - self.segment_start);
        self.summary.events += (share(sent, self.segment.wire) * segment.events as f64) as u64;
        self.summary.source_bytes += sent;
        let lines = segment.deliveries.lines() as f64;
        self.summary.deliveries += (share(received, self.segment.due) * lines) as u64;
        self.summary.delivered_bytes += received;
    }

    fn stop(&mut self, segment: &Segment, lines: u64, bytes: u64, time: Duration) {
        self.last = None;
        self.add_time(time);
        self.summary.events += segment.events;
        self.summary.source_bytes += segment.wire.len() as u64;
        self.summary.deliveries += lines;
        self.summary.delivered_bytes += bytes;
    }

    /// Adds the time of the current segment, and the server's CPU time since its start.
    fn add_time(&mut self, time: Duration) {
        let cpu_after = self.monitor.and_then(Monitor::cpu_time);
        let used =
            cpu_after.zip(self.cpu_before).map(|(after, before)| after.saturating_sub(before));
        self.cpu = self.cpu.zip(used).map(|(sum, used)| sum + used);
        self.measured += time;
        let first = self.span.map_or(self.segment_start, |(first, _)| first);
        self.span = Some((first, self.segment_start + time));
    }

    fn into_outcome(self, mismatches: Vec<Mismatch>, peak_memory: Option<u64>) -> Outcome {
        let summary = Summary {
            server_cpu_seconds: self.cpu.map(|cpu| cpu.as_secs_f64()),
            server_peak_bytes: peak_memory,
            preparing_seconds: self.span.map_or(0.0, |(first, last)| {
                (last - first).saturating_sub(self.measured).as_secs_f64()
            }),
            ..self.summary
        };
        let samples = self.samples.map_or(Vec::new(), |(samples, _)| samples);
        let summary = summary.with_rates(self.measured);
        Outcome { summary, mismatches, samples, is_interrupted: false, timeout: self.timeout }
    }
}

impl Observer for Recorder {
    fn progress(&mut self, now: Instant, sent: u64, received: u64) {
        self.last = Some((now, sent, received));
        let share = sent as f64 / self.segment.wire.max(1) as f64;
        let events = self.summary.events as f64 + share * self.segment.events as f64;
        let time = self.measured + (now - self.segment_start);
        self.progress.show(now, time, events as u64);
        let Some((samples, next)) = &mut self.samples else { return };
        if now < *next {
            return;
        }
        *next = now + MIN_SAMPLE_INTERVAL.max(time / SAMPLES_PER_TIME);
        samples.push(Sample {
            seconds: time.as_secs_f64(),
            events,
            delivered_bytes: self.summary.delivered_bytes + received,
            in_flight_bytes: (share * self.segment.due as f64 - received as f64).max(0.0),
            memory_bytes: self.monitor.and_then(Monitor::memory),
        });
    }
}
