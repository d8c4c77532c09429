//! An event server for the *follower maze* protocol: numbered events come in over TCP in any order,
//! are put in order, and go out unchanged to the connected users that they concern.
//!
//! # The way of an event
//!
//! ```text
//! source socket ─read─▶ buffer ─memchr─▶ line ─parse─▶ Event ─▶ ReorderBuffer
//!                                                                   │ in sequence
//! client sockets ◀─write─ SendQueue ◀─flush─ Dispatch ◀─ (audience, line) ◀─ FollowerGraph
//! ```
//!
//! # The rooms
//!
//! | room | what it does | what it may not know |
//! |---|---|---|
//! | [`protocol`] | cuts bytes into lines and lines into events | everything else |
//! | [`engine`] | puts events in order and finds out whom they concern | sockets, clock, log |
//! | [`server`] | owns every socket; reads, queues, writes, closes | what an event means |
//! | [`config`] | every setting with its bounds | who uses it |
//! | [`logging`] | writes log lines without blocking | who logs |
//!
//! Arrows point one way: `main → server → engine → protocol`. The load generator, a program of
//! its own in `src/bin/loadgen`, uses nothing of this library, so that one mistake cannot cancel another.
//!
//! # One turn of the loop
//!
//! [`server::hub::Hub::turn`] is the heart of the server, its steps in this order:
//!
//! 1. read the sources into their buffers, within a budget;
//! 2. ask the poll once more, and accept and read clients until the kernel holds nothing more on that
//!    side: whoever had written an id before those source bytes were read is registered now;
//! 3. close the clients that are gone, were taken over or have not said in time who they are: what
//!    follows may take a while. All that the poll told is noted by now, and whoever comes for this turn has
//!    come, so that no readiness can reach a new tenant of the same slot;
//! 4. apply what is in order, within a budget, and note for whom each line is;
//! 5. put together what is for each client and write it, at once and in one piece; only where a socket
//!    refuses bytes is its readiness waited for;
//! 6. let the other timeouts expire;
//! 7. close what else is to be closed.
//!
//! # What always holds
//!
//! - Events are applied strictly by sequence, each at most once.
//! - An event is queued for all that it concerns or, for want of room, for none of them; then it waits
//!   at the head of the order, and the sources wait with it.
//! - A client is registered under one user, a user at one client.
//! - Between two turns bytes are queued only where a socket has refused bytes.
//! - Every queue, buffer and loop has a bound, and nobody waits for a peer without a timeout.
//! - An error on one connection ends that connection; only a failing poll ends the server.
//!
//! [`server::hub::Hub::check_invariants`] checks what can be checked of this.
//!
//! # What is absent on purpose
//!
//! Threads on the hot path (helper threads write the log and a capture file and wait for signals), unsafe
//! code, allocation or formatting for each event, and anything on the hot path that costs more with the clients that are
//! merely connected.

pub mod config;
pub mod engine;
pub mod logging;
pub mod protocol;
pub mod server;
