//! Comparison of the states of servers that share a stream.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::interrupt;
use crate::target::admin::{AdminPort, Sequence};

/// Time between two looks at a server that is behind.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The state of a server that does not listen to sources and clients yet.
const STARTING: &str = "replaying";

/// Waits until all servers await `sequence`, and compares their state hashes. Returns the hash; `None`
/// without servers.
///
/// # Errors
///
/// A server does not answer or get there within `timeout`, is further on, keeps no hash, or has another one.
pub(crate) fn compare_states(
    servers: &[AdminPort],
    sequence: u64,
    timeout: Duration,
) -> io::Result<Option<String>> {
    let mut first: Option<(AdminPort, String)> = None;
    for &server in servers {
        let hash = state_hash(server, sequence, timeout)?;
        match &first {
            None => first = Some((server, hash)),
            Some((_, same)) if *same == hash => {}
            Some((other, others)) => {
                return Err(io::Error::other(format!(
                    "the servers differ at sequence {sequence}: the state hash is {others} at {} and {hash} at \
                     {}",
                    other.0, server.0
                )));
            }
        }
    }
    Ok(first.map(|(_, hash)| hash))
}

/// Waits until a server awaits `sequence`, and returns its state hash then. A server that does not answer may be
/// on its way back.
fn state_hash(server: AdminPort, sequence: u64, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    loop {
        match look(server, sequence) {
            Look::Hash(hash) => return Ok(hash),
            Look::NotYet(_) if Instant::now() <= deadline => {}
            Look::NotYet(reason) | Look::Never(reason) => return Err(reason),
        }
        interrupt::sleep(POLL_INTERVAL)?;
    }
}

/// What one look at a server has shown.
enum Look {
    Hash(String),
    /// The hash may come.
    NotYet(io::Error),
    Never(io::Error),
}

fn look(server: AdminPort, sequence: u64) -> Look {
    let status = match server.status() {
        Ok(status) => status,
        Err(error) => return Look::NotYet(error),
    };
    let Sequence { awaited, state_hash, .. } = status.sequence;
    if awaited != sequence {
        let why = status.server.unready_reason;
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        let reason = io::Error::other(format!(
            "http://{}/status shows {awaited} as the awaited sequence, not {sequence}{why}",
            server.0
        ));
        return if awaited > sequence { Look::Never(reason) } else { Look::NotYet(reason) };
    }
    let reason = || io::Error::other(format!("http://{}/status shows no state_hash", server.0));
    match state_hash {
        Some(hash) => Look::Hash(hash),
        // A start shows how far it is, and has no state before its end.
        None if status.server.state == STARTING => Look::NotYet(reason()),
        None => Look::Never(reason()),
    }
}
