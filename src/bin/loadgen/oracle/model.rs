//! The meaning of events: which client must receive which line. A second, naive implementation,
//! independent of the server's engine.

use std::collections::HashMap;

use crate::codec::Event;
use crate::oracle::expected::{BroadcastLog, Expected};

/// The connected users, and the part of the follower graph that concerns them.
#[derive(Clone)]
pub(crate) struct Model {
    /// Connected user → client index.
    clients: HashMap<u64, usize>,
    /// User → its followers' client indices, ascending.
    followers: HashMap<u64, Vec<usize>>,
}

impl Model {
    pub(crate) fn new(connected: &[u64]) -> Model {
        let clients = connected.iter().enumerate().map(|(index, &user)| (user, index)).collect();
        Model { clients, followers: HashMap::new() }
    }

    /// Applies `event` and appends `line`, its text, to the output of each recipient.
    pub(crate) fn apply(&mut self, event: Event, line: &[u8], deliveries: &mut ExpectedDeliveries) {
        match event {
            Event::Follow { follower, followed } => {
                self.follow(follower, followed);
                self.deliver(followed, line, deliveries);
            }
            Event::Unfollow { follower, followed } => self.unfollow(follower, followed),
            Event::Broadcast => deliveries.push_to_all(line),
            Event::Private { from: _, to } => self.deliver(to, line, deliveries),
            Event::Status { from } => {
                for &client in self.followers.get(&from).into_iter().flatten() {
                    deliveries.push_to(client, line);
                }
            }
        }
    }

    /// Applies the effect of `event` on the graph, without its delivery.
    pub(crate) fn update_graph(&mut self, event: Event) {
        match event {
            Event::Follow { follower, followed } => self.follow(follower, followed),
            Event::Unfollow { follower, followed } => self.unfollow(follower, followed),
            Event::Broadcast | Event::Private { .. } | Event::Status { .. } => {}
        }
    }

    /// Returns the users that a connected user has followed at some time.
    pub(crate) fn followed(&self) -> impl Iterator<Item = u64> {
        self.followers.keys().copied()
    }

    fn follow(&mut self, follower: u64, followed: u64) {
        let Some(&client) = self.clients.get(&follower) else { return };
        let followers = self.followers.entry(followed).or_default();
        if let Err(index) = followers.binary_search(&client) {
            followers.insert(index, client);
        }
    }

    fn unfollow(&mut self, follower: u64, followed: u64) {
        let Some(&client) = self.clients.get(&follower) else { return };
        let Some(followers) = self.followers.get_mut(&followed) else { return };
        if let Ok(index) = followers.binary_search(&client) {
            followers.remove(index);
        }
    }

    fn deliver(&self, user: u64, line: &[u8], deliveries: &mut ExpectedDeliveries) {
        if let Some(&client) = self.clients.get(&user) {
            deliveries.push_to(client, line);
        }
    }
}

/// Expected output of all clients, built line by line.
#[derive(Default)]
pub(crate) struct ExpectedDeliveries {
    pub(crate) broadcasts: BroadcastLog,
    /// By client index.
    pub(crate) clients: Vec<Expected>,
    /// Approximate bytes of lines that were pushed to single clients.
    own_bytes: usize,
}

impl ExpectedDeliveries {
    pub(crate) fn for_clients(count: usize) -> ExpectedDeliveries {
        let clients = std::iter::repeat_with(Expected::default).take(count).collect();
        ExpectedDeliveries { clients, ..ExpectedDeliveries::default() }
    }

    pub(crate) fn push_to(&mut self, client: usize, line: &[u8]) {
        let expected = &mut self.clients[client];
        let before = expected.memory();
        expected.push_line(line, &self.broadcasts);
        self.own_bytes += expected.memory() - before;
    }

    pub(crate) fn push_to_all(&mut self, line: &[u8]) {
        self.broadcasts.push_line(line);
    }

    /// Appends the trailing broadcasts to every client, after the last line.
    pub(crate) fn finish(&mut self) {
        for expected in &mut self.clients {
            expected.append_broadcasts(&self.broadcasts);
        }
    }

    /// Clears all lines and keeps the allocations.
    pub(crate) fn clear(&mut self) {
        self.broadcasts.clear();
        self.clients.iter_mut().for_each(Expected::clear);
        self.own_bytes = 0;
    }

    /// Returns the memory used in bytes, without short broadcast runs that are not copied yet.
    pub(crate) fn memory(&self) -> usize {
        self.broadcasts.len() + self.own_bytes
    }

    /// Returns the number of lines of all clients.
    pub(crate) fn lines(&self) -> u64 {
        self.clients.iter().map(Expected::lines).sum()
    }

    /// Returns the number of bytes of all clients.
    pub(crate) fn bytes(&self) -> u64 {
        self.clients.iter().map(Expected::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Line;

    /// The output of users 1, 2 and 3 for `lines`, with spaces for line terminators.
    fn received(lines: &[&str]) -> [String; 3] {
        let mut model = Model::new(&[1, 2, 3]);
        let mut deliveries = ExpectedDeliveries::for_clients(3);
        for line in lines {
            let Line::Event(_, event) = Line::read(line.as_bytes()) else { panic!("{line}") };
            model.apply(event, line.as_bytes(), &mut deliveries);
        }
        deliveries.finish();
        std::array::from_fn(|client| {
            let expected = &deliveries.clients[client];
            let mut text = String::new();
            while let Some(line) = expected.line_at(text.len() as u64, &deliveries.broadcasts) {
                text.push_str(std::str::from_utf8(&line.text).unwrap());
            }
            text.replace("\r\n", " ")
        })
    }

    #[test]
    fn each_type_reaches_whom_it_concerns() {
        assert_eq!(received(&["1|B"]), ["1|B ", "1|B ", "1|B "]);
        assert_eq!(received(&["1|P|9|2", "2|P|1|9"]), ["", "1|P|9|2 ", ""]);
        assert_eq!(received(&["1|F|1|2", "2|S|2", "3|S|1"]), ["2|S|2 ", "1|F|1|2 ", ""]);
        assert_eq!(received(&["1|F|1|9", "2|F|3|9", "3|U|1|9", "4|S|9"]), ["", "", "4|S|9 "]);
    }

    #[test]
    fn the_graph_takes_repetition() {
        let twice = ["1|F|1|9", "2|F|1|9", "3|S|9", "4|U|1|9", "5|S|9", "6|U|1|9"];
        assert_eq!(received(&twice), ["3|S|9 ", "", ""]);
        assert_eq!(received(&["1|F|1|1", "2|S|1"]), ["1|F|1|1 2|S|1 ", "", ""]);
    }
}
