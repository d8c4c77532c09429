//! Servers under test: how they are started, and the two that are built in.

pub(crate) mod admin;
pub(crate) mod baseline;
mod executable;
pub(crate) mod launcher;
pub(crate) mod monitor;
pub(crate) mod relay;
pub(crate) mod server;
pub(crate) mod server_log;
