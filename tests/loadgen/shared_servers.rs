//! Naive servers that share a stream in memory and are obviously correct, with one injectable bug.
//!
//! The stream is a vector under a lock. Each server applies it in a thread of its own, at its own pace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;

/// An injected bug, of the second server. Unless said otherwise it strikes once, after about
/// [`FAULTY_EVENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedBug {
    Nothing,
    /// No bug: closes all connections, as a crash does.
    CutConnections,
    /// Closes the connections of its clients, and loses the first line of each that comes again, unless it is its
    /// first.
    LoseFirstLine,
    /// Closes the connections of its clients, and repeats the first line of each that comes again.
    RepeatFirstLine,
    LoseLine,
    DoubleLine,
    /// Applies another event in the place of one.
    OtherEvent,
    StopApplying,
    /// Never says that anything is committed.
    CommitNothing,
    /// Awaits a sequence that nobody has sent.
    AwaitTooMuch,
    /// Shows another state hash.
    OtherHash,
    /// Shows no state hash.
    NoHash,
    /// No bug: when its state is compared, it answers nothing, and then as in a start, before it answers as it
    /// should.
    ComeBackAtEnd,
    /// Delivers a line that was never sent, at the end.
    ExtraAtEnd,
}

/// Events before a bug strikes.
const FAULTY_EVENTS: u64 = 20_000;
/// Events after which the stream is at its end, for bugs there.
pub(crate) const EVENTS: u64 = 60_000;
/// Time between two looks for new commits.
const QUIET: Duration = Duration::from_millis(2);

/// The stream, in order.
#[derive(Default)]
struct Stream {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Default)]
struct Lines {
    /// From sequence 1 on.
    ordered: Vec<Arc<str>>,
    waiting: BTreeMap<u64, Arc<str>>,
}

impl Lines {
    fn awaited(&self) -> u64 {
        self.ordered.len() as u64 + 1
    }

    fn insert(&mut self, line: &str) {
        let sequence: u64 = line.split('|').next().unwrap().parse().unwrap();
        if sequence >= self.awaited() {
            self.waiting.entry(sequence).or_insert_with(|| line.into());
        }
        while let Some(line) = self.waiting.remove(&self.awaited()) {
            self.ordered.push(line);
        }
    }
}

/// One of the servers.
struct Server {
    stream: Arc<Stream>,
    state: Mutex<State>,
    bug: SharedBug,
}

#[derive(Default)]
struct State {
    /// The sequence that is to be applied next.
    awaited: u64,
    clients: HashMap<u64, TcpStream>,
    sources: Vec<TcpStream>,
    open_sources: u64,
    followers: HashMap<u64, BTreeSet<u64>>,
    /// Clients that have come after a cut and have received nothing yet.
    returned: BTreeSet<u64>,
    unwritten: HashMap<u64, String>,
    has_struck: bool,
    /// The number of requests for its status since it has applied something.
    requests: usize,
}

/// Starts `count` servers. Returns the flags of `loadgen` that name them.
pub(crate) fn start(count: usize, bug: SharedBug) -> String {
    let stream = Arc::new(Stream::default());
    let mut flags = Vec::new();
    for index in 0..count {
        let bug = if index == 1 { bug } else { SharedBug::Nothing };
        let state = Mutex::new(State { awaited: 1, ..State::default() });
        let server = Arc::new(Server { stream: Arc::clone(&stream), state, bug });
        let events = listen(&server, Server::serve_source).port();
        let clients = TcpListener::bind("127.0.0.1:0").unwrap();
        let client_port = clients.local_addr().unwrap().port();
        let admin = listen(&server, Server::show_status).port();
        thread::spawn(move || server.apply_all(&clients));
        flags.push(format!("--target 127.0.0.1:{events}:{client_port}:{admin}"));
    }
    flags.join(" ")
}

/// Serves each connection in a thread of its own.
fn listen(server: &Arc<Server>, serve: fn(&Server, &TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::clone(server);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread::spawn(move || serve(&server, &connection));
        }
    });
    address
}

impl Server {
    fn serve_source(&self, mut source: &TcpStream) {
        source.set_read_timeout(Some(QUIET)).unwrap();
        let mut state = self.state.lock().unwrap();
        state.sources.push(source.try_clone().unwrap());
        state.open_sources += 1;
        drop(state);
        let (mut lines, mut line, mut reported) = (BufReader::new(source), Vec::new(), None);
        loop {
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) if line.ends_with(b"\n") => {
                    let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
                    if text == "SYNC\n" {
                        let mut awaited = self.state.lock().unwrap().awaited;
                        reported = Some(awaited);
                        if self.bug == SharedBug::AwaitTooMuch {
                            awaited += 1_000_000;
                        }
                        let _ = source.write_all(format!("awaited {awaited}\n").as_bytes());
                    } else {
                        self.stream.lines.lock().unwrap().insert(text.trim_end());
                        self.stream.grown.notify_all();
                    }
                }
                Ok(_) => break,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
            let awaited = self.state.lock().unwrap().awaited;
            if reported.is_some_and(|reported| awaited > reported)
                && self.bug != SharedBug::CommitNothing
            {
                reported = Some(awaited);
                let _ = source.write_all(format!("committed {}\n", awaited - 1).as_bytes());
            }
        }
        self.state.lock().unwrap().open_sources -= 1;
    }

    /// Registers all clients that have connected.
    fn register_all(&self, clients: &TcpListener) {
        while let Ok((client, _)) = clients.accept() {
            client.set_nonblocking(false).unwrap();
            let (mut id, mut reader) = (String::new(), BufReader::new(client.try_clone().unwrap()));
            reader.read_line(&mut id).unwrap();
            let user = id.trim().parse().unwrap();
            let mut state = self.state.lock().unwrap();
            if state.has_struck {
                state.returned.insert(user);
            }
            state.clients.insert(user, client);
        }
    }

    fn show_status(&self, mut operator: &TcpStream) {
        let mut request = [0; 4096];
        let _ = operator.read(&mut request);
        let mut state = self.state.lock().unwrap();
        let (awaited, bug) = (state.awaited, self.bug);
        // At the start it is asked, too.
        state.requests += usize::from(awaited > 1);
        let is_back = bug != SharedBug::ComeBackAtEnd || !(1..=2).contains(&state.requests);
        if !is_back && state.requests == 1 {
            return;
        }
        let mut hash = format!("{:032x}", 7 * awaited);
        if bug == SharedBug::OtherHash {
            hash.replace_range(..1, "f");
        }
        let clients = json!({ "connected": state.clients.len(), "max": 1000 });
        let status = json!({
            "server": { "version": "0", "pid": 1, "uptime_seconds": 1.0,
                "state": if is_back { "running" } else { "replaying" },
            },
            "sequence": {
                "awaited": awaited, "buffered_events": 0,
                "state_hash": (is_back && bug != SharedBug::NoHash).then_some(hash),
            },
            "events": {
                "applied": awaited - 1, "malformed": 0, "void": 0, "duplicate": 0, "late": 0, "lost": 0,
            },
            "traffic": { "lines_queued": 0, "bytes_written": 0, "queued_bytes": 0 },
            "pause": { "paused_seconds": 0.0 },
            "clients": clients,
            "sources": { "connected": state.open_sources, "max": 1000 },
            "graph": { "users": 0, "follows": 0 },
            "slow_clients": [],
            "recent_closes": [],
            "process": { "resident_bytes": 1, "cpu_seconds": 1.0, "open_descriptors": 1 },
            "histograms": { "delivery_delay_seconds": { "count": 0, "buckets": [] } },
        });
        let _ = write!(operator, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{status}");
    }

    fn apply_all(&self, clients: &TcpListener) {
        clients.set_nonblocking(true).unwrap();
        let mut next = 0;
        loop {
            let mut lines = self.stream.lines.lock().unwrap();
            if lines.ordered.len() == next {
                (lines, _) = self.stream.grown.wait_timeout(lines, QUIET).unwrap();
            }
            let new: Vec<Arc<str>> = lines.ordered[next..].to_vec();
            drop(lines);
            // Before it applies what it has read.
            self.register_all(clients);
            for part in new.chunks(100) {
                let mut state = self.state.lock().unwrap();
                for line in part {
                    state.apply(line, self.bug);
                    next += 1;
                }
                if self.bug == SharedBug::ExtraAtEnd && next as u64 > EVENTS && state.strikes() {
                    state.deliver_to_all("1|B", SharedBug::Nothing);
                }
                state.flush();
            }
        }
    }
}

impl State {
    /// Returns whether a bug is to strike: once, after some events.
    fn strikes(&mut self) -> bool {
        self.awaited > FAULTY_EVENTS && !std::mem::replace(&mut self.has_struck, true)
    }

    fn apply(&mut self, line: &str, bug: SharedBug) {
        if bug == SharedBug::StopApplying && self.awaited > FAULTY_EVENTS {
            return;
        }
        self.awaited += 1;
        let cuts =
            [SharedBug::CutConnections, SharedBug::LoseFirstLine, SharedBug::RepeatFirstLine];
        if cuts.contains(&bug) && self.strikes() {
            self.flush();
            let sources = self.sources.drain(..);
            for connection in sources.chain(self.clients.drain().map(|(_, client)| client)) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        let fields: Vec<&str> = line.split('|').collect();
        let user = |index: usize| fields[index].parse::<u64>().unwrap();
        match fields[1] {
            "B" if bug == SharedBug::OtherEvent && self.strikes() => {
                self.deliver_to_all(&format!("{}|S|1", fields[0]), bug);
            }
            "F" => {
                self.followers.entry(user(3)).or_default().insert(user(2));
                self.deliver(user(3), line, bug);
            }
            "U" => {
                self.followers.entry(user(3)).or_default().remove(&user(2));
            }
            "P" => self.deliver(user(3), line, bug),
            "B" => self.deliver_to_all(line, bug),
            "S" => {
                let followers = self.followers.get(&user(2)).cloned().unwrap_or_default();
                followers.into_iter().for_each(|follower| self.deliver(follower, line, bug));
            }
            other => panic!("type {other}"),
        }
    }

    fn deliver_to_all(&mut self, line: &str, bug: SharedBug) {
        let everyone: Vec<u64> = self.clients.keys().copied().collect();
        everyone.into_iter().for_each(|user| self.deliver(user, line, bug));
    }

    fn deliver(&mut self, user: u64, line: &str, bug: SharedBug) {
        if !self.clients.contains_key(&user) {
            return;
        }
        let is_first = self.returned.remove(&user);
        let copies = match bug {
            SharedBug::LoseLine if self.strikes() => 0,
            SharedBug::DoubleLine if self.strikes() => 2,
            SharedBug::RepeatFirstLine if is_first => 2,
            _ => 1,
        };
        let text = self.unwritten.entry(user).or_default();
        for _ in 0..copies {
            let _ = write!(text, "{line}\r\n");
        }
        if bug == SharedBug::LoseFirstLine && is_first {
            // The second line is the one that is missing: which one comes first is uncertain.
            self.returned.insert(u64::MAX - user);
        } else if bug == SharedBug::LoseFirstLine && self.returned.remove(&(u64::MAX - user)) {
            text.truncate(text.len() - line.len() - 2);
        }
    }

    /// Writes to closed clients fail, which is expected.
    fn flush(&mut self) {
        for (user, text) in self.unwritten.drain() {
            if let Some(mut client) = self.clients.get(&user) {
                let _ = client.write_all(text.as_bytes());
            }
        }
    }
}
