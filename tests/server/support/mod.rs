//! Servers, sources and clients with methods that read as sentences.

mod activation;
mod browser;
mod client;
mod descriptors;
mod http;
mod log;
mod pipes;
#[path = "../../support/prng.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod prng;
#[path = "../../support/process.rs"]
pub(crate) mod process;
mod server;
mod source;
mod streams;
mod terminal;

use std::time::Duration;

pub(crate) use activation::{activation, listener};
pub(crate) use browser::Browser;
pub(crate) use client::Client;
pub(crate) use descriptors::raise_descriptor_limit;
pub(crate) use http::Http;
pub(crate) use log::Log;
pub(crate) use pipes::full_pipe;
pub(crate) use prng::Prng;
pub(crate) use server::{Server, command, command_on_free_ports, run_to_exit};
pub(crate) use source::Source;
pub(crate) use streams::{MESSAGE_BYTES, broadcasts, delivered, messages};
pub(crate) use terminal::terminal;

/// Time after which a test fails: far longer than anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Polling interval for conditions without a notification.
pub(crate) const INTERVAL: Duration = Duration::from_millis(5);
