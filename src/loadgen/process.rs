//! What the kernel tells about a process and about this machine.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// A running process, known by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

impl Process {
    /// The processor time that its threads have used, to the nanosecond where the kernel keeps
    /// count. `None` when it is gone.
    pub(crate) fn cpu_time(self) -> Option<Duration> {
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.id)).ok()? {
            // A thread may end while its siblings are read.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            total += Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
        }
        Some(total)
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had, in bytes.
    pub(crate) fn peak_memory(self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// The descriptors that it has open.
    pub(crate) fn descriptors(self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.id)).ok()?.count())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It is gone, or another user's.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let id = Pid::from_raw(self.id.cast_signed());
        Ok(kill_process(id.ok_or_else(|| io::Error::other("0 is no process"))?, signal)?)
    }

    fn status(self, key: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// Keeps this thread, and the processes that it starts from now on, on one core.
///
/// # Errors
///
/// There is no such core, or this process may not use it.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("there is no core {core}")));
    }
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| io::Error::other(format!("cannot run on core {core}: {error}")))
}

/// Does `action` on one core, and what comes after it where this thread was allowed to run before.
///
/// # Errors
///
/// There is no such core, or this process may not use it; or `action` fails.
pub(crate) fn on_core<T>(core: usize, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    pin_to(core)?;
    let result = action();
    sched_setaffinity(None, &before)?;
    result
}

/// Raises the limit of open files to the hard one and returns that.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it cannot be raised, the soft limit stays and connecting says so.
    let effective = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    effective.current.unwrap_or(u64::MAX)
}

/// Descriptors beside those of clients: files, sources, clients that come and go.
const OTHER_DESCRIPTORS: u64 = 16;

/// Raises the descriptor limit for this many clients, before anything is prepared for them.
///
/// # Errors
///
/// Fewer descriptors are allowed.
pub(crate) fn allow_clients(clients: usize) -> io::Result<()> {
    let needed = clients as u64 + OTHER_DESCRIPTORS;
    let allowed = raise_descriptor_limit();
    if allowed < needed {
        return Err(io::Error::other(format!(
            "{clients} clients need {needed} descriptors and {allowed} are allowed"
        )));
    }
    Ok(())
}

/// The machine and the commit, as far as they can be found out.
pub(crate) fn machine() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    json!({
        "cpu": model.map(|text| text.trim_start_matches(['\t', ' ', ':'])),
        // Not those that this process may use: it may be pinned to one.
        "cores": cpu.lines().filter(|line| line.starts_with("processor")).count(),
        "memory": memory.map(str::trim),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let this = Process { id: std::process::id() };
        assert!(this.cpu_time().is_some());
        assert!(this.peak_memory().unwrap() >= this.memory().unwrap() / 2);
        assert!(this.descriptors().unwrap() > 2);
        assert!(machine()["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn being_on_a_core_ends() {
        let before = sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core)).unwrap();
        let count = on_core(core, || Ok(sched_getaffinity(None)?.count())).unwrap();
        assert_eq!(count, 1);
        assert_eq!(sched_getaffinity(None).unwrap().count(), before.count());
        assert!(on_core(CpuSet::MAX_CPU, || Ok(())).is_err());
    }

    #[test]
    fn a_process_that_is_gone_tells_nothing() {
        let gone = Process { id: u32::MAX };
        assert_eq!((gone.cpu_time(), gone.memory(), gone.descriptors()), (None, None, None));
    }
}
