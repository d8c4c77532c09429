//! An event server.

pub mod config;
pub mod engine;
pub mod loadgen;
pub mod protocol;
pub mod server;
