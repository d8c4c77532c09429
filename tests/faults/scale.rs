use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::support::raise_descriptor_limit;

/// Returns `small` under `cargo test`, `full` with `FAULTS=full` in the environment.
pub(crate) fn scaled(small: usize, full: usize) -> usize {
    match std::env::var("FAULTS") {
        Ok(wish) if wish == "full" => full,
        _ => small,
    }
}

/// Prints the figures of a fault, also for `perf/faults.sh`.
pub(crate) fn report(figures: fmt::Arguments<'_>) {
    println!("fault: {figures}");
}

/// Descriptors of this process and of the server that no crowd may use.
const RESERVED: u64 = 256;

/// Descriptors for a crowd of connections. Tests with crowds run one at a time, because each needs
/// the descriptors of this process.
pub(crate) struct ConnectionQuota {
    pub(crate) connections: usize,
    wanted: usize,
    _turn: MutexGuard<'static, ()>,
}

impl ConnectionQuota {
    /// Waits for the other crowds, and returns a quota of `wanted` connections, or of as many as
    /// the descriptor limit allows.
    pub(crate) fn for_connections(wanted: usize) -> ConnectionQuota {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = wanted.min(limit.saturating_sub(RESERVED) as usize);
        ConnectionQuota { connections, wanted, _turn: turn }
    }
}

impl fmt::Display for ConnectionQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectionQuota { connections, wanted, .. } = self;
        write!(f, "{connections} clients")?;
        if connections < wanted {
            write!(f, " (the descriptor limit is too low for {wanted})")?;
        }
        Ok(())
    }
}
