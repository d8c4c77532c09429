//! A generated stream in chunks that can be sent again from any sequence on: for a server that is killed
//! and goes on.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use crate::codec::{Event, lines_from};
use crate::oracle::expected::Expected;
use crate::oracle::model::{ExpectedDeliveries, Model};
use crate::sys::interrupt;
use crate::workload::generated::WorkloadSpec;
use crate::workload::generator::EventGenerator;
use crate::workload::prng::Prng;
use crate::workload::segment::Segment;

/// Maximum events of a chunk. Between two chunks everything is received, so that a chunk has to be large
/// beside what is in flight.
const CHUNK_EVENTS: u64 = 200_000;
/// Maximum users that connect in the last round, which shows the follower graph.
const MAX_LAST_USERS: u64 = 2000;

/// A stream, one chunk at a time.
pub(crate) struct ChunkedStream {
    generator: EventGenerator,
    clients: Vec<u64>,
    left: u64,
    /// The model before the current chunk.
    model: Model,
    /// The follows of the users of the last round.
    graph: Model,
    last_users: Vec<u64>,
    chunk: Chunk,
}

/// Events in order, and as they are sent.
#[derive(Default)]
struct Chunk {
    first: u64,
    /// Each with the range of its line in `text`.
    events: Vec<(Event, Range<usize>)>,
    text: Vec<u8>,
    wire: Vec<u8>,
}

impl ChunkedStream {
    /// A stream of `total_events`, which may exceed those of `spec`.
    pub(crate) fn new(spec: WorkloadSpec, total_events: u64) -> ChunkedStream {
        let mut prng = Prng::from_seed(spec.seed);
        let clients = prng.distinct(spec.clients, spec.users);
        let last_users = last_users(&clients, spec.users);
        ChunkedStream {
            model: Model::new(&clients),
            graph: Model::new(&last_users),
            generator: EventGenerator::new(spec.mix, spec.users, spec.max_batch, prng),
            clients,
            last_users,
            left: total_events,
            chunk: Chunk::default(),
        }
    }

    /// Returns the IDs of the users that are connected during the stream.
    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }

    /// Returns the IDs of the users that are connected in the last round.
    pub(crate) fn last_users(&self) -> &[u64] {
        &self.last_users
    }

    /// Returns the sequences of the current chunk.
    pub(crate) fn range(&self) -> Range<u64> {
        self.chunk.first..self.chunk.first + self.chunk.events.len() as u64
    }

    /// Moves to the next chunk. Returns `false` at the end.
    ///
    /// # Errors
    ///
    /// A signal has come.
    pub(crate) fn next_chunk(&mut self) -> io::Result<bool> {
        for &(event, _) in &self.chunk.events {
            self.model.update_graph(event);
        }
        let Chunk { first, events, text, wire } = &mut self.chunk;
        events.clear();
        text.clear();
        wire.clear();
        *first = self.generator.next_sequence();
        while self.left > 0 && (events.len() as u64) < CHUNK_EVENTS {
            interrupt::check()?;
            let graph = &mut self.graph;
            self.left -= self.generator.write_batch(self.left, wire, |event, line| {
                let start = text.len();
                text.extend_from_slice(line);
                events.push((event, start..text.len()));
                graph.update_graph(event);
            });
        }
        Ok(!events.is_empty())
    }

    /// Appends a broadcast to the chunk. Returns its line, as it is sent.
    pub(crate) fn push_broadcast(&mut self) -> &[u8] {
        let Chunk { events, text, wire, .. } = &mut self.chunk;
        let start = wire.len();
        self.generator.write_one(Event::Broadcast, wire, |event, line| {
            let start = text.len();
            text.extend_from_slice(line);
            events.push((event, start..text.len()));
        });
        &wire[start..]
    }

    /// Makes `segment` the part of the chunk from a sequence on.
    pub(crate) fn write_segment(&self, from: u64, segment: &mut Segment) {
        segment.clear();
        let range = self.range();
        self.deliver(from..range.end, &mut segment.deliveries);
        segment.wire = lines_from(&self.chunk.wire, from);
        segment.events = range.end - from.max(range.start);
    }

    /// Returns how many bytes each client receives for the events of the chunk in a range.
    pub(crate) fn bytes_due(&self, range: Range<u64>) -> Vec<u64> {
        let mut deliveries = ExpectedDeliveries::for_clients(self.clients.len());
        self.deliver(range, &mut deliveries);
        deliveries.clients.iter().map(Expected::len).collect()
    }

    /// Adds what clients receive that are connected while the events of a range are applied.
    fn deliver(&self, range: Range<u64>, deliveries: &mut ExpectedDeliveries) {
        let mut model = self.model.clone();
        for (sequence, (event, line)) in (self.chunk.first..).zip(&self.chunk.events) {
            if range.contains(&sequence) {
                model.apply(*event, &self.chunk.text[line.clone()], deliveries);
            } else {
                model.update_graph(*event);
            }
        }
        deliveries.finish();
    }

    /// Makes `segment` the last round: a status update of each user that one of [`last_users`] may follow,
    /// and a broadcast. What is received shows who follows whom.
    ///
    /// [`last_users`]: Self::last_users
    pub(crate) fn write_last_round(&mut self, segment: &mut Segment) {
        *segment = Segment::for_clients(self.last_users.len());
        let (graph, deliveries) = (&mut self.graph, &mut segment.deliveries);
        let users: BTreeSet<u64> =
            graph.followed().chain(self.last_users.iter().copied()).collect();
        let statuses = users.into_iter().map(|from| Event::Status { from });
        for event in statuses.chain([Event::Broadcast]) {
            self.generator.write_one(event, &mut segment.wire, |event, line| {
                graph.apply(event, line, deliveries);
            });
            segment.events += 1;
        }
        segment.deliveries.finish();
    }
}

/// Returns the users of the last round: the connected ones, and others up to a bound.
fn last_users(clients: &[u64], users: u64) -> Vec<u64> {
    let mut all: BTreeSet<u64> = clients.iter().copied().collect();
    for user in 1..=users {
        if all.len() as u64 >= MAX_LAST_USERS {
            break;
        }
        all.insert(user);
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> WorkloadSpec {
        let mix = "even".parse().unwrap();
        WorkloadSpec { mix, total_events: 5000, users: 30, clients: 10, seed: 5, max_batch: 50 }
    }

    fn output(segment: &Segment, client: usize) -> Vec<u8> {
        let expected = &segment.deliveries.clients[client];
        expected.spans(&segment.deliveries.broadcasts).flatten().copied().collect()
    }

    #[test]
    fn the_rest_of_a_chunk_is_what_the_whole_chunk_ends_with() {
        let mut stream = ChunkedStream::new(spec(), 5000);
        assert!(stream.next_chunk().unwrap());
        assert_eq!(stream.range(), 1..5001);
        let (mut whole, mut rest) = (Segment::for_clients(10), Segment::for_clients(10));
        stream.write_segment(0, &mut whole);
        for from in [1, 2, 777, 5000, 5001] {
            stream.write_segment(from, &mut rest);
            assert_eq!(rest.events, 5001 - from);
            let lines = rest.wire.iter().filter(|&&byte| byte == b'\n').count() as u64;
            assert_eq!(lines, rest.events);
            let before = stream.bytes_due(1..from);
            for (client, before) in before.into_iter().enumerate() {
                assert_eq!(output(&rest, client), output(&whole, client)[before as usize..]);
            }
        }
        assert!(!stream.next_chunk().unwrap());
    }

    #[test]
    fn a_broadcast_at_the_end_changes_nothing_before_it() {
        let mut stream = ChunkedStream::new(spec(), 5000);
        assert!(stream.next_chunk().unwrap());
        let (mut before, mut after) = (Segment::for_clients(10), Segment::for_clients(10));
        stream.write_segment(1, &mut before);
        assert_eq!(stream.push_broadcast(), b"5001|B\n");
        stream.write_segment(1, &mut after);
        assert_eq!((stream.range(), after.events), (1..5002, 5001));
        assert_eq!(after.wire, [&before.wire[..], b"5001|B\n"].concat());
        for client in 0..10 {
            let expected = [&output(&before, client)[..], b"5001|B\r\n"].concat();
            assert_eq!(output(&after, client), expected);
        }
        assert!(!stream.next_chunk().unwrap());
    }

    #[test]
    fn the_last_round_shows_the_graph() {
        let mut stream = ChunkedStream::new(spec(), 5000);
        while stream.next_chunk().unwrap() {}
        let mut segment = Segment::default();
        stream.write_last_round(&mut segment);
        assert_eq!(stream.last_users().len(), 30);
        assert_eq!(segment.events, 31);
        assert!(segment.wire.starts_with(b"5001|S|1\n") && segment.wire.ends_with(b"5031|B\n"));
        assert!(segment.deliveries.lines() > 30 + 100);
    }
}
