//! The limit of open files.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit and returns the result.
pub(crate) fn raise_fd_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If it cannot be raised, the soft limit stays, and a later connect reports it.
    let effective = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    effective.current.unwrap_or(u64::MAX)
}

/// Descriptors in addition to those of clients: files, sources, churn clients.
const OTHER_DESCRIPTORS: u64 = 16;

/// Checks that `clients` clients can be connected, before anything is prepared for them.
///
/// # Errors
///
/// The descriptor limit is too low.
pub(crate) fn allow_clients(clients: usize) -> io::Result<()> {
    let needed = clients as u64 + OTHER_DESCRIPTORS;
    let allowed = raise_fd_limit();
    if allowed < needed {
        return Err(io::Error::other(format!(
            "{clients} clients need {needed} descriptors and {allowed} are allowed: raise the limit, for \
             example by `ulimit -n {needed}` as root, or connect fewer"
        )));
    }
    Ok(())
}
