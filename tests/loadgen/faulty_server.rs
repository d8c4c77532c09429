//! A naive server that is obviously correct, with one injectable bug.
//!
//! One thread reads the source, another accepts clients. No event is applied before the announced
//! number of clients have sent their ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// An injected bug. By default it strikes at the delivery numbered [`FAULTY_DELIVERY`].
///
/// The end of a stream is its last announced event, or, if its length is unknown, [`QUIET`] without
/// input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InjectedBug {
    Nothing,
    /// Delivers a line after the same user's next one.
    Swap,
    Lose,
    Double,
    ChangeByte,
    /// Delivers a line to another user.
    WrongUser,
    CloseClient,
    CloseSource,
    /// Writes to the source.
    AnswerSource,
    /// Delivers nothing more to any client.
    StopDelivering,
    /// Delivers a line that was never sent, at the end.
    ExtraAtEnd,
    /// Delivers the beginning of a line, at the end.
    BytesAtEnd,
    CloseClientAtEnd,
    CloseSourceAtEnd,
    AnswerSourceAtEnd,
    /// Delivers a line that was never sent, after the source has closed.
    ExtraAfterSource,
}

impl InjectedBug {
    /// All bugs.
    pub(crate) const ALL: [InjectedBug; 15] = [
        InjectedBug::Swap,
        InjectedBug::Lose,
        InjectedBug::Double,
        InjectedBug::ChangeByte,
        InjectedBug::WrongUser,
        InjectedBug::CloseClient,
        InjectedBug::CloseSource,
        InjectedBug::AnswerSource,
        InjectedBug::StopDelivering,
        InjectedBug::ExtraAtEnd,
        InjectedBug::BytesAtEnd,
        InjectedBug::CloseClientAtEnd,
        InjectedBug::CloseSourceAtEnd,
        InjectedBug::AnswerSourceAtEnd,
        InjectedBug::ExtraAfterSource,
    ];
}

/// A bug of a server to which clients come back with the last sequence that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResumeBug {
    Nothing,
    /// Sends the last event that the client has again.
    OneTooMany,
    /// Does not send the first event that the client lacks.
    OneTooFew,
    /// Sends live events only.
    LiveOnly,
    /// Sends everything from the beginning.
    FromTheStart,
    /// Says that the first event may be missing.
    Gap,
}

impl ResumeBug {
    /// All bugs.
    pub(crate) const ALL: [ResumeBug; 5] = [
        ResumeBug::OneTooMany,
        ResumeBug::OneTooFew,
        ResumeBug::LiveOnly,
        ResumeBug::FromTheStart,
        ResumeBug::Gap,
    ];
}

/// Index over all users, from 1; in a shorter run the middle delivery.
pub(crate) const FAULTY_DELIVERY: u64 = 100;

/// A pause of this length is the end of a stream of unknown length.
const QUIET: Duration = Duration::from_millis(20);

/// Receive buffer of a source's connection, so that a flood is not megabytes ahead of this slow
/// server.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// The ports of a running server. Its threads end with their connections.
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

/// Starts a server for one run of `events` events, or of any number if `None`. It applies the first
/// event after `clients` clients have registered; more may follow later.
pub(crate) fn start(clients: usize, events: Option<u64>, bug: InjectedBug) -> Ports {
    start_resuming(clients, events, bug, ResumeBug::Nothing)
}

/// The same, with a bug for clients that come back.
pub(crate) fn start_resuming(
    clients: usize,
    events: Option<u64>,
    bug: InjectedBug,
    resume_bug: ResumeBug,
) -> Ports {
    let sources = TcpListener::bind("127.0.0.1:0").unwrap();
    let users = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&sources).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let ports = Ports {
        events: sources.local_addr().unwrap().port(),
        clients: users.local_addr().unwrap().port(),
    };
    let (registered, registrations) = channel();
    thread::spawn(move || {
        for (number, client) in users.incoming().flatten().enumerate() {
            let registered = registered.clone();
            thread::spawn(move || register(client, number, &registered));
        }
    });
    thread::spawn(move || {
        let (source, _) = sources.accept().unwrap();
        let server = Server::new(registrations, clients, events, bug);
        Server { resume_bug, ..server }.serve(source);
    });
    ports
}

/// A user, the sequence up to which it has everything if it comes back, its connection, and the number of that in
/// the order of accepting: threads may register two connections of a user the other way round.
type Registration = (u64, Option<u64>, TcpStream, usize);

/// Ignores a client that disconnects before sending its id.
fn register(client: TcpStream, number: usize, registered: &Sender<Registration>) {
    let mut id = String::new();
    let read = BufReader::new(&client).read_line(&mut id);
    if read.is_ok_and(|bytes| bytes > 0) {
        let (id, after) = match id.trim().split_once('|') {
            Some((id, after)) => (id, Some(after.parse().unwrap())),
            None => (id.trim(), None),
        };
        // The run may have ended.
        let _ = registered.send((id.parse().unwrap(), after, client, number));
    }
}

/// Starts a server that discards what sources send, and writes `line` to each client with an id of
/// at least `first_user`.
pub(crate) fn start_answering(line: &'static str, first_user: u64) -> Ports {
    let sources = TcpListener::bind("127.0.0.1:0").unwrap();
    let users = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = Ports {
        events: sources.local_addr().unwrap().port(),
        clients: users.local_addr().unwrap().port(),
    };
    thread::spawn(move || {
        for mut source in sources.incoming().flatten() {
            thread::spawn(move || io::copy(&mut source, &mut io::sink()));
        }
    });
    thread::spawn(move || {
        for mut client in users.incoming().flatten() {
            thread::spawn(move || {
                let mut id = String::new();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let read = reader.read_line(&mut id);
                if read.is_ok() && id.trim().parse().is_ok_and(|id: u64| id >= first_user) {
                    let _ = client.write_all(line.as_bytes());
                }
                // Stays connected until the peer closes.
                let _ = io::copy(&mut reader, &mut io::sink());
            });
        }
    });
    ports
}

struct Server {
    registrations: Receiver<Registration>,
    clients: HashMap<u64, TcpStream>,
    /// The clients that registered before the first event: a run checks everything that these receive.
    first: BTreeSet<u64>,
    /// The number of each user's newest connection.
    newest: HashMap<u64, usize>,
    followers: HashMap<u64, BTreeSet<u64>>,
    events: Option<u64>,
    bug: InjectedBug,
    resume_bug: ResumeBug,
    /// All lines of each user that was ever connected, with their sequences.
    history: HashMap<u64, Vec<(u64, String)>>,
    /// The client concerned by bugs at the end: one of the first to register.
    victim: u64,
    faulty_delivery: u64,
    /// Deliveries to the first clients.
    deliveries: u64,
    /// The line held back by [`InjectedBug::Swap`], and its user.
    held: Option<(u64, String)>,
    /// Lines to be written after all buffered input has been applied.
    unwritten: HashMap<u64, String>,
    /// The bug at the source or at the end has been injected.
    is_injected: bool,
}

impl Server {
    fn new(
        registrations: Receiver<Registration>,
        count: usize,
        events: Option<u64>,
        bug: InjectedBug,
    ) -> Server {
        let first = registrations.iter().take(count);
        let (mut clients, mut newest) = (HashMap::new(), HashMap::new());
        for (id, _, client, number) in first {
            clients.insert(id, client);
            newest.insert(id, number);
        }
        let middle = (count as u64).saturating_mul(events.unwrap_or(u64::MAX)) / 2;
        Server {
            victim: *clients.keys().min().unwrap(),
            registrations,
            first: clients.keys().copied().collect(),
            clients,
            newest,
            followers: HashMap::new(),
            events,
            bug,
            resume_bug: ResumeBug::Nothing,
            history: HashMap::new(),
            faulty_delivery: FAULTY_DELIVERY.min(middle),
            deliveries: 0,
            held: None,
            unwritten: HashMap::new(),
            is_injected: false,
        }
    }

    fn serve(mut self, source: TcpStream) {
        source.set_read_timeout(Some(QUIET)).unwrap();
        let mut lines = BufReader::new(&source);
        let (mut line, mut waiting, mut next) = (Vec::new(), BTreeMap::new(), 1);
        loop {
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.take_registrations();
                    if self.events.is_none() && self.deliveries >= self.faulty_delivery {
                        self.inject_at_end(&source);
                    }
                    continue;
                }
                Err(_) => break,
            }
            self.take_registrations();
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            let text = text.trim_end().to_owned();
            let sequence: u64 = text.split('|').next().unwrap().parse().unwrap();
            waiting.insert(sequence, text);
            while let Some(line) = waiting.remove(&next) {
                self.apply(&line);
                next += 1;
                if self.deliveries >= self.faulty_delivery {
                    self.inject_at_source(&source);
                }
                if self.events.is_some_and(|events| next > events) {
                    self.inject_at_end(&source);
                }
            }
            if lines.buffer().is_empty() {
                self.flush();
            }
        }
        if self.bug == InjectedBug::ExtraAfterSource {
            self.write(self.victim, "1|B\r\n");
        }
        self.flush();
        drop(source);
        // The clients stay connected until the peer closes.
        for mut client in self.clients.into_values() {
            let _ = io::copy(&mut client, &mut io::sink());
        }
    }

    fn take_registrations(&mut self) {
        let arrived: Vec<Registration> = self.registrations.try_iter().collect();
        for (user, after, client, number) in arrived {
            if self.newest.get(&user).is_some_and(|&newest| newest > number) {
                continue;
            }
            self.newest.insert(user, number);
            self.flush();
            let mut client = client;
            let lines = self.history.get(&user).map_or(&[][..], Vec::as_slice);
            if let Some(after) = after {
                let missed = lines.iter().position(|(sequence, _)| *sequence > after);
                let missed = missed.unwrap_or(lines.len());
                let (start, gap) = match self.resume_bug {
                    ResumeBug::Nothing => (missed, false),
                    ResumeBug::OneTooMany => (missed.saturating_sub(1), false),
                    ResumeBug::OneTooFew => ((missed + 1).min(lines.len()), false),
                    ResumeBug::LiveOnly => (lines.len(), false),
                    ResumeBug::FromTheStart => (0, false),
                    ResumeBug::Gap => (missed, true),
                };
                let text: String = lines[start..].iter().map(|(_, line)| line.as_str()).collect();
                let gap = if gap { format!("gap {0} {0}\r\n", after + 1) } else { String::new() };
                // The client may have left again.
                let _ = client.write_all((gap + &text).as_bytes());
            }
            self.clients.insert(user, client);
        }
    }

    fn inject_at_source(&mut self, source: &TcpStream) {
        match self.bug {
            InjectedBug::CloseSource => close(source),
            InjectedBug::AnswerSource if !self.is_injected => answer(source),
            _ => return,
        }
        self.is_injected = true;
    }

    fn inject_at_end(&mut self, source: &TcpStream) {
        if std::mem::replace(&mut self.is_injected, true) {
            return;
        }
        match self.bug {
            InjectedBug::ExtraAtEnd => self.write(self.victim, "1|B\r\n"),
            InjectedBug::BytesAtEnd => self.write(self.victim, "1|"),
            InjectedBug::CloseClientAtEnd => self.close_client(self.victim),
            InjectedBug::CloseSourceAtEnd => close(source),
            InjectedBug::AnswerSourceAtEnd => answer(source),
            _ => {}
        }
        self.flush();
    }

    fn apply(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('|').collect();
        let user = |index: usize| fields[index].parse::<u64>().unwrap();
        match fields[1] {
            "F" => {
                self.followers.entry(user(3)).or_default().insert(user(2));
                self.deliver(user(3), line);
            }
            "U" => {
                self.followers.entry(user(3)).or_default().remove(&user(2));
            }
            "P" => self.deliver(user(3), line),
            "B" => {
                let everyone: Vec<u64> = self.clients.keys().copied().collect();
                everyone.into_iter().for_each(|user| self.deliver(user, line));
            }
            "S" => {
                let followers = self.followers.get(&user(2)).cloned().unwrap_or_default();
                followers.into_iter().for_each(|follower| self.deliver(follower, line));
            }
            other => panic!("type {other}"),
        }
    }

    fn deliver(&mut self, user: u64, line: &str) {
        if !self.clients.contains_key(&user) {
            return;
        }
        let is_first = self.first.contains(&user);
        self.deliveries += u64::from(is_first);
        let sequence = line.split('|').next().unwrap().parse().unwrap();
        let line = format!("{line}\r\n");
        self.history.entry(user).or_default().push((sequence, line.clone()));
        let faulty = is_first && self.deliveries == self.faulty_delivery;
        match self.bug {
            InjectedBug::Lose if faulty => {}
            InjectedBug::Swap if faulty => self.held = Some((user, line)),
            InjectedBug::Double if faulty => self.write(user, &line.repeat(2)),
            InjectedBug::ChangeByte if faulty => self.write(user, &line.replacen('|', "/", 1)),
            InjectedBug::WrongUser if faulty => {
                let other = *self.clients.keys().find(|&&other| other != user).unwrap();
                self.write(other, &line);
            }
            InjectedBug::CloseClient if faulty => self.close_client(user),
            InjectedBug::StopDelivering if self.deliveries >= self.faulty_delivery => {}
            _ => self.write(user, &line),
        }
        if !faulty && self.held.as_ref().is_some_and(|(held_for, _)| *held_for == user) {
            let (user, line) = self.held.take().unwrap();
            self.write(user, &line);
        }
    }

    fn write(&mut self, user: u64, text: &str) {
        self.unwritten.entry(user).or_default().push_str(text);
    }

    /// Writes to closed clients fail, which is expected.
    fn flush(&mut self) {
        for (user, text) in self.unwritten.drain() {
            let _ = (&self.clients[&user]).write_all(text.as_bytes());
        }
    }

    fn close_client(&mut self, user: u64) {
        self.flush();
        close(&self.clients[&user]);
    }
}

/// Writes to a source; it fails if the source has closed.
fn answer(mut source: &TcpStream) {
    let _ = source.write_all(b"ok\n");
}

/// Closes a connection; the peer may have closed it already.
fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
