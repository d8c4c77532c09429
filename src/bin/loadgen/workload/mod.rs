//! Streams of events to send, each with the deliveries that it must cause.

pub(crate) mod capture;
pub(crate) mod chunks;
pub(crate) mod generated;
pub(crate) mod generator;
pub(crate) mod handshake;
pub(crate) mod mix;
pub(crate) mod prng;
pub(crate) mod pubsub;
pub(crate) mod segment;
