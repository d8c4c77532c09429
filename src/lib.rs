//! An event server for the *follower maze* protocol: it reads numbered events over TCP in any order,
//! puts them in order, and forwards each, unchanged, to the connected users that it concerns.
//!
//! # Data flow
//!
//! ```text
//! source socket ─read─▶ LineBuffer ─▶ EventDecoder ─▶ ReorderBuffer ─in sequence─▶ commit ─▶ Engine::apply_next
//!                                                                                                 │ (recipients, line)
//! client sockets ◀─write─ SendQueue ◀─flush─ FanoutBatch ◀────────────────────────────────────────┘
//! ```
//!
//! *Commit* is nothing without a journal. With one, a thread writes what is in sequence to disk, and only what
//! it has committed is applied. With a stream that several servers share, a thread appends what is in sequence,
//! and what is read back is applied, in place of what was appended if others were first.
//!
//! # Layers
//!
//! | module | responsibility | knows nothing about |
//! |---|---|---|
//! | [`protocol`] | splits bytes into lines and parses lines into events | anything else |
//! | [`engine`] | orders events and finds their recipients in the follower graph | sockets, clock, log |
//! | [`hub`] | the server without I/O: connections, queues, limits, timeouts, the turn | poll, signals, threads, files |
//! | [`journal`] | ordered batches in files, from which a restart restores the state | sockets, clock, threads |
//! | [`cluster`] | several servers over one stream: entries, what a reader checks, repair after a loss | sockets, clock, threads, log |
//! | [`server`] | the I/O shell: polling, TCP, signals, reload, the service manager, descriptors, capture files, the journal's disk, the connections to the stream | what an event means |
//! | [`admin`] | the operators' HTTP: requests, responses, page and metrics | poll, where figures come from |
//! | [`config`] | every setting with its bounds | who uses it |
//! | [`logging`] | writes log lines without blocking | who logs |
//!
//! Arrows point one way: `main → server → {admin, hub, cluster → journal} → engine → protocol`; `admin` takes from `hub`
//! what a connection is, and a reload in `server` changes the form of the log. The load generator is a program
//! of its own (`src/bin/loadgen`) with its own codec and model, so that one mistake cannot cancel another.
//!
//! # One turn of the loop
//!
//! [`hub::Hub::turn`] is the heart of the server. Its steps, in order:
//!
//! 1. Read the sources into their buffers, within a budget.
//! 2. If bytes arrived or a timeout is due, poll again without waiting. Then accept and read clients until
//!    the kernel holds nothing more on that side. Every client whose id line was in the kernel when the source bytes were read is registered now.
//!    Before a limit rejects a connection, the pending disconnects are read. A turn accepts a limited number of
//!    clients, and reads a limited number of ID lines. If more wait, step 5 is left out until all are accepted and read,
//!    and for ID lines step 1, too.
//! 3. Close clients that are gone, were taken over, or did not identify themselves in time. No readiness of
//!    this turn can reach a new connection that reuses the key, because all readiness has been recorded and
//!    no connection is accepted any more.
//! 4. Bring lists of followers up to date, within a budget, for users that were registered or unregistered. Free
//!    some of the memory of a stream that was reset.
//! 5. Apply the events that are in order, within a budget, into the fan-out batch.
//! 6. Flush clients that have something pending, with one write each: a limited number, newcomers and then
//!    those that have waited longest. The others wait for the next turn, which may queue more for them. Writability is
//!    awaited only after a socket has refused bytes.
//! 7. Expire the other timeouts, then close what is to be closed.
//!
//! # Invariants
//!
//! - Events are applied strictly by sequence, each at most once.
//! - An event is queued for all of its recipients or, while a queue is full, for none of them. It then
//!   waits in the reorder buffer, and reading the sources pauses.
//! - A client is registered under one user, and a user has at most one registered client.
//! - Between two turns bytes are queued only where a socket has refused bytes, or where a client waits to be flushed.
//! - A client waits to be flushed for at most one round of all others, and what waits has a limit: about as much as
//!   one turn would queue that flushes everybody.
//! - Every queue, buffer and loop has a bound, and every wait for a peer has a timeout.
//! - Registering, leaving or taking over costs a turn less than a millisecond, whatever the user follows.
//! - An error on one connection ends that connection; only a failing poll ends the server.
//!
//! [`hub::Hub::check_invariants`] checks those that can be checked.
//!
//! # Deliberately absent
//!
//! Threads on the hot path (helper threads write the log and capture files and receive signals), locks,
//! unsafe code, allocation or formatting per event, and costs that grow with idle connections.

pub mod admin;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod hub;
pub mod journal;
pub mod logging;
pub mod protocol;
pub mod server;
