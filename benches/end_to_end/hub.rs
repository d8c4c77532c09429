//! The hub's turns, with in-memory connections: the server's own cost, send queues included.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::hub::Capacity;
use eventserver::hub::{EVENT_LISTENER, Hub, NextTurn, Readiness};

use crate::captured::CapturedStream;
use crate::in_memory_transport::{AfterSend, InMemoryAcceptor};
use crate::support::{ArrivalOrder, CONNECTED, scaled};
use crate::workload::Workload;

/// A hub with registered clients. The end of each source resets sequence and graph, so that the
/// same stream can be sent repeatedly.
struct Server {
    hub: Hub<InMemoryAcceptor>,
    sources: InMemoryAcceptor,
    clients: InMemoryAcceptor,
}

impl Server {
    fn with_clients(users: impl Iterator<Item = u64>) -> Server {
        let config =
            Config { on_source_disconnect: OnSourceDisconnect::Reset, ..Config::default() };
        let (sources, clients) = (InMemoryAcceptor::default(), InMemoryAcceptor::default());
        users.for_each(|user| {
            clients.connect(format!("{user}\n").into_bytes().into(), AfterSend::Stay);
        });
        let max_clients = CONNECTED as usize;
        let mut hub = Hub::new(
            config,
            Capacity::for_clients(max_clients),
            sources.clone(),
            clients.clone(),
            Instant::now(),
        );
        turn_until_idle(&mut hub, &[]);
        assert_eq!(hub.totals().clients_connected(), max_clients);
        Server { hub, sources, clients }
    }

    /// Serves a source from its connection to its end. Returns the lines queued for clients and the
    /// bytes written to them.
    fn serve(&mut self, stream: &Rc<[u8]>) -> (u64, u64) {
        let before = self.hub.totals().lines_queued();
        self.sources.connect(Rc::clone(stream), AfterSend::Leave);
        let readiness = |token, read_closed| Readiness {
            token,
            readable: true,
            writable: false,
            read_closed,
            urgent: false,
        };
        self.hub.turn(Instant::now(), &[readiness(EVENT_LISTENER, false)], |_| false);
        turn_until_idle(&mut self.hub, &[readiness(self.sources.last_token(), true)]);
        (self.hub.totals().lines_queued() - before, self.clients.take_written())
    }
}

/// The verification program's stream and its 100 clients.
pub(crate) fn captured_stream(criterion: &mut Criterion) {
    let CapturedStream { bytes, expected } = CapturedStream::open();
    let mut server = Server::with_clients(expected.iter().map(|each| each.user));
    let deliveries: u64 = expected.iter().map(|each| each.events).sum();
    let stream = bytes.into();
    let mut group = criterion.benchmark_group("hub");
    group.throughput(Throughput::Elements(CapturedStream::EVENTS));
    group.bench_function("captured stream", |bencher| {
        bencher.iter(|| assert_eq!(server.serve(black_box(&stream)).0, deliveries));
    });
    group.finish();
}

/// Fan-out to 100 clients: every line to all of them, each line to one, and both mixed.
pub(crate) fn fan_outs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub, 100 clients");
    for (name, workload) in [
        ("broadcasts", Workload::broadcasts(scaled(100_000, 2_000))),
        ("private messages", Workload::private_messages(scaled(500_000, 10_000))),
        ("even mix", Workload::even_mix(scaled(200_000, 5_000))),
    ] {
        let mut server = Server::with_clients(0..CONNECTED);
        let stream = workload.arriving(ArrivalOrder::Batches(100)).into();
        group.throughput(Throughput::Elements(workload.events()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let served = server.serve(black_box(&stream));
                assert_eq!(served, (workload.deliveries, workload.delivered_bytes));
            });
        });
    }
    group.finish();
}

fn turn_until_idle(hub: &mut Hub<InMemoryAcceptor>, ready: &[Readiness]) {
    let now = Instant::now();
    hub.turn(now, ready, |_| false);
    while hub.next_turn() == NextTurn::Now {
        hub.turn(now, &[], |_| false);
    }
}
