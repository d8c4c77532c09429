//! Tests of the real program over real sockets. Each test starts its own server on free ports of
//! the loopback device, and ends it by its process ID.
//!
//! No test relies on a length of time. Two facts make that possible. A client that has written its
//! ID before a source writes is registered before the source's bytes are applied, so that no test
//! has to wait for registrations. And a client's deliveries keep their order, so that a later
//! broadcast proves that nothing else came before it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod admin;
mod backpressure;
mod capture;
mod clients;
mod connection_limits;
mod framing;
mod http;
mod journal;
mod limits;
mod log;
mod memory;
mod ordering;
mod outputs;
mod page;
mod peer_timeout;
mod queue_memory;
mod recovery;
mod registration;
mod reload;
mod resume;
mod routing;
mod service;
mod shutdown;
mod sources;
#[cfg(feature = "cluster")]
mod stream;
mod support;
mod syscalls;
mod verification_stream;
