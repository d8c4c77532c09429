//! A server under the simulation's kernel, one step at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::config::Config;
use eventserver::hub::Hub;
use eventserver::hub::{Budgets, Capacity, Readiness};

use crate::world::Random;
use crate::world::kernel::{Call, Habits, Kernel, SocketId};
use crate::world::network::SimulatedAcceptor;
use crate::world::socket::Side;

/// Clients that the server takes.
const CAPACITY: Capacity = Capacity { max_clients: 16, max_awaiting_id: 16 };

/// A server that nobody plays tricks on.
pub(crate) struct Stage {
    kernel: Rc<RefCell<Kernel>>,
    pub(crate) hub: Hub<SimulatedAcceptor>,
    start: Instant,
}

impl Stage {
    pub(crate) fn new(config: Config) -> Stage {
        let habits = Habits {
            backlog: 16,
            largest_buffer: 5000,
            mischief: 0,
            descriptors: 64,
            events_a_poll: 1024,
        };
        let kernel = Rc::new(RefCell::new(Kernel::new(habits, Random::new(&[], 0))));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let start = Instant::now();
        let hub = Hub::new(config, CAPACITY, acceptor(Side::Source), acceptor(Side::Client), start);
        Stage { kernel, hub, start }
    }

    /// The same with other budgets.
    pub(crate) fn within(self, budgets: Budgets) -> Stage {
        Stage { hub: self.hub.with_budgets(budgets), ..self }
    }

    pub(crate) fn source_sends(&self, bytes: &[u8]) -> SocketId {
        self.connect(Side::Source, bytes)
    }

    pub(crate) fn client_sends(&self, bytes: &[u8]) -> SocketId {
        self.connect(Side::Client, bytes)
    }

    fn connect(&self, side: Side, bytes: &[u8]) -> SocketId {
        let mut kernel = self.kernel.borrow_mut();
        let Some(id) = kernel.connect(side) else { panic!("nobody listens") };
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

    /// Lets everything arrive and be served, `millis` after the start.
    pub(crate) fn serve_at(&mut self, millis: u64) {
        (0..10).for_each(|_| self.turn_at(millis));
    }

    /// Lets everything arrive, and takes one turn.
    pub(crate) fn turn_at(&mut self, millis: u64) {
        let now = self.start + Duration::from_millis(millis);
        let mut ready = Vec::new();
        let mut kernel = self.kernel.borrow_mut();
        deliver_all(&mut kernel);
        kernel.poll(&mut ready);
        drop(kernel);
        self.hub.turn(now, &ready, |_| false);
    }

    /// One turn, `millis` after the start, that begins without knowing what has become ready: the
    /// process stood still after the poll.
    pub(crate) fn wake_at(&mut self, millis: u64) {
        let now = self.start + Duration::from_millis(millis);
        let Stage { kernel, hub, .. } = self;
        deliver_all(&mut kernel.borrow_mut());
        hub.turn(now, &[], |more| kernel.borrow_mut().poll(more));
    }

    /// One turn, `millis` after the start, whose poll has told of one listener and came before all
    /// else that has arrived.
    pub(crate) fn accept_at(&mut self, millis: u64, listener: usize) {
        let now = self.start + Duration::from_millis(millis);
        let ready =
            Readiness { token: listener, readable: true, writable: false, read_closed: false };
        let Stage { kernel, hub, .. } = self;
        deliver_all(&mut kernel.borrow_mut());
        hub.turn(now, &[ready], |more| kernel.borrow_mut().poll(more));
    }

    /// Stops the server, `millis` after the start.
    pub(crate) fn stop_at(&mut self, millis: u64) {
        self.hub.stop(self.start + Duration::from_millis(millis));
    }

    /// The peer takes all that is under way to it.
    pub(crate) fn client_reads(&self, id: SocketId) {
        self.kernel.borrow_mut().sockets[id].receive(usize::MAX);
    }

    pub(crate) fn awaited(&self) -> u64 {
        self.hub.totals().awaited()
    }

    /// What the server has done since this was asked last.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.kernel.borrow_mut().calls)
    }
}

fn deliver_all(kernel: &mut Kernel) {
    (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
}
