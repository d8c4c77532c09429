//! A hub on the simulated kernel, run step by step.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::config::Config;
use eventserver::hub::Hub;
use eventserver::hub::{Budgets, Capacity, NextTurn, Readiness};

use crate::sim::Random;
use crate::sim::kernel::{Call, Kernel, KernelConfig, SocketId};
use crate::sim::network::SimulatedAcceptor;
use crate::sim::socket::Side;

/// Turns after which a hub that is still not idle counts as spinning.
const MAX_TURNS_TO_IDLE: usize = 1000;

/// Capacity of the server.
const CAPACITY: Capacity = Capacity { max_clients: 16, max_awaiting_id: 16 };

/// A hub on a kernel without faults.
pub(crate) struct Harness {
    kernel: Rc<RefCell<Kernel>>,
    pub(crate) hub: Hub<SimulatedAcceptor>,
    start: Instant,
}

impl Harness {
    pub(crate) fn new(config: Config) -> Harness {
        let kernel_config = KernelConfig {
            backlog: 16,
            max_buffer_bytes: 5000,
            fault_rate: 0,
            descriptors: 64,
            events_per_poll: 1024,
        };
        let kernel = Rc::new(RefCell::new(Kernel::new(kernel_config, Random::new(&[], 0))));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let start = Instant::now();
        let hub = Hub::new(config, CAPACITY, acceptor(Side::Source), acceptor(Side::Client), start);
        Harness { kernel, hub, start }
    }

    /// Replaces the budgets.
    pub(crate) fn with_budgets(self, budgets: Budgets) -> Harness {
        Harness { hub: self.hub.with_budgets(budgets), ..self }
    }

    pub(crate) fn source_sends(&self, bytes: &[u8]) -> SocketId {
        self.connect(Side::Source, bytes)
    }

    pub(crate) fn client_sends(&self, bytes: &[u8]) -> SocketId {
        self.connect(Side::Client, bytes)
    }

    fn connect(&self, side: Side, bytes: &[u8]) -> SocketId {
        let mut kernel = self.kernel.borrow_mut();
        let Some(id) = kernel.connect(side) else { panic!("the {side:?} listener is closed") };
        drop(kernel);
        self.send(id, bytes);
        id
    }

    pub(crate) fn send(&self, id: SocketId, bytes: &[u8]) {
        self.kernel.borrow_mut().sockets[id].unsent.extend(bytes);
    }

    pub(crate) fn ends(&self, id: SocketId) {
        self.kernel.borrow_mut().sockets[id].is_finished = true;
    }

    /// Delivers all sent bytes and runs turns until the hub is idle, `millis` after the start.
    pub(crate) fn run_until_idle_at(&mut self, millis: u64) {
        for _ in 0..MAX_TURNS_TO_IDLE {
            self.turn_at(millis);
            deliver_all(&mut self.kernel.borrow_mut());
            let has_work = self.hub.next_turn() == NextTurn::Now && !self.hub.is_stopped();
            if !has_work && !self.kernel.borrow().has_ready() {
                return;
            }
        }
        panic!("the server spins");
    }

    /// Delivers all sent bytes, and runs one turn.
    pub(crate) fn turn_at(&mut self, millis: u64) {
        let now = self.start + Duration::from_millis(millis);
        let mut ready = Vec::new();
        let mut kernel = self.kernel.borrow_mut();
        deliver_all(&mut kernel);
        kernel.poll(&mut ready);
        drop(kernel);
        self.hub.turn(now, &ready, |_| false);
    }

    /// Runs one turn, `millis` after the start, without the readiness of a poll, as if the process
    /// had been suspended after it.
    pub(crate) fn turn_with_missed_poll_at(&mut self, millis: u64) {
        let now = self.start + Duration::from_millis(millis);
        let Harness { kernel, hub, .. } = self;
        deliver_all(&mut kernel.borrow_mut());
        hub.turn(now, &[], |more| kernel.borrow_mut().poll(more));
    }

    /// Runs one turn, `millis` after the start, whose poll reported one listener before everything
    /// else arrived.
    pub(crate) fn accept_at(&mut self, millis: u64, listener: usize) {
        let now = self.start + Duration::from_millis(millis);
        let ready = Readiness {
            token: listener,
            readable: true,
            writable: false,
            read_closed: false,
            urgent: false,
        };
        let Harness { kernel, hub, .. } = self;
        deliver_all(&mut kernel.borrow_mut());
        hub.turn(now, &[ready], |more| kernel.borrow_mut().poll(more));
    }

    /// Runs one turn, and returns the calls before it polls again.
    pub(crate) fn calls_before_second_poll_at(&mut self, millis: u64) -> Vec<Call> {
        let now = self.start + Duration::from_millis(millis);
        let (mut ready, mut calls) = (Vec::new(), None);
        let Harness { kernel, hub, .. } = self;
        deliver_all(&mut kernel.borrow_mut());
        kernel.borrow_mut().poll(&mut ready);
        hub.turn(now, &ready, |more| {
            calls.get_or_insert_with(|| kernel.borrow().calls.clone());
            kernel.borrow_mut().poll(more)
        });
        calls.unwrap_or_default()
    }

    /// Stops the server, `millis` after the start.
    pub(crate) fn stop_at(&mut self, millis: u64) {
        self.hub.stop(self.start + Duration::from_millis(millis));
    }

    /// Lets the peer read everything sent to it.
    pub(crate) fn client_reads(&self, id: SocketId) {
        self.kernel.borrow_mut().sockets[id].receive(usize::MAX);
    }

    /// Returns all that the peer has read.
    pub(crate) fn received(&self, id: SocketId) -> Vec<u8> {
        self.kernel.borrow().sockets[id].received.clone()
    }

    pub(crate) fn awaited(&self) -> u64 {
        self.hub.totals().awaited()
    }

    /// Takes the calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.kernel.borrow_mut().calls)
    }
}

fn deliver_all(kernel: &mut Kernel) {
    (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
}
