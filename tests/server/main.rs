//! The real program over real sockets: each test starts a server of its own on free ports of the
//! loopback device, talks to it, and ends it by its process id.
//!
//! Nothing here waits for a length of time and hopes. Two facts make that possible. A client that
//! has written its id before a source writes is registered before the source's bytes are applied,
//! so nobody has to wait for registrations. And deliveries to a client keep their order, so that a
//! later broadcast proves that nothing else came before it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

mod backpressure;
mod capture;
mod clients;
mod connection_limits;
mod framing;
mod http;
mod limits;
mod log;
mod memory;
mod ordering;
mod outputs;
mod peer_timeout;
mod queue_memory;
mod registration;
mod routing;
mod shutdown;
mod sources;
mod support;
mod syscalls;
mod verification_stream;
