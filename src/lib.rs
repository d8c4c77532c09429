//! An event server.

pub mod engine;
pub mod loadgen;
pub mod protocol;
pub mod server;
