//! Messages for Redis or NATS: the same fan-out, checked in the same way.
//!
//! Each message is the line that an event server would receive. There is one channel per user and
//! one for broadcasts. Those servers neither order events nor keep a graph, so messages are sent in
//! order and are only private or broadcast.

use std::io;
use std::str::FromStr;

use serde::Serialize;

use crate::codec::{Event, write_event};
use crate::oracle::model::Model;
use crate::sys::interrupt;
use crate::workload::generated::WorkloadSpec;
use crate::workload::handshake::Handshake;
use crate::workload::prng::Prng;
use crate::workload::segment::{Segment, Workload};

/// Protocol of a publish-subscribe server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireProtocol {
    /// RESP 2: `PUBLISH`, `SUBSCRIBE`.
    Redis,
    /// `PUB`, `SUB`.
    Nats,
}

impl FromStr for WireProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<WireProtocol, String> {
        match text {
            "redis" => Ok(WireProtocol::Redis),
            "nats" => Ok(WireProtocol::Nats),
            _ => Err("expected redis or nats".to_owned()),
        }
    }
}

/// Handshake of a NATS client.
const NATS_CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
/// NATS pings two seconds after connecting, then every two minutes. Waiting for the first ping
/// keeps it from arriving between messages. It may remain unanswered for minutes.
const NATS_FIRST_PING: &[u8] = b"PING\r\n";

impl WireProtocol {
    fn publish(self, channel: &str, message: &[u8], wire: &mut Vec<u8>) {
        let (name, size) = (channel.len(), message.len());
        let head = match self {
            WireProtocol::Redis => {
                format!("*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${size}\r\n")
            }
            WireProtocol::Nats => format!("PUB {channel} {size}\r\n"),
        };
        wire.extend_from_slice(head.as_bytes());
        wire.extend_from_slice(message);
        wire.extend_from_slice(b"\r\n");
    }

    /// Returns the bytes that a subscriber receives, without the final CR and LF.
    fn delivery(self, channel: &str, message: &[u8]) -> Vec<u8> {
        let (name, size) = (channel.len(), message.len());
        let head = match self {
            WireProtocol::Redis => {
                format!("*3\r\n$7\r\nmessage\r\n${name}\r\n{channel}\r\n${size}\r\n")
            }
            WireProtocol::Nats => format!("MSG {channel} 1 {size}\r\n"),
        };
        [head.as_bytes(), message].concat()
    }

    fn subscribe(self, channel: &str) -> Handshake {
        match self {
            WireProtocol::Redis => Handshake {
                text: format!("SUBSCRIBE {channel}\r\n").into_bytes(),
                expected_suffix: b":1\r\n",
            },
            WireProtocol::Nats => Handshake {
                text: format!("{NATS_CONNECT}SUB {channel} 1\r\n").into_bytes(),
                expected_suffix: NATS_FIRST_PING,
            },
        }
    }

    fn publisher_handshake(self) -> Handshake {
        match self {
            WireProtocol::Redis => {
                Handshake { text: b"PING\r\n".to_vec(), expected_suffix: b"PONG\r\n" }
            }
            WireProtocol::Nats => Handshake {
                text: NATS_CONNECT.as_bytes().to_vec(),
                expected_suffix: NATS_FIRST_PING,
            },
        }
    }
}

/// Private or broadcast messages in a wire protocol.
pub(crate) struct PubsubWorkload {
    protocol: WireProtocol,
    spec: WorkloadSpec,
    prng: Prng,
    clients: Vec<u64>,
    model: Model,
    next_sequence: u64,
}

impl PubsubWorkload {
    /// # Errors
    ///
    /// The mix contains other events, or both private messages and broadcasts.
    pub(crate) fn new(
        protocol: WireProtocol,
        spec: WorkloadSpec,
    ) -> Result<PubsubWorkload, String> {
        let weights = spec.mix.weights;
        let selected = u64::from(weights.private.max(weights.broadcast));
        if weights.total() != selected {
            return Err(format!("--mix {}: expected private or broadcast", spec.mix));
        }
        let mut prng = Prng::from_seed(spec.seed);
        let clients = prng.distinct(spec.clients, spec.users);
        let model = Model::new(&clients);
        Ok(PubsubWorkload { protocol, spec, prng, clients, model, next_sequence: 1 })
    }

    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }

    fn is_broadcast(&self) -> bool {
        self.spec.mix.weights.broadcast > 0
    }

    fn choose_event(&mut self) -> Event {
        if self.is_broadcast() {
            return Event::Broadcast;
        }
        let mut user = || 1 + self.prng.below(self.spec.users);
        Event::Private { from: user(), to: user() }
    }
}

fn channel_of(event: Event) -> String {
    match event {
        Event::Private { to, .. } => format!("u{to}"),
        _ => ALL.to_owned(),
    }
}

/// Channel of broadcasts.
const ALL: &str = "all";

impl Workload for PubsubWorkload {
    fn next_segment(&mut self, segment: &mut Segment) -> io::Result<bool> {
        segment.clear();
        let mut message = Vec::new();
        while self.next_sequence <= self.spec.total_events && !segment.is_full() {
            interrupt::check()?;
            let event = self.choose_event();
            message.clear();
            write_event(&mut message, self.next_sequence, event);
            let channel = channel_of(event);
            self.protocol.publish(&channel, &message, &mut segment.wire);
            let delivery = self.protocol.delivery(&channel, &message);
            self.model.apply(event, &delivery, &mut segment.deliveries);
            self.next_sequence += 1;
            segment.events += 1;
        }
        segment.deliveries.finish();
        Ok(segment.events > 0)
    }

    fn source_handshake(&self) -> Handshake {
        self.protocol.publisher_handshake()
    }

    fn client_handshake(&self, user: u64) -> Handshake {
        let channel = if self.is_broadcast() { ALL.to_owned() } else { format!("u{user}") };
        self.protocol.subscribe(&channel)
    }

    fn source_expects_replies(&self) -> bool {
        true
    }
}
