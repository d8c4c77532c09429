//! `verify` with several `--target`: a generated load against servers that share one stream.
//!
//! ```text
//! MovingSource ─▶ one server after another ─▶ the stream ─▶ all servers ─▶ Clients, spread over them
//! ```
//!
//! The stream is sent in chunks that end with a broadcast. A client that has received it has received all
//! before, because a connection gets events in order. So at the end of a chunk all clients have everything, and the
//! expected output of the chunk is needed no more. A client that has connected again within a chunk is due
//! what comes after its registration, at an unknown sequence: its first line may be any that is expected, as
//! long as nothing is left out that was sent after its registration. If that includes the broadcast, another one is added.

mod clients;
mod source;
mod states;

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use serde::Serialize;
use serde_json::json;

use self::clients::Clients;
use self::source::MovingSource;
pub(super) use self::states::compare_states;
use crate::client::run_end::{SILENCE_PERIOD, source_failed};
use crate::options::CommonOptions;
use crate::oracle::mismatch::Mismatch;
use crate::output::document::{Findings, Verdict};
use crate::output::format::{format_bytes, format_count, format_seconds, format_si};
use crate::output::interruption;
use crate::output::progress::Progress;
use crate::output::table::Table;
use crate::run::{FIRST_SEQUENCE, mismatch_text};
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::{self, Interrupted};
use crate::target::admin::AdminPort;
use crate::target::server::Member;
use crate::workload::chunks::ChunkedStream;
use crate::workload::generated::WorkloadSpec;
use crate::workload::prng::Prng;
use crate::workload::segment::Segment;

/// Time between two attempts to connect to a server.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time without a look at lost connections.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes per read.
const READ_BYTES: usize = 256 * 1024;

const SOURCE: Token = Token(usize::MAX - 1);
/// Clients have tokens from 0 on.
const FIRST_PROBE: usize = 1 << 32;

/// Outcome of a run against several servers.
pub(super) struct SharedOutcome {
    figures: Figures,
    /// The state hash of all servers at the end, if they show it.
    state_hash: Option<String>,
    mismatches: Vec<Mismatch>,
    is_interrupted: bool,
    /// Time without progress after which a run ends.
    timeout: Duration,
}

/// Figures of a run against several servers.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    servers: u64,
    /// Events that are committed, with the broadcasts between chunks.
    events: u64,
    /// Bytes that all clients have received.
    delivered_bytes: u64,
    /// From the first event to the end.
    seconds: f64,
    source_moves: u64,
    /// Connections of the source that were lost or refused.
    source_losses: u64,
    client_reconnects: u64,
    events_per_second: f64,
}

impl SharedOutcome {
    pub(super) fn text(&self) -> String {
        if let Some(text) = mismatch_text(&self.mismatches, self.timeout) {
            return text;
        }
        let Figures { servers, events, delivered_bytes, seconds, .. } = self.figures;
        let Figures { source_moves, source_losses, client_reconnects, .. } = self.figures;
        let head = match self.is_interrupted {
            true => interruption(),
            false => "ALL NOTIFICATIONS RECEIVED\n",
        };
        let state = match &self.state_hash {
            Some(hash) => format!("{hash} at all servers"),
            None => "not compared: it is shown at ADMIN ports".to_owned(),
        };
        format!(
            "{head}  time        {seconds:.3} s, by {servers} servers\n  \
               events      {events:<12} {}/s\n  \
               bytes       {:.1} MB out\n  \
               source      {source_moves} moves, {source_losses} lost or refused connections\n  \
               clients     {client_reconnects} reconnects\n  \
               state       {state}\n",
            format_si(self.figures.events_per_second),
            delivered_bytes as f64 / 1e6,
        )
    }

    pub(super) fn findings(&self) -> Findings {
        let mismatches: Vec<String> = self.mismatches.iter().map(ToString::to_string).collect();
        if !mismatches.is_empty() {
            return Findings::failed(mismatches);
        }
        let (verdict, reason) = match (self.is_interrupted, &self.state_hash) {
            (true, _) => (
                Verdict::Interrupted,
                "A signal ended the run; these are the figures up to it.".to_owned(),
            ),
            (false, hash) => {
                let state = hash.as_ref().map_or_else(String::new, |hash| {
                    format!(" At the end the state hash was {hash} at all servers.")
                });
                let reason = "On every connection each client received what was due.";
                (Verdict::Passed, reason.to_owned() + &state)
            }
        };
        Findings {
            runs: vec![json!(self.figures)],
            tables: vec![self.figures.table()],
            ..Findings::new(verdict, reason)
        }
    }
}

impl Figures {
    fn table(&self) -> Table {
        let mut table = Table::new("Several servers", &["", ""]);
        table.add_pair("Servers", format_count(self.servers));
        table.add_pair("Events committed", format_count(self.events));
        table.add_pair("Bytes delivered", format_bytes(self.delivered_bytes as f64));
        table.add_pair("Time", format_seconds(self.seconds));
        table.add_pair("Moves of the source", format_count(self.source_moves));
        table.add_pair(
            "Lost or refused connections of the source",
            format_count(self.source_losses),
        );
        table.add_pair("Reconnects of clients", format_count(self.client_reconnects));
        table
    }
}

/// Runs `spec` against several servers. The source moves about every `move_every`.
///
/// # Errors
///
/// A server is unreachable at the beginning, something is not committed or not received in time, or the
/// states differ at the end.
pub(super) fn verify(
    spec: &WorkloadSpec,
    common: CommonOptions,
    servers: &[Member],
    move_every: Duration,
) -> io::Result<SharedOutcome> {
    allow_clients(spec.clients)?;
    let mut run = Run::connect(spec, common, servers, move_every)?;
    let began = Instant::now();
    let result = run.run();
    let seconds = began.elapsed().as_secs_f64();
    let events = run.source.committed_before().saturating_sub(FIRST_SEQUENCE);
    let figures = Figures {
        servers: servers.len() as u64,
        events,
        delivered_bytes: run.delivered_bytes,
        seconds,
        source_moves: run.source.moves,
        source_losses: run.source.losses,
        client_reconnects: run.clients.reconnects,
        events_per_second: events as f64 / seconds,
    };
    let (mismatches, is_interrupted) = match result {
        Ok(mismatches) => (mismatches, false),
        Err(error) if Interrupted::of(&error).is_some() => (Vec::new(), true),
        Err(error) => return Err(error),
    };
    let state_hash = run.state_hash;
    Ok(SharedOutcome { figures, state_hash, mismatches, is_interrupted, timeout: common.timeout })
}

/// A run in progress.
struct Run {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    stream: ChunkedStream,
    /// The current chunk.
    segment: Segment,
    source: MovingSource,
    clients: Clients,
    admins: Vec<AdminPort>,
    random: Prng,
    move_every: Duration,
    next_move: Instant,
    timeout: Duration,
    progress: Progress,
    began: Instant,
    delivered_bytes: u64,
    state_hash: Option<String>,
}

impl Run {
    fn connect(
        spec: &WorkloadSpec,
        common: CommonOptions,
        servers: &[Member],
        move_every: Duration,
    ) -> io::Result<Run> {
        // The first chunk is prepared before connecting, so that events follow the last id at once.
        let mut stream = ChunkedStream::new(spec.clone(), spec.total_events);
        stream.next_chunk()?;
        let poll = Poll::new()?;
        let addresses = servers.iter().map(|server| server.addresses).collect();
        let clients = Clients::connect(addresses, stream.clients(), poll.registry(), FIRST_PROBE)?;
        let sources = servers.iter().map(|server| server.addresses.events).collect();
        let source = MovingSource::new(sources, poll.registry(), SOURCE)?;
        let now = Instant::now();
        Ok(Run {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            segment: Segment::for_clients(stream.clients().len()),
            stream,
            source,
            clients,
            admins: servers.iter().filter_map(|server| server.admin).collect(),
            random: Prng::from_seed(spec.seed),
            move_every,
            next_move: now + move_every,
            timeout: common.timeout,
            progress: Progress::of(spec.total_events, "events", common.log_interval),
            began: now,
            delivered_bytes: 0,
            state_hash: None,
        })
    }

    fn run(&mut self) -> io::Result<Vec<Mismatch>> {
        loop {
            self.stream.push_broadcast();
            self.segment.clear();
            let chunk = self.stream.range();
            self.stream.write_segment(chunk.start, &mut self.segment);
            self.source.extend(&self.segment.wire, chunk.end);
            self.clients.start_chunk();
            if !self.exchange()? {
                return Ok(self.clients.take_mismatches());
            }
            self.clients.end_chunk(&self.segment);
            if !self.stream.next_chunk()? {
                break;
            }
        }
        let end = self.stream.range().start;
        self.state_hash = compare_states(&self.admins, end, self.timeout)?;
        self.expect_silence()?;
        Ok(self.clients.take_mismatches())
    }

    /// Sends and receives the chunk. Returns whether everything has arrived and is committed; otherwise a
    /// client has received something else than expected, or nothing for too long.
    ///
    /// # Errors
    ///
    /// Nothing more is committed, though all clients have received everything.
    fn exchange(&mut self) -> io::Result<bool> {
        let mut last_progress = Instant::now();
        loop {
            let now = Instant::now();
            if now >= self.next_move {
                self.source.move_on(&mut self.random);
                let share = 0.5 + self.random.below(1001) as f64 / 1000.0;
                self.next_move = now + self.move_every.mul_f64(share);
            }
            let (chunk, committed) = (self.stream.range(), self.source.committed_before());
            self.source.step(&self.segment.wire, &chunk)?;
            let received = self.receive()?;
            let source = &self.source;
            let reconnected = self.clients.reconnect(chunk.start, || source.sent_before())?;
            if self.clients.has_mismatches() {
                return Ok(false);
            }
            if reconnected && self.clients.may_miss(chunk.end - 1) {
                self.lengthen_chunk();
                continue;
            }
            if self.source.is_committed() && self.clients.are_complete(&self.segment, chunk.end - 1)
            {
                return Ok(true);
            }
            let done = self.source.committed_before().saturating_sub(FIRST_SEQUENCE);
            self.progress.show(now, now - self.began, done);
            // What the source sends again and again, and connections that come and go, are no progress.
            if received > 0 || self.source.committed_before() > committed {
                last_progress = now;
            } else if now - last_progress > self.timeout {
                self.clients.report_missing(&self.segment);
                return match self.clients.has_mismatches() {
                    true => Ok(false),
                    false => Err(source_failed(&format!(
                        "no server says `committed {}` within {:?}",
                        chunk.end - 1,
                        self.timeout
                    ))),
                };
            }
        }
    }

    /// Adds a broadcast to the chunk, for clients that may have been registered after the last one.
    fn lengthen_chunk(&mut self) {
        let line = self.stream.push_broadcast().to_vec();
        let chunk = self.stream.range();
        self.stream.write_segment(chunk.start, &mut self.segment);
        self.source.extend(&line, chunk.end);
        self.clients.on_longer_chunk(&self.segment);
    }

    /// Waits for a moment, and reads. Returns the number of bytes that clients have received.
    fn receive(&mut self) -> io::Result<u64> {
        interrupt::check()?;
        let is_busy = self.clients.are_readable() || self.source.is_busy();
        let timeout = if is_busy { Duration::ZERO } else { POLL_INTERVAL };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        for event in &self.events {
            match event.token() {
                SOURCE => self.source.on_ready(event.is_writable(), &mut self.buffer)?,
                Token(token) => self.clients.on_ready(token, &mut self.buffer)?,
            }
        }
        let bytes = self.clients.read(&mut self.buffer, &self.segment);
        self.delivered_bytes += bytes;
        Ok(bytes)
    }

    /// Expects that nothing more arrives.
    fn expect_silence(&mut self) -> io::Result<()> {
        self.segment = Segment::for_clients(self.stream.clients().len());
        self.clients.start_chunk();
        let end = Instant::now() + SILENCE_PERIOD;
        while Instant::now() < end {
            self.receive()?;
        }
        Ok(())
    }
}
