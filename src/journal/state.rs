//! The state that a journal restores.

use crate::engine::{FollowerGraph, History, StateHash};
use crate::journal::record::{Header, Kind};
use crate::journal::stream::{EntryPayload, StreamLink};
use crate::protocol::{Decoded, Event, EventDecoder, EventKind, Line};

/// The limit for a line, which has passed `max_line_bytes` of any configuration.
const MAX_LINE_BYTES: usize = 1 << 16;

/// The follower graph and the awaited sequence: what remains of a stream of events.
#[derive(Debug)]
pub struct State {
    /// The follower graph, without registered users. It keeps its hash up to date.
    pub graph: FollowerGraph,
    /// The next sequence to be applied.
    pub awaited: u64,
    /// The first sequence of the stream.
    pub first_sequence: u64,
    /// The newest events, if they are kept.
    pub history: Option<History>,
    /// The place in the stream that several servers share, if the events are from there.
    pub stream: Option<StreamLink>,
    /// Whether the graph contains all follows.
    knows_follows: bool,
    /// Decodes batches. Its buffer is reused.
    decoder: EventDecoder,
}

impl State {
    /// Creates the state before the first event.
    #[must_use]
    pub fn new(first_sequence: u64) -> State {
        State {
            graph: FollowerGraph::with_state_hash(),
            awaited: first_sequence,
            first_sequence,
            history: None,
            stream: None,
            knows_follows: true,
            decoder: EventDecoder::new(MAX_LINE_BYTES),
        }
    }

    /// Keeps at least the newest `max_events` of the events that are applied from now on; none if that is 0.
    pub(crate) fn keep_history(&mut self, max_events: usize) {
        let is_stream_start = self.awaited == self.first_sequence;
        let covered_from = if is_stream_start { 0 } else { self.awaited };
        self.history = (max_events > 0).then(|| History::new(max_events, covered_from));
    }

    /// Creates a state whose follows are unknown, so that it has no meaningful hash. It serves to check
    /// records without those before them.
    pub(super) fn with_unknown_follows(first_sequence: u64, awaited: u64) -> State {
        State { awaited, knows_follows: false, ..State::new(first_sequence) }
    }

    /// Returns whether the graph contains all follows.
    pub(super) fn knows_follows(&self) -> bool {
        self.knows_follows
    }

    /// Returns the hash of the state.
    #[must_use]
    pub fn hash(&self) -> StateHash {
        // The graph of a state keeps its hash up to date.
        self.graph.state_hash(self.awaited).unwrap_or(StateHash(0))
    }

    /// Applies a record: the batch or the reset, or the check of the hash.
    ///
    /// # Errors
    ///
    /// The record does not continue the state. The text says why. The state is then undefined.
    pub fn apply(&mut self, header: &Header, payload: &[u8]) -> Result<(), String> {
        if header.first != self.awaited {
            return Err(format!(
                "the record starts at sequence {}, but {} is awaited",
                header.first, self.awaited
            ));
        }
        match header.kind {
            Kind::Batch if self.stream.is_none() => self.apply_lines(header, payload),
            Kind::Entry => {
                let entry = EntryPayload::decode(payload).ok_or("the entry is too short")?;
                let StreamLink { stream, .. } =
                    self.stream.ok_or("an entry of a stream whose place is not known")?;
                self.apply_lines(header, entry.lines_from(header.first))?;
                let EntryPayload { epoch, chain, fingerprint, .. } = entry;
                self.stream = Some(StreamLink { stream, epoch, chain, fingerprint });
                Ok(())
            }
            Kind::Stream if header.next == header.first => {
                let link =
                    StreamLink::decode(payload).ok_or("the place in the stream is malformed")?;
                if self.stream.is_some_and(|known| known != link) {
                    return Err("it continues at another place in the stream".to_owned());
                }
                self.stream = Some(link);
                Ok(())
            }
            Kind::Reset
                if self.stream.is_none()
                    && header.next == self.first_sequence
                    && payload.is_empty() =>
            {
                self.graph.clear_follows();
                if let Some(history) = &mut self.history {
                    history.clear();
                }
                self.knows_follows = true;
                self.awaited = header.next;
                Ok(())
            }
            kind => Err(format!("a record of the kind {kind:?} does not belong here")),
        }
    }

    fn apply_lines(&mut self, header: &Header, lines: &[u8]) -> Result<(), String> {
        let State { graph, history, decoder, .. } = self;
        for_each_event(decoder, header, lines, |event, line| {
            let has_changed = apply_event(graph, event);
            let is_kept = has_changed || !matches!(event.kind, EventKind::Unfollow { .. });
            if let Some(history) = history.as_mut().filter(|_| is_kept) {
                history.push(event.sequence.get(), line.as_bytes(), has_changed);
            }
        })?;
        self.awaited = header.next;
        Ok(())
    }
}

/// Applies an event. Returns whether it changed the graph.
fn apply_event(graph: &mut FollowerGraph, event: &Event) -> bool {
    match event.kind {
        EventKind::Follow { follower, followed } => graph.try_follow(follower, followed),
        EventKind::Unfollow { follower, followed } => graph.try_unfollow(follower, followed),
        EventKind::Broadcast
        | EventKind::PrivateMessage { .. }
        | EventKind::StatusUpdate { .. } => false,
    }
}

/// Passes the events of a batch in order to `apply`, and checks their number and sequences.
fn for_each_event(
    decoder: &mut EventDecoder,
    header: &Header,
    payload: &[u8],
    mut apply: impl FnMut(&Event, Line<'_>),
) -> Result<(), String> {
    decoder.buffer_mut().feed(payload);
    let (mut awaited, mut count) = (header.first, 0_u32);
    let mut check = |event: &Event| {
        let sequence = event.sequence.get();
        let is_in_order = sequence >= awaited && sequence < header.next;
        awaited = sequence + 1;
        count += 1;
        is_in_order
    };
    loop {
        let mut is_in_order = true;
        decoder.decode_fast(usize::MAX, |compact, line| {
            let event = Event::from(*compact);
            is_in_order = check(&event);
            apply(&event, line);
            is_in_order
        });
        match decoder.next_event() {
            _ if !is_in_order => return Err("the lines are not in order".to_owned()),
            None => break,
            Some(Decoded::Event(event, line)) if check(&event) => apply(&event, line),
            Some(Decoded::Event(..)) => return Err("the lines are not in order".to_owned()),
            Some(Decoded::Malformed(_, error)) => {
                return Err(format!("a line is not an event: {error}"));
            }
        }
    }
    if !decoder.buffer().partial_line().is_empty() {
        return Err("the last line is cut off".to_owned());
    }
    if count != header.count || header.next < awaited {
        return Err(format!("the record holds {count} lines instead of {}", header.count));
    }
    Ok(())
}
