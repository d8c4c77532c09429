//! Gaps and resets, one step at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::server::hub::Hub;

use crate::world::Random;
use crate::world::kernel::{Habits, Kernel, SocketId};
use crate::world::network::SimulatedAcceptor;
use crate::world::socket::Side;

/// A server that nobody plays tricks on.
struct Stage {
    kernel: Rc<RefCell<Kernel>>,
    hub: Hub<SimulatedAcceptor>,
    start: Instant,
}

impl Stage {
    fn new(config: Config) -> Stage {
        let habits = Habits { backlog: 16, largest_buffer: 5000, mischief: 0, events_a_poll: 1024 };
        let kernel = Rc::new(RefCell::new(Kernel::new(habits, Random::new(&[], 0))));
        let acceptor = |side| SimulatedAcceptor { kernel: Rc::clone(&kernel), side };
        let start = Instant::now();
        let hub = Hub::new(config, 1, acceptor(Side::Source), acceptor(Side::Client), start);
        Stage { kernel, hub, start }
    }

    fn source_sends(&self, bytes: &[u8]) -> SocketId {
        let mut kernel = self.kernel.borrow_mut();
        let Some(id) = kernel.connect(Side::Source) else { panic!("nobody listens") };
        kernel.sockets[id].unsent.extend(bytes);
        id
    }

    fn source_ends(&self, id: SocketId) {
        self.kernel.borrow_mut().sockets[id].is_finished = true;
    }

    /// Lets everything arrive and be served, `millis` after the start.
    fn serve_at(&mut self, millis: u64) {
        let now = self.start + Duration::from_millis(millis);
        for _ in 0..10 {
            let mut ready = Vec::new();
            let mut kernel = self.kernel.borrow_mut();
            (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
            kernel.poll(&mut ready);
            drop(kernel);
            self.hub.turn(now, &ready, |_| false);
        }
    }

    fn awaited(&self) -> u64 {
        self.hub.totals().awaited()
    }
}

#[test]
fn a_gap_after_a_reset_is_as_young_as_the_reset() {
    let mut stage = Stage::new(Config {
        gap_timeout: Some(Duration::from_millis(10)),
        on_source_disconnect: OnSourceDisconnect::Reset,
        ..Config::default()
    });
    let source = stage.source_sends(b"2|B\n");
    stage.serve_at(0);
    // The one ends and the next begins before anything else is looked at.
    stage.source_ends(source);
    stage.source_sends(b"2|B\n");
    stage.serve_at(9);
    assert_eq!(stage.hub.totals().engine().lost, 1, "the event that waited before the reset");
    stage.serve_at(18);
    assert_eq!(stage.awaited(), 1, "the gap is 9 ms old");
    stage.serve_at(19);
    assert_eq!(stage.awaited(), 3);
}
