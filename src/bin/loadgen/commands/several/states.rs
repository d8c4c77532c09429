//! Comparison of the states of servers that share a stream.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::interrupt;
use crate::target::admin::{AdminPort, Sequence};

/// Time between two looks at a server that is behind.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until all servers await `sequence`, and compares their state hashes. Returns the hash; `None`
/// without servers.
///
/// # Errors
///
/// A server does not answer, does not get there within `timeout`, is further on, keeps no hash, or has
/// another one.
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

/// Waits until a server awaits `sequence`, and returns its state hash then.
fn state_hash(server: AdminPort, sequence: u64, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    loop {
        let status = server.status()?;
        let Sequence { awaited, state_hash, .. } = status.sequence;
        if awaited == sequence {
            return state_hash.ok_or_else(|| {
                io::Error::other(format!("http://{}/status shows no state_hash", server.0))
            });
        }
        if awaited > sequence || Instant::now() > deadline {
            let why = status.server.unready_reason;
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            return Err(io::Error::other(format!(
                "http://{}/status shows {awaited} as the awaited sequence, not {sequence}{why}",
                server.0
            )));
        }
        interrupt::sleep(POLL_INTERVAL)?;
    }
}
