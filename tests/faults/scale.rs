use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::support::raise_descriptor_limit;

/// `small` under `cargo test`, `full` where the environment asks for `FAULTS=full`.
pub(crate) fn scaled(small: usize, full: usize) -> usize {
    match std::env::var("FAULTS") {
        Ok(wish) if wish == "full" => full,
        _ => small,
    }
}

/// Says what a fault came to, for people and for `perf/faults.sh`.
pub(crate) fn report(figures: fmt::Arguments<'_>) {
    println!("fault: {figures}");
}

/// Descriptors of this process and of the server that are kept for other things than a crowd.
const RESERVED: u64 = 256;

/// ConnectionQuota for a crowd of connections. Tests with crowds take turns, since all of them have their
/// descriptors in this process.
pub(crate) struct ConnectionQuota {
    pub(crate) connections: usize,
    wanted: usize,
    _turn: MutexGuard<'static, ()>,
}

impl ConnectionQuota {
    /// For so many connections, or as many as the descriptor limit allows.
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
            write!(f, " (for {wanted} the descriptor limit is too low)")?;
        }
        Ok(())
    }
}
