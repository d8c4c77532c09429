//! `pubsub`: the same fan-out over Redis or NATS, with the same judge.
//!
//! The messages are the lines that an event server would get, one channel for each user and one
//! for broadcasts. Those servers do not order events and keep no graph, so messages are sent in
//! order, and only private messages and broadcasts are.

use std::io;
use std::str::FromStr;

use serde::Serialize;

use crate::codec::{Event, write_event};
use crate::oracle::model::Model;
use crate::sys::interrupt;
use crate::workload::generated::Plan;
use crate::workload::handshake::Greeting;
use crate::workload::prng::Random;
use crate::workload::segment::{Load, Slice};

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// RESP 2: `PUBLISH`, `SUBSCRIBE`.
    Redis,
    /// `PUB`, `SUB`.
    Nats,
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Dialect, String> {
        match text {
            "redis" => Ok(Dialect::Redis),
            "nats" => Ok(Dialect::Nats),
            _ => Err(format!("`{text}` is neither redis nor nats")),
        }
    }
}

/// What a client of NATS says before it says anything else.
const NATS_CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
/// NATS pings two seconds after connecting, and then every two minutes: waiting for the first one
/// keeps it from coming amid messages. It need not be answered within minutes.
const NATS_FIRST_PING: &[u8] = b"PING\r\n";

impl Dialect {
    fn publish(self, channel: &str, message: &[u8], wire: &mut Vec<u8>) {
        let (name, size) = (channel.len(), message.len());
        let head = match self {
            Dialect::Redis => {
                format!("*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${size}\r\n")
            }
            Dialect::Nats => format!("PUB {channel} {size}\r\n"),
        };
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(message);
        wire.extend_from_slice(b"\r\n");
    }

    /// What a subscriber receives, but for the last CR and LF.
    fn delivery(self, channel: &str, message: &[u8]) -> Vec<u8> {
        let (name, size) = (channel.len(), message.len());
        let head = match self {
            Dialect::Redis => {
                format!("*3\r\n$7\r\nmessage\r\n${name}\r\n{channel}\r\n${size}\r\n")
            }
            Dialect::Nats => format!("MSG {channel} 1 {size}\r\n"),
        };
        [head.as_bytes(), message].concat()
    }

    fn subscribe(self, channel: &str) -> Greeting {
        match self {
            Dialect::Redis => Greeting {
                text: format!("SUBSCRIBE {channel}\r\n").into_bytes(),
                answer_end: b":1\r\n",
            },
            Dialect::Nats => Greeting {
                text: format!("{NATS_CONNECT}SUB {channel} 1\r\n").into_bytes(),
                answer_end: NATS_FIRST_PING,
            },
        }
    }

    fn introduce_publisher(self) -> Greeting {
        match self {
            Dialect::Redis => Greeting { text: b"PING\r\n".to_vec(), answer_end: b"PONG\r\n" },
            Dialect::Nats => {
                Greeting { text: NATS_CONNECT.as_bytes().to_vec(), answer_end: NATS_FIRST_PING }
            }
        }
    }
}

/// Messages of a plan, private or broadcast, in a dialect.
pub(crate) struct PubsubLoad {
    dialect: Dialect,
    plan: Plan,
    random: Random,
    clients: Vec<u64>,
    model: Model,
    next_sequence: u64,
}

impl PubsubLoad {
    /// # Errors
    ///
    /// The mix has other events than private messages and broadcasts, or both.
    pub(crate) fn new(dialect: Dialect, plan: Plan) -> Result<PubsubLoad, String> {
        let weights = plan.mix.weights;
        let in_question = u64::from(weights.private.max(weights.broadcast));
        if weights.total() != in_question {
            return Err(format!("the mix `{}` is neither private nor broadcast", plan.mix));
        }
        let mut random = Random::from_seed(plan.seed);
        let clients = random.distinct(plan.clients, plan.users);
        let model = Model::new(&clients);
        Ok(PubsubLoad { dialect, plan, random, clients, model, next_sequence: 1 })
    }

    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }

    fn is_broadcast(&self) -> bool {
        self.plan.mix.weights.broadcast > 0
    }

    fn choose_event(&mut self) -> Event {
        if self.is_broadcast() {
            return Event::Broadcast;
        }
        let mut user = || 1 + self.random.below(self.plan.users);
        Event::Private { from: user(), to: user() }
    }
}

fn channel_of(event: Event) -> String {
    match event {
        Event::Private { to, .. } => format!("u{to}"),
        _ => ALL.to_owned(),
    }
}

/// The channel of broadcasts.
const ALL: &str = "all";

impl Load for PubsubLoad {
    fn prepare(&mut self, slice: &mut Slice) -> io::Result<bool> {
        slice.clear();
        let mut message = Vec::new();
        while self.next_sequence <= self.plan.total_events && !slice.is_full() {
            interrupt::check()?;
            let event = self.choose_event();
            message.clear();
            write_event(&mut message, self.next_sequence, event);
            let channel = channel_of(event);
            self.dialect.publish(&channel, &message, &mut slice.wire);
            let delivery = self.dialect.delivery(&channel, &message);
            self.model.apply(event, &delivery, &mut slice.deliveries);
            self.next_sequence += 1;
            slice.events += 1;
        }
        slice.deliveries.complete();
        Ok(slice.events > 0)
    }

    fn source_greeting(&self) -> Greeting {
        self.dialect.introduce_publisher()
    }

    fn client_greeting(&self, user: u64) -> Greeting {
        let channel = if self.is_broadcast() { ALL.to_owned() } else { format!("u{user}") };
        self.dialect.subscribe(&channel)
    }

    fn source_is_answered(&self) -> bool {
        true
    }
}
