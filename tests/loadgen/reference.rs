//! A slow, plain server that is obviously right, and that can be told to do one thing wrong.
//!
//! One thread for the source, one that accepts clients. Nothing is applied before all clients
//! that the test announces have said who they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// What goes wrong, at the delivery with the number [`FAULTY_DELIVERY`] where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    /// The line comes behind the same user's next one.
    Swap,
    Lose,
    Double,
    ChangeByte,
    /// The line goes to somebody else.
    WrongUser,
    /// A line that nobody sent, once the last event has been applied.
    ExtraAtEnd,
    CloseClient,
    CloseSource,
    /// Nothing is delivered from there on, to anybody.
    FallSilent,
}

/// Counted over all users, from 1.
pub(crate) const FAULTY_DELIVERY: u64 = 700;

/// The ports of a running server. Its threads end with their connections.
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

/// Starts a server for one run of `events` events and `clients` clients.
pub(crate) fn start(clients: usize, events: u64, plant: Plant) -> Ports {
    let sources = TcpListener::bind("127.0.0.1:0").unwrap();
    let users = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = Ports {
        events: sources.local_addr().unwrap().port(),
        clients: users.local_addr().unwrap().port(),
    };
    let (registered, registrations) = channel();
    thread::spawn(move || {
        for _ in 0..clients {
            let (client, _) = users.accept().unwrap();
            let mut id = String::new();
            BufReader::new(&client).read_line(&mut id).unwrap();
            registered.send((id.trim().parse::<u64>().unwrap(), client)).unwrap();
        }
    });
    thread::spawn(move || {
        let (source, _) = sources.accept().unwrap();
        let server = Server::new(&registrations, clients, plant);
        server.serve(&source, events);
    });
    ports
}

/// Starts a server that reads what sources send and writes `line` to whoever says who it is, and
/// that is all.
pub(crate) fn start_answering(line: &'static str) -> Ports {
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
                if reader.read_line(&mut id).is_ok_and(|bytes| bytes > 0) {
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
    clients: HashMap<u64, TcpStream>,
    followers: HashMap<u64, BTreeSet<u64>>,
    plant: Plant,
    deliveries: u64,
    /// The line held back, and for whom, by [`Plant::Swap`].
    held: Option<(u64, String)>,
}

impl Server {
    fn new(registrations: &Receiver<(u64, TcpStream)>, clients: usize, plant: Plant) -> Server {
        Server {
            clients: registrations.iter().take(clients).collect(),
            followers: HashMap::new(),
            plant,
            deliveries: 0,
            held: None,
        }
    }

    fn serve(mut self, source: &TcpStream, events: u64) {
        let mut waiting = BTreeMap::new();
        let mut next = 1;
        for line in BufReader::new(source).lines() {
            let Ok(line) = line else { return };
            let sequence: u64 = line.split('|').next().unwrap().parse().unwrap();
            waiting.insert(sequence, line);
            while let Some(line) = waiting.remove(&next) {
                self.apply(&line);
                next += 1;
                if next > events {
                    self.after_last_event();
                }
                if self.plant == Plant::CloseSource && self.deliveries >= FAULTY_DELIVERY {
                    source.shutdown(Shutdown::Both).unwrap();
                    return;
                }
            }
        }
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
        let faulty = self.deliveries == FAULTY_DELIVERY;
        match self.plant {
            Plant::Lose if faulty => {}
            Plant::Swap if faulty => self.held = Some((user, line)),
            Plant::Double if faulty => self.write(user, &line.repeat(2)),
            Plant::ChangeByte if faulty => self.write(user, &line.replacen('|', "/", 1)),
            Plant::WrongUser if faulty => {
                let other = *self.clients.keys().find(|&&other| other != user).unwrap();
                self.write(other, &line);
            }
            Plant::CloseClient if faulty => self.clients[&user].shutdown(Shutdown::Both).unwrap(),
            Plant::FallSilent if self.deliveries >= FAULTY_DELIVERY => {}
            _ => self.write(user, &line),
        }
        if !faulty && self.held.as_ref().is_some_and(|(held_for, _)| *held_for == user) {
            let (user, line) = self.held.take().unwrap();
            self.write(user, &line);
        }
    }

    fn after_last_event(&mut self) {
        let user = *self.clients.keys().next().unwrap();
        if self.plant == Plant::ExtraAtEnd {
            self.write(user, "1|B\r\n");
        }
    }

    /// A client that the program has closed, or that was closed to plant a fault, takes nothing.
    fn write(&self, user: u64, text: &str) {
        let _ = (&self.clients[&user]).write_all(text.as_bytes());
    }
}
