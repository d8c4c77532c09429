use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A network between servers and an engine: it can be cut, stall, and lead elsewhere.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    route: Mutex<Route>,
    changed: Condvar,
}

#[derive(Debug)]
struct Route {
    /// The port of the engine.
    to: u16,
    /// New connections are refused.
    is_cut: bool,
    /// No bytes pass.
    is_stalled: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route { to: port, is_cut: false, is_stalled: false, open: Vec::new() };
        let shared = Arc::new(Shared { route: Mutex::new(route), changed: Condvar::new() });
        let proxy =
            Proxy { port: listener.local_addr().unwrap().port(), shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                shared.connect(connection);
            }
        });
        proxy
    }

    /// Returns the URL of the engine behind it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends all connections, and leads new ones to another engine.
    pub(crate) fn lead_to(&self, port: u16) {
        let mut route = self.shared.route.lock().unwrap();
        route.to = port;
        route.end_all();
    }

    /// Ends all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        let mut route = self.shared.route.lock().unwrap();
        route.is_cut = true;
        route.end_all();
    }

    /// Lets nothing pass any more, without a word.
    pub(crate) fn stall(&self) {
        self.shared.route.lock().unwrap().is_stalled = true;
    }

    /// Lets everything pass again, what it has held back first.
    pub(crate) fn heal(&self) {
        let mut route = self.shared.route.lock().unwrap();
        (route.is_cut, route.is_stalled) = (false, false);
        self.shared.changed.notify_all();
    }
}

impl Route {
    fn end_all(&mut self) {
        for connection in self.open.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn connect(self: &Arc<Shared>, near: TcpStream) {
        let mut route = self.route.lock().unwrap();
        if route.is_cut {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", route.to)) else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            route.open.push(stream.try_clone().unwrap());
        }
        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
        for (from, to) in [(near, far), back] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass(from, to));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer)
            && count > 0
        {
            let mut route = self.route.lock().unwrap();
            while route.is_stalled {
                (route, _) = self.changed.wait_timeout(route, Duration::from_millis(100)).unwrap();
            }
            drop(route);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
