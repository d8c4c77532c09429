//! What is known of a server beside its answers: from `/proc` of this machine, or from its admin port.

use std::iter::Sum;
use std::time::Duration;

use super::admin::{AdminPort, ProcessStatus};
use crate::sys::procfs::Process;

/// Where the figures of a server come from. Each method returns `None` if they are not available.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Monitor {
    /// A process of this machine.
    Process(Process),
    /// A server anywhere.
    Admin(AdminPort),
}

impl Monitor {
    /// Returns the CPU time used so far.
    pub(crate) fn cpu_time(self) -> Option<Duration> {
        match self {
            Monitor::Process(process) => process.cpu_time(),
            Monitor::Admin(port) => {
                Duration::try_from_secs_f64(process_status(port)?.cpu_seconds?).ok()
            }
        }
    }

    /// Returns the time in which threads could have run and had no CPU.
    pub(crate) fn run_delay(self) -> Option<Duration> {
        match self {
            Monitor::Process(process) => process.run_delay(),
            Monitor::Admin(_) => None,
        }
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        match self {
            Monitor::Process(process) => process.memory(),
            Monitor::Admin(port) => process_status(port)?.resident_bytes,
        }
    }

    /// Returns the peak resident memory, in bytes.
    pub(crate) fn peak_memory(self) -> Option<u64> {
        match self {
            Monitor::Process(process) => process.peak_memory(),
            Monitor::Admin(port) => process_status(port)?.peak_resident_bytes,
        }
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(self) -> Option<usize> {
        match self {
            Monitor::Process(process) => process.descriptors(),
            Monitor::Admin(port) => process_status(port)?.open_descriptors?.try_into().ok(),
        }
    }

    /// Returns the process, if it is one of this machine.
    pub(crate) fn process(self) -> Option<Process> {
        match self {
            Monitor::Process(process) => Some(process),
            Monitor::Admin(_) => None,
        }
    }

    /// Returns the admin port, if the figures come from there.
    pub(crate) fn admin(self) -> Option<AdminPort> {
        match self {
            Monitor::Process(_) => None,
            Monitor::Admin(port) => Some(port),
        }
    }
}

/// What is known of all servers under test: the sums of their figures. Each is `None` if that of any server is
/// not available, or if there is no server.
#[derive(Clone, Debug)]
pub(crate) struct Monitors(pub(crate) Vec<Monitor>);

impl Monitors {
    /// Returns the CPU time used so far.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.sum(Monitor::cpu_time)
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.sum(Monitor::memory)
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> Option<usize> {
        self.sum(Monitor::descriptors)
    }

    /// Returns the process, if it is the only server, and one of this machine.
    pub(crate) fn process(&self) -> Option<Process> {
        match self.0[..] {
            [monitor] => monitor.process(),
            _ => None,
        }
    }

    /// Returns the admin ports. Empty if the figures come from elsewhere.
    pub(crate) fn admins(&self) -> impl Iterator<Item = AdminPort> {
        self.0.iter().filter_map(|monitor| monitor.admin())
    }

    fn sum<T: Sum>(&self, figure: fn(Monitor) -> Option<T>) -> Option<T> {
        let all = || self.0.iter().copied().map(figure).sum();
        if self.0.is_empty() { None } else { all() }
    }
}

fn process_status(port: AdminPort) -> Option<ProcessStatus> {
    match port.status() {
        Ok(status) => Some(status.process),
        Err(error) => {
            log::warn!("{error}");
            None
        }
    }
}
