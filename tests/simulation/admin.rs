//! The operators' HTTP on simulated sockets, with peers that send anything.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::admin::history::HistoryColumns;
use eventserver::admin::status::Status;
use eventserver::admin::{ADMIN_LISTENER, AdminServer, MAX_CONNECTIONS, Monitored};
use eventserver::hub::{CLIENT_LISTENER, NextTurn};
use time::OffsetDateTime;

use crate::sim::Random;
use crate::sim::kernel::{Call, Kernel, KernelConfig, SocketId};
use crate::sim::network::SimulatedAcceptor;
use crate::sim::socket::Side;

const SEEDS: u64 = 300;

/// The maximum number of connections accepted per turn, and of requests answered.
const MAX_PER_TURN: usize = 4;

/// The time after which every connection without a peer's help is closed, in milliseconds.
const ALL_CLOSED: u64 = 100_000;

/// Turns after which a server that is still not idle counts as spinning.
const MAX_TURNS_TO_IDLE: usize = 100_000;

/// Steps, besides those with other peers, within which a cooperative peer has its answers.
const MAX_STEPS_TO_ANSWER: usize = 20_000;

const REQUESTS: [&str; 5] = [
    "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /status HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

/// The monitored server. Counts how often it is asked.
#[derive(Default)]
struct Asked(usize);

impl Monitored for Asked {
    fn utc_now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    fn unready_reason(&self) -> Option<Cow<'static, str>> {
        Some("draining".into())
    }

    fn history(&self) -> HistoryColumns {
        HistoryColumns::default()
    }

    fn status(&mut self) -> Status {
        self.0 += 1;
        Status::default()
    }
}

/// A peer.
struct Peer {
    socket: SocketId,
    behaviour: Behaviour,
}

enum Behaviour {
    /// Sends the next of these requests once the last one is answered, and reads at once.
    Asks {
        left: Vec<&'static str>,
        answered: usize,
    },
    /// Sends bytes, and reads at times.
    Anything,
    /// Sends a request and does not read.
    NeverReads,
    Silent,
}

struct AdminSimulation {
    random: Random,
    kernel: Rc<RefCell<Kernel>>,
    server: AdminServer<SimulatedAcceptor>,
    asked: Asked,
    peers: Vec<Peer>,
    start: Instant,
    now: u64,
}

impl AdminSimulation {
    fn new(seed: u64) -> AdminSimulation {
        let mut random = Random::new(&[], seed);
        let config = KernelConfig {
            backlog: 100,
            max_buffer_bytes: *random.pick(&[1, 30, 500, 100_000]),
            fault_rate: *random.pick(&[0, 4, 20]),
            // One more while it replaces an idle one.
            descriptors: MAX_CONNECTIONS + 1,
            events_per_poll: *random.pick(&[1, 3, 1024]),
        };
        let kernel = Rc::new(RefCell::new(Kernel::new(config, random.fork())));
        let acceptor = SimulatedAcceptor { kernel: Rc::clone(&kernel), side: Side::Client };
        AdminSimulation {
            server: AdminServer::new(acceptor, MAX_CONNECTIONS, false),
            asked: Asked::default(),
            peers: Vec::new(),
            start: Instant::now(),
            now: 0,
            kernel,
            random,
        }
    }

    fn run(&mut self) {
        for _ in 0..*self.random.pick(&[30, 200, 600]) {
            if self.random.one_in(3) {
                self.connect();
            }
            self.act();
            if self.random.one_in(20) {
                self.now += self.random.between(1, 12_000);
            }
            match self.random.one_in(4) {
                true => self.turn(),
                false => self.turn_until_idle(),
            }
        }
        self.answer_the_cooperative();
        self.now += ALL_CLOSED;
        self.turn_until_idle();
        assert_eq!(self.server.open(), 0, "connections are left");
    }

    fn connect(&mut self) {
        let Some(socket) = self.kernel.borrow_mut().connect(Side::Client) else { return };
        let behaviour = match self.random.below(4) {
            0 => Behaviour::Anything,
            1 => Behaviour::NeverReads,
            2 if self.random.one_in(2) => Behaviour::Silent,
            _ => {
                let count = self.random.between(1, 4);
                let left = (0..count).map(|_| *self.random.pick(&REQUESTS)).collect();
                Behaviour::Asks { left, answered: 0 }
            }
        };
        if matches!(behaviour, Behaviour::NeverReads) {
            let request = *self.random.pick(&REQUESTS);
            self.kernel.borrow_mut().sockets[socket].unsent.extend(request.as_bytes());
        }
        if let Behaviour::Asks { left, .. } = &behaviour {
            self.kernel.borrow_mut().sockets[socket].unsent.extend(left[0].as_bytes());
        }
        self.peers.push(Peer { socket, behaviour });
    }

    fn act(&mut self) {
        let AdminSimulation { random, kernel, peers, .. } = self;
        let mut kernel = kernel.borrow_mut();
        for peer in peers {
            kernel.deliver(peer.socket);
            let socket = &mut kernel.sockets[peer.socket];
            match &mut peer.behaviour {
                Behaviour::Asks { left, answered } => {
                    socket.receive(usize::MAX);
                    let responses = whole_responses(&socket.received, &left[..*answered + 1]);
                    if responses > *answered {
                        *answered += 1;
                        match left.get(*answered) {
                            Some(next) => socket.unsent.extend(next.as_bytes()),
                            None => {
                                socket.is_finished = true;
                                peer.behaviour = Behaviour::Silent;
                            }
                        }
                    }
                }
                Behaviour::Anything => match random.below(12) {
                    0 => socket.is_finished = true,
                    1 => socket.reset(),
                    2 => socket.receive(random.below(1000)),
                    3 => socket.unsent.extend(random.pick(&REQUESTS).as_bytes()),
                    4 => {
                        let len = random.below(3000);
                        socket.unsent.extend((0..len).map(|_| random.next() as u8));
                    }
                    5 => {
                        let request = random.pick(&REQUESTS).as_bytes();
                        socket.unsent.extend(&request[..random.below(request.len())]);
                    }
                    _ => {}
                },
                Behaviour::NeverReads | Behaviour::Silent => {}
            }
        }
    }

    /// Runs until every peer that asks and reads has its answers. Others keep their connections until they
    /// time out.
    fn answer_the_cooperative(&mut self) {
        for _ in 0..MAX_STEPS_TO_ANSWER {
            self.peers.retain(|peer| !matches!(peer.behaviour, Behaviour::Anything));
            self.act();
            self.turn_until_idle();
            let kernel = self.kernel.borrow();
            // What a pause of the clock has closed is not answered.
            let waits = |peer: &Peer| {
                let socket = &kernel.sockets[peer.socket];
                matches!(peer.behaviour, Behaviour::Asks { .. }) && !socket.is_closed
            };
            if !self.peers.iter().any(waits) {
                return;
            }
            let is_full = self.server.open() == MAX_CONNECTIONS;
            drop(kernel);
            if is_full {
                self.now += 100;
            }
        }
        panic!("a peer that asks and reads is not answered");
    }

    fn turn_until_idle(&mut self) {
        for _ in 0..MAX_TURNS_TO_IDLE {
            if !self.is_due() && !self.kernel.borrow().has_ready() {
                return;
            }
            self.turn();
        }
        panic!("the server spins");
    }

    fn is_due(&self) -> bool {
        match self.server.next_turn() {
            NextTurn::Now => true,
            NextTurn::Until(when) => when <= self.start + Duration::from_millis(self.now),
            NextTurn::WhenReady => false,
        }
    }

    fn turn(&mut self) {
        let mut ready = Vec::new();
        self.kernel.borrow_mut().poll(&mut ready);
        for readiness in &mut ready {
            if readiness.token == CLIENT_LISTENER {
                readiness.token = ADMIN_LISTENER;
            }
        }
        assert!(self.server.open() <= MAX_CONNECTIONS);
        let asked = self.asked.0;
        let now = self.start + Duration::from_millis(self.now);
        self.server.turn(now, &ready, &mut self.asked);
        assert!(self.asked.0 - asked <= MAX_PER_TURN, "answers per turn are bounded");
        let calls = std::mem::take(&mut self.kernel.borrow_mut().calls);
        let accepted = calls.iter().filter(|call| matches!(call, Call::Accepted(..))).count();
        assert!(accepted <= MAX_PER_TURN, "accepted connections per turn are bounded");
    }
}

/// Counts the whole responses to these requests, and panics if they are not as expected.
fn whole_responses(mut received: &[u8], requests: &[&str]) -> usize {
    let mut count = 0;
    for request in requests {
        let Some(len) = received.windows(4).position(|end| end == b"\r\n\r\n") else { break };
        let head = String::from_utf8_lossy(&received[..len]);
        let expected = match request {
            request if request.contains("/nowhere") => "404",
            request if request.contains("/readyz") => "503",
            _ => "200",
        };
        assert_eq!(head.get(9..12), Some(expected), "{head} to {request}");
        let field = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let body = field.and_then(|field| field.parse::<usize>().ok());
        let Some(body) = body else { panic!("no length: {head}") };
        let end = len + 4 + if request.starts_with("HEAD") { 0 } else { body };
        let Some(rest) = received.get(end..) else { break };
        received = rest;
        count += 1;
    }
    if count == requests.len() {
        assert!(received.is_empty(), "more than the answers");
    }
    count
}

#[test]
fn operators_are_answered_among_peers_that_send_anything() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        AdminSimulation::new(seed).run();
    }
}
