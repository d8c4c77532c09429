//! The number of system calls per delivery and per wake-up: the hub over real sockets with counted calls.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use eventserver::config::Config;
use eventserver::hub::{Acceptor, Capacity, Stream};
use eventserver::hub::{CLIENT_LISTENER, EVENT_LISTENER, Hub, NextTurn, Readiness};

use crate::support::DEADLINE;
use crate::verification_stream::{captured_stream, captured_users};

const CAPACITY: Capacity = Capacity { max_clients: 1000, max_awaiting_id: 64 };

/// The number of calls on one socket since the last check.
#[derive(Clone, Default)]
struct Calls {
    reads: Rc<Cell<u64>>,
    writes: Rc<Cell<u64>>,
}

struct CountingListener {
    listener: TcpListener,
    accepted: Rc<RefCell<Vec<Calls>>>,
}

struct CountingStream {
    stream: TcpStream,
    calls: Calls,
}

impl CountingListener {
    fn bind() -> CountingListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        CountingListener { listener, accepted: Rc::default() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

impl Acceptor for CountingListener {
    type Stream = CountingStream;

    fn accept(&mut self, _token: usize) -> io::Result<(CountingStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let calls = Calls::default();
        self.accepted.borrow_mut().push(calls.clone());
        Ok((CountingStream { stream, calls }, peer))
    }
}

impl Stream for CountingStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Read for CountingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls.reads.update(|reads| reads + 1);
        self.stream.read(buffer)
    }
}

impl Write for CountingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.writes.update(|writes| writes + 1);
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.calls.writes.update(|writes| writes + 1);
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// Returns the captured stream with sequences that continue after `round` earlier rounds.
fn captured_round(stream: &str, round: u64) -> String {
    let renumbered = stream.lines().map(|line| {
        let (sequence, rest) = line.split_once('|').unwrap();
        format!("{}|{rest}\n", round * 20_000 + sequence.parse::<u64>().unwrap())
    });
    renumbered.collect()
}

#[test]
fn a_hundred_thousand_events_cost_at_most_one_write_a_client_and_turn() {
    let (sources, clients) = (CountingListener::bind(), CountingListener::bind());
    let mut source = sources.connect();
    let _clients: Vec<TcpStream> = captured_users()
        .map(|user| {
            let mut client = clients.connect();
            client.write_all(format!("{user}\n").as_bytes()).unwrap();
            client
        })
        .collect();
    let accepted = Rc::clone(&clients.accepted);
    let mut hub = Hub::new(Config::default(), CAPACITY, sources, clients, Instant::now());
    // Spurious readiness is allowed: two listeners, and both tokens of each key.
    let tokens = (0..=2 * captured_users().count() + 1).chain([EVENT_LISTENER, CLIENT_LISTENER]);
    let ready: Vec<Readiness> = tokens.map(ready).collect();

    let stream = String::from_utf8(captured_stream()).unwrap();
    let (mut all_writes, mut sent) = (0, 0);
    let start = Instant::now();
    for round in 0..5 {
        let events = captured_round(&stream, round);
        for piece in events.as_bytes().chunks(40_000) {
            source.write_all(piece).unwrap();
            sent += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
            while hub.totals().engine().applied() + 100 < sent {
                assert!(start.elapsed() < DEADLINE, "not all that was sent is applied");
                hub.turn(Instant::now(), &ready, |_| false);
                for calls in &*accepted.borrow() {
                    let in_this_turn = calls.writes.take();
                    assert!(in_this_turn <= 1, "{in_this_turn} writes to one client in one turn");
                    all_writes += in_this_turn;
                }
            }
        }
    }
    let deliveries = hub.totals().lines_queued();
    assert!(all_writes * 2 < deliveries, "{all_writes} writes for {deliveries} deliveries");
}

#[test]
fn a_wake_up_with_one_delivery_costs_a_second_poll_one_read_and_one_write() {
    const WAKE_UPS: u64 = 100;
    let (sources, clients) = (CountingListener::bind(), CountingListener::bind());
    let mut source = sources.connect();
    source.set_nodelay(true).unwrap();
    let mut client = clients.connect();
    client.write_all(b"1\n").unwrap();
    let calls = [Rc::clone(&sources.accepted), Rc::clone(&clients.accepted)];
    let mut hub = Hub::new(Config::default(), CAPACITY, sources, clients, Instant::now());
    let start = Instant::now();
    while hub.totals().clients_connected() == 0 || calls[0].borrow().is_empty() {
        assert!(start.elapsed() < DEADLINE, "not all are connected");
        hub.turn(Instant::now(), &[EVENT_LISTENER, CLIENT_LISTENER].map(ready), |_| false);
    }
    let source_token = (0..).find(|&token| hub.lines_received(token).is_some()).unwrap();
    hub.turn(Instant::now(), &[ready(source_token)], |_| false);
    let [source_calls, client_calls] = calls.map(|calls| calls.borrow()[0].clone());
    source_calls.reads.set(0);
    client_calls.reads.set(0);
    let mut polls = 0;
    for wake_up in 1..=WAKE_UPS {
        let lines: String =
            (1..=50).map(|line| format!("{}|P|2|1\n", wake_up * 50 - 50 + line)).collect();
        source.write_all(lines.as_bytes()).unwrap();
        // Loopback: the bytes are in the kernel once the write returns.
        hub.turn(Instant::now(), &[ready(source_token)], |_| {
            polls += 1;
            false
        });
        assert_eq!(hub.totals().engine().applied(), 50 * wake_up);
        assert_ne!(hub.next_turn(), NextTurn::Now, "nothing is left to hear of");
    }
    assert_eq!(polls, WAKE_UPS);
    assert_eq!(source_calls.reads.get(), WAKE_UPS, "a short read is the last one");
    assert_eq!((client_calls.reads.get(), client_calls.writes.get()), (0, WAKE_UPS));
}

fn ready(token: usize) -> Readiness {
    Readiness { token, readable: true, writable: true, read_closed: false, urgent: false }
}
