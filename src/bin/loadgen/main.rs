//! The load generator: sends streams of events and checks every byte that the server delivers.
//!
//! ```text
//! Workload ─prepare─▶ Segment ─▶ Session ─write─▶ server under test
//!  (events, Model)   (wire text,       ◀─read── every byte compared
//!                     expected bytes)
//! ```
//!
//! A run is cut into slices. A slice is prepared whole, with the bytes that each client must
//! receive for it, before its clock starts; while the clock runs, a `session` only writes, reads
//! and compares. So one core can judge a server that does nothing else on another.
//!
//! # Layers
//!
//! | module | contents |
//! |---|---|
//! | [`commands`] | one subcommand each: what it runs, and its result |
//! | [`client`] | connections to the server under test |
//! | [`target`] | the server under test, and the two that are built in |
//! | [`workload`] | streams of events to send |
//! | [`oracle`] | expected deliveries |
//! | [`codec`] | lines and events |
//! | [`output`] | results as text, JSON and HTML |
//! | [`sys`] | signals, `/proc`, timers |
//!
//! Arrows point one way: `commands → client → target → workload → oracle → codec`. All of them may
//! use `sys`; only `commands` uses `output`.
//!
//! Deliberately absent: the server's library. The meaning of events is implemented a second time in
//! [`oracle::model`], as simply as possible, so that one mistake cannot cancel another.

mod args;
mod client;
mod codec;
mod commands;
mod options;
mod oracle;
mod output;
mod ranges;
mod sys;
mod target;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
