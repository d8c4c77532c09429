//! Connections to the server under test: what they send, read and check.

pub(crate) mod connection;
pub(crate) mod first_delivery;
pub(crate) mod flood;
pub(crate) mod open_loop;
pub(crate) mod persistent_client;
pub(crate) mod reconnects;
pub(crate) mod run_end;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod sync;
