//! The load generator: sends streams of events and checks every byte that the server delivers.
//!
//! ```text
//! Workload ─next_segment─▶ Segment ─▶ Session ─write─▶ server under test
//!  (events, Model)        (wire bytes,         ◀─read── every byte compared
//!                          expected output)
//! ```
//!
//! A run consists of segments. A segment is prepared as a whole, with the expected output of each
//! client, before its clock starts. While the clock runs, a [`client::session`] only writes, reads
//! and compares. So one core can check a server that has another core to itself.
//!
//! # Layers
//!
//! | module | contents |
//! |---|---|
//! | [`commands`] | one subcommand each: what it runs, and its result |
//! | [`run`] | segments exchanged with a server, and the outcome; shared by commands |
//! | [`client`] | connections to the server under test |
//! | [`target`] | the server under test, and the two that are built in |
//! | [`workload`] | streams of events to send |
//! | [`oracle`] | expected deliveries |
//! | [`codec`] | lines and events |
//! | [`args`], [`ranges`] | commands and flags, and the values that a flag accepts |
//! | [`cli`], [`options`] | parsing and help; settings from flags, variables and defaults |
//! | [`output`] | results as text, JSON and HTML |
//! | [`sys`] | signals, `/proc`, CPU affinity, descriptors, timers |
//!
//! Arrows point one way: `commands → run → client → target → workload → oracle → codec`. All of them may
//! use `sys`; only `commands` and `run` use `output`.
//!
//! Deliberately absent: the server's library. The meaning of events is implemented a second time in
//! [`oracle::model`], as simply as possible, so that one mistake cannot cancel another.

mod args;
mod cli;
mod client;
mod codec;
mod commands;
mod options;
mod oracle;
mod output;
mod ranges;
mod run;
mod sys;
mod target;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
