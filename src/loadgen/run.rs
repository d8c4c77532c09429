//! One run: slices from a load, exchanged with a server, and what they came to.

use std::io;
use std::time::{Duration, Instant};

use log::debug;
use serde::Serialize;

use super::fault::Fault;
use super::figures::Figures;
use super::interrupt::Interrupted;
use super::process::{Process, allow_clients};
use super::progress::Progress;
use super::server::Server;
use super::session::{Observer, Session};
use super::settings::Habits;
use super::slice::{Load, Slice};

/// Time between two points of a run's course.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// How a run is done, apart from its load.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Events that the run will have, for the progress line.
    pub(crate) total_events: u64,
    pub(crate) habits: Habits,
    /// The server says on its output when it has prepared a slice as well.
    pub(crate) server_prepares: bool,
    /// Keep the course of the run.
    pub(crate) sample: bool,
    /// Check what clients receive; otherwise only count it.
    pub(crate) check: bool,
}

impl Manner {
    /// Everything checked, no course kept.
    pub(crate) fn new(total_events: u64, habits: Habits) -> Manner {
        Manner { total_events, habits, server_prepares: false, sample: false, check: true }
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    /// First things first.
    pub(crate) faults: Vec<Fault>,
    pub(crate) samples: Vec<Sample>,
    /// A signal came, and this is what there was until then.
    pub(crate) is_interrupted: bool,
}

/// How far a run was at one moment of its measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Events sent, by their share of the bytes.
    pub(crate) events: f64,
    pub(crate) delivered_bytes: u64,
    /// Due to clients for what was sent, by its share of the bytes, and not received yet.
    pub(crate) bytes_under_way: f64,
    /// The server's resident memory.
    pub(crate) memory_bytes: Option<u64>,
}

/// Runs `load` against `server` with a client for each of `users`.
///
/// Stops after the first slice that shows a fault, and at a signal.
///
/// # Errors
///
/// A connection that cannot be made, or the source's connection fails.
pub(crate) fn run(
    load: &mut dyn Load,
    users: &[u64],
    server: &mut Server,
    manner: Manner,
) -> io::Result<Outcome> {
    allow_clients(users.len())?;
    let mut slice = Slice::for_clients(users.len());
    // Prepared first, so that nothing lies between the last client's id and the first event.
    let mut more = prepare(load, &mut slice, server, manner)?;
    let mut session = Session::connect(server.addresses, users, load, manner.habits.timeout)?;
    let mut watch = Watch::new(manner, server.process);
    let mut exchange_all = || {
        while more && !session.has_faults() {
            exchange(&mut session, &slice, &mut watch, manner)?;
            more = !session.has_faults() && prepare(load, &mut slice, server, manner)?;
        }
        Ok(())
    };
    let result = exchange_all().and_then(|()| end(session, manner));
    let peak = server.process.and_then(Process::peak_memory);
    match result {
        Ok(faults) => Ok(watch.into_outcome(faults, peak)),
        Err(error) if Interrupted::of(&error).is_some() => {
            watch.stop_early(&slice);
            let outcome = watch.into_outcome(Vec::new(), peak);
            Ok(Outcome { is_interrupted: true, ..outcome })
        }
        Err(error) => Err(error),
    }
}

fn exchange(
    session: &mut Session,
    slice: &Slice,
    watch: &mut Watch,
    manner: Manner,
) -> io::Result<()> {
    watch.start(slice);
    if manner.check {
        let time = session.exchange(slice, watch)?;
        watch.stop(slice, slice.deliveries.lines(), slice.deliveries.bytes(), time);
    } else {
        let count = session.count(slice, watch)?;
        watch.stop(slice, count.lines, count.bytes, count.time);
    }
    debug!("{} events sent, {:?} measured", watch.figures.events, watch.measured);
    Ok(())
}

fn end(session: Session, manner: Manner) -> io::Result<Vec<Fault>> {
    if session.has_faults() {
        return Ok(session.into_faults());
    }
    if manner.check { session.finish() } else { session.end().map(|()| Vec::new()) }
}

fn prepare(
    load: &mut dyn Load,
    slice: &mut Slice,
    server: &mut Server,
    manner: Manner,
) -> io::Result<bool> {
    let more = load.prepare(slice)?;
    if more && manner.server_prepares {
        server.next_line()?;
    }
    Ok(more)
}

/// Adds up the slices, and keeps the course of the run.
struct Watch {
    progress: Progress,
    process: Option<Process>,
    figures: Figures,
    measured: Duration,
    cpu: Option<Duration>,
    cpu_before: Option<Duration>,
    slice: SliceSize,
    slice_start: Instant,
    /// Progress in the slice: the time, and the bytes sent and received.
    last: Option<(Instant, u64, u64)>,
    /// Where a course is kept: its points, and when the next one is due.
    samples: Option<(Vec<Sample>, Instant)>,
}

#[derive(Default)]
struct SliceSize {
    events: u64,
    /// Bytes that the source sends, and bytes that the clients must receive.
    wire: u64,
    due: u64,
}

impl Watch {
    fn new(manner: Manner, process: Option<Process>) -> Watch {
        let now = Instant::now();
        Watch {
            progress: Progress::new(manner.total_events, manner.habits.log_interval),
            process,
            figures: Figures::default(),
            measured: Duration::ZERO,
            cpu: Some(Duration::ZERO),
            cpu_before: None,
            slice: SliceSize::default(),
            slice_start: now,
            last: None,
            samples: manner.sample.then(|| (Vec::new(), now)),
        }
    }

    fn start(&mut self, slice: &Slice) {
        self.slice = SliceSize {
            events: slice.events,
            wire: slice.wire.len() as u64,
            due: slice.deliveries.bytes(),
        };
        self.cpu_before = self.process.and_then(Process::cpu_time);
        self.slice_start = Instant::now();
    }

    /// Adds what there is of a slice that is under way, its lines by their share of the bytes.
    fn stop_early(&mut self, slice: &Slice) {
        let Some((now, sent, received)) = self.last.take() else { return };
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        self.measured += now - self.slice_start;
        self.figures.events += (share(sent, self.slice.wire) * slice.events as f64) as u64;
        self.figures.source_bytes += sent;
        let lines = slice.deliveries.lines() as f64;
        self.figures.deliveries += (share(received, self.slice.due) * lines) as u64;
        self.figures.delivered_bytes += received;
    }

    fn stop(&mut self, slice: &Slice, lines: u64, bytes: u64, time: Duration) {
        self.last = None;
        let cpu_after = self.process.and_then(Process::cpu_time);
        let used = cpu_after.zip(self.cpu_before).map(|(after, before)| after - before);
        self.cpu = self.cpu.zip(used).map(|(sum, used)| sum + used);
        self.measured += time;
        self.figures.events += slice.events;
        self.figures.source_bytes += slice.wire.len() as u64;
        self.figures.deliveries += lines;
        self.figures.delivered_bytes += bytes;
    }

    fn into_outcome(self, faults: Vec<Fault>, peak_memory: Option<u64>) -> Outcome {
        let figures = Figures {
            server_cpu_seconds: self.cpu.map(|cpu| cpu.as_secs_f64()),
            server_peak_bytes: peak_memory,
            ..self.figures
        };
        let samples = self.samples.map_or(Vec::new(), |(samples, _)| samples);
        let figures = figures.with_rates(self.measured);
        Outcome { figures, faults, samples, is_interrupted: false }
    }
}

impl Observer for Watch {
    fn progress(&mut self, now: Instant, sent: u64, received: u64) {
        self.last = Some((now, sent, received));
        let share = sent as f64 / self.slice.wire.max(1) as f64;
        let events = self.figures.events as f64 + share * self.slice.events as f64;
        self.progress.show(now, events as u64);
        let Some((samples, next)) = &mut self.samples else { return };
        if now < *next {
            return;
        }
        *next = now + SAMPLE_INTERVAL;
        samples.push(Sample {
            seconds: (self.measured + (now - self.slice_start)).as_secs_f64(),
            events,
            delivered_bytes: self.figures.delivered_bytes + received,
            bytes_under_way: (share * self.slice.due as f64 - received as f64).max(0.0),
            memory_bytes: self.process.and_then(Process::memory),
        });
    }
}
