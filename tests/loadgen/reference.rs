//! A slow, plain server that is obviously right, and that can be told to do one thing wrong.
//!
//! One thread for the source, one that accepts clients. Nothing is applied before all clients
//! that the test announces have said who they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What goes wrong, at the delivery with the number [`FAULTY_DELIVERY`] where nothing else is said.
///
/// The end of a stream is the last event announced; where none is, the source has been silent for
/// [`QUIET`] by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    /// The line comes after the same user's next one.
    Swap,
    Lose,
    Double,
    ChangeByte,
    /// The line goes to somebody else.
    WrongUser,
    CloseClient,
    CloseSource,
    /// The server writes to the source.
    AnswerSource,
    /// Nothing is delivered from there on, to anybody.
    FallSilent,
    /// A line that nobody sent, at the end.
    ExtraAtEnd,
    /// The beginning of a line, at the end.
    BytesAtEnd,
    CloseClientAtEnd,
    CloseSourceAtEnd,
    AnswerSourceAtEnd,
    /// A line that nobody sent, once the source has closed.
    ExtraAfterSource,
}

impl Plant {
    /// Every fault.
    pub(crate) const FAULTS: [Plant; 15] = [
        Plant::Swap,
        Plant::Lose,
        Plant::Double,
        Plant::ChangeByte,
        Plant::WrongUser,
        Plant::CloseClient,
        Plant::CloseSource,
        Plant::AnswerSource,
        Plant::FallSilent,
        Plant::ExtraAtEnd,
        Plant::BytesAtEnd,
        Plant::CloseClientAtEnd,
        Plant::CloseSourceAtEnd,
        Plant::AnswerSourceAtEnd,
        Plant::ExtraAfterSource,
    ];
}

/// Counted over all users, from 1; in a shorter run it is the middle one.
pub(crate) const FAULTY_DELIVERY: u64 = 700;

/// So long a pause is the end of a stream of unknown length.
const QUIET: Duration = Duration::from_millis(20);

/// Of a source's connection, so that a flood is not megabytes ahead of this slow server.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// The ports of a running server. Its threads end with their connections.
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

/// Starts a server for one run: of `events` events or, where it is `None`, as many as come. It
/// applies the first one once there are `clients` clients; more may come later.
pub(crate) fn start(clients: usize, events: Option<u64>, plant: Plant) -> Ports {
    let sources = TcpListener::bind("127.0.0.1:0").unwrap();
    let users = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&sources).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let ports = Ports {
        events: sources.local_addr().unwrap().port(),
        clients: users.local_addr().unwrap().port(),
    };
    let (registered, registrations) = channel();
    thread::spawn(move || {
        for client in users.incoming().flatten() {
            let registered = registered.clone();
            thread::spawn(move || register(client, &registered));
        }
    });
    thread::spawn(move || {
        let (source, _) = sources.accept().unwrap();
        let server = Server::new(registrations, clients, events, plant);
        server.serve(source);
    });
    ports
}

/// A client that leaves before it has said who it is is none.
fn register(client: TcpStream, registered: &Sender<(u64, TcpStream)>) {
    let mut id = String::new();
    let read = BufReader::new(&client).read_line(&mut id);
    if read.is_ok_and(|bytes| bytes > 0) {
        // The run may be over.
        let _ = registered.send((id.trim().parse().unwrap(), client));
    }
}

/// Starts a server that reads what sources send and writes `line` to each client with an id from
/// `first_user` on, and that is all.
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
                // Held until the other side has enough of it.
                let _ = io::copy(&mut reader, &mut io::sink());
            });
        }
    });
    ports
}

struct Server {
    registrations: Receiver<(u64, TcpStream)>,
    clients: HashMap<u64, TcpStream>,
    followers: HashMap<u64, BTreeSet<u64>>,
    events: Option<u64>,
    plant: Plant,
    /// The client that the faults at the end concern: one of those that came first.
    victim: u64,
    faulty_delivery: u64,
    deliveries: u64,
    /// The line held back, and for whom, by [`Plant::Swap`].
    held: Option<(u64, String)>,
    /// Lines that will be written once all that was read has been applied.
    unwritten: HashMap<u64, String>,
    /// The fault of the source's connection or of the end has been planted.
    is_planted: bool,
}

impl Server {
    fn new(
        registrations: Receiver<(u64, TcpStream)>,
        count: usize,
        events: Option<u64>,
        plant: Plant,
    ) -> Server {
        let clients: HashMap<u64, TcpStream> = registrations.iter().take(count).collect();
        let middle = (count as u64).saturating_mul(events.unwrap_or(u64::MAX)) / 2;
        Server {
            victim: *clients.keys().min().unwrap(),
            registrations,
            clients,
            followers: HashMap::new(),
            events,
            plant,
            faulty_delivery: FAULTY_DELIVERY.min(middle),
            deliveries: 0,
            held: None,
            unwritten: HashMap::new(),
            is_planted: false,
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
                    if self.events.is_none() && self.deliveries >= self.faulty_delivery {
                        self.plant_at_end(&source);
                    }
                    continue;
                }
                Err(_) => break,
            }
            self.clients.extend(self.registrations.try_iter());
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            let text = text.trim_end().to_owned();
            let sequence: u64 = text.split('|').next().unwrap().parse().unwrap();
            waiting.insert(sequence, text);
            while let Some(line) = waiting.remove(&next) {
                self.apply(&line);
                next += 1;
                if self.deliveries >= self.faulty_delivery {
                    self.plant_at_source(&source);
                }
                if self.events.is_some_and(|events| next > events) {
                    self.plant_at_end(&source);
                }
            }
            if lines.buffer().is_empty() {
                self.flush();
            }
        }
        if self.plant == Plant::ExtraAfterSource {
            self.write(self.victim, "1|B\r\n");
        }
        self.flush();
        drop(source);
        // The clients stay connected until the other side has had enough.
        for mut client in self.clients.into_values() {
            let _ = io::copy(&mut client, &mut io::sink());
        }
    }

    fn plant_at_source(&mut self, source: &TcpStream) {
        match self.plant {
            Plant::CloseSource => close(source),
            Plant::AnswerSource if !self.is_planted => answer(source),
            _ => return,
        }
        self.is_planted = true;
    }

    fn plant_at_end(&mut self, source: &TcpStream) {
        if std::mem::replace(&mut self.is_planted, true) {
            return;
        }
        match self.plant {
            Plant::ExtraAtEnd => self.write(self.victim, "1|B\r\n"),
            Plant::BytesAtEnd => self.write(self.victim, "1|"),
            Plant::CloseClientAtEnd => self.close_client(self.victim),
            Plant::CloseSourceAtEnd => close(source),
            Plant::AnswerSourceAtEnd => answer(source),
            _ => {}
        }
        self.flush();
    }

    fn apply(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('|').collect();
        let user = |place: usize| fields[place].parse::<u64>().unwrap();
        match fields[1] {
            "F" => {
                self.followers.entry(user(3)).or_default().insert(user(2));
                self.tell(user(3), line);
            }
            "U" => {
                self.followers.entry(user(3)).or_default().remove(&user(2));
            }
            "P" => self.tell(user(3), line),
            "B" => {
                let everyone: Vec<u64> = self.clients.keys().copied().collect();
                everyone.into_iter().for_each(|user| self.tell(user, line));
            }
            "S" => {
                let followers = self.followers.get(&user(2)).cloned().unwrap_or_default();
                followers.into_iter().for_each(|follower| self.tell(follower, line));
            }
            other => panic!("type {other}"),
        }
    }

    fn tell(&mut self, user: u64, line: &str) {
        if !self.clients.contains_key(&user) {
            return;
        }
        self.deliveries += 1;
        let line = format!("{line}\r\n");
        let faulty = self.deliveries == self.faulty_delivery;
        match self.plant {
            Plant::Lose if faulty => {}
            Plant::Swap if faulty => self.held = Some((user, line)),
            Plant::Double if faulty => self.write(user, &line.repeat(2)),
            Plant::ChangeByte if faulty => self.write(user, &line.replacen('|', "/", 1)),
            Plant::WrongUser if faulty => {
                let other = *self.clients.keys().find(|&&other| other != user).unwrap();
                self.write(other, &line);
            }
            Plant::CloseClient if faulty => self.close_client(user),
            Plant::FallSilent if self.deliveries >= self.faulty_delivery => {}
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

    /// A client that the program has closed, or that was closed to plant a fault, takes nothing.
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

/// A source never gets an answer; one that has closed takes none.
fn answer(mut source: &TcpStream) {
    let _ = source.write_all(b"ok\n");
}

/// The other side may have closed it already.
fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
