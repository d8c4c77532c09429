//! Information about processes and the host, core affinity and the descriptor limit.

use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// A running process, known by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

impl Process {
    /// Returns the CPU time of its threads, in nanoseconds where the kernel counts them; `None` if
    /// it has ended.
    pub(crate) fn cpu_time(self) -> Option<Duration> {
        self.sum_of_schedstat(0)
    }

    /// Returns the time in which its threads could have run and had no CPU; `None` if it has ended.
    pub(crate) fn run_delay(self) -> Option<Duration> {
        self.sum_of_schedstat(1)
    }

    fn sum_of_schedstat(self, field: usize) -> Option<Duration> {
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.id)).ok()? {
            // A thread may end while the others are read.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            total += Duration::from_nanos(text.split(' ').nth(field)?.parse().ok()?);
        }
        Some(total)
    }

    /// Returns its resident memory, in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// Returns its peak resident memory, in bytes.
    pub(crate) fn peak_memory(self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// Returns the number of its open descriptors.
    pub(crate) fn descriptors(self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.id)).ok()?.count())
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    ///
    /// It has ended or belongs to another user.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let id = Pid::from_raw(self.id.cast_signed());
        Ok(kill_process(id.ok_or_else(|| io::Error::other("0 is not a process id"))?, signal)?)
    }

    fn status(self, key: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// Checks that this process may run on `cpu`.
///
/// # Errors
///
/// It may not; the error lists the CPUs on which it may.
pub(crate) fn check_cpu(cpu: usize) -> Result<(), String> {
    let valid = allowed_cpus().map_err(|error| error.to_string())?;
    if valid.contains(&cpu) {
        return Ok(());
    }
    Err(format!("there is no such CPU for this process; valid: {}", ranges_of(&valid)))
}

/// Returns the CPUs that the system allows, whatever the current affinity.
fn allowed_cpus() -> io::Result<Vec<usize>> {
    let before = sched_getaffinity(None)?;
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // The kernel leaves out what does not exist or is not allowed.
    sched_setaffinity(None, &all)?;
    let allowed = sched_getaffinity(None);
    sched_setaffinity(None, &before)?;
    let allowed = allowed?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// Formats ascending numbers: `0-3,6`.
fn ranges_of(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Pins this thread, and processes started by it later, to one CPU.
///
/// # Errors
///
/// The CPU does not exist or is not allowed for this process.
pub(crate) fn set_affinity(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("there is no CPU {cpu}")));
    }
    cpus.set(cpu);
    sched_setaffinity(None, &cpus)
        .map_err(|error| io::Error::other(format!("cannot run on CPU {cpu}: {error}")))
}

/// Runs `action` pinned to one core, then restores the previous affinity.
///
/// # Errors
///
/// The core does not exist or is not allowed for this process, or `action` fails.
pub(crate) fn with_affinity<T>(
    core: usize,
    action: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    set_affinity(core)?;
    let result = action();
    sched_setaffinity(None, &before)?;
    result
}

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

/// The host, as far as it is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) kernel: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
}

impl Machine {
    /// Describes the host in one line.
    pub(crate) fn describe(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown CPU");
        let cores = if self.cores == 1 { "core" } else { "cores" };
        let memory = self.memory_bytes.map_or_else(String::new, |bytes| {
            format!(", {:.1} GiB of memory", bytes as f64 / f64::from(1 << 30))
        });
        let kernel = self.kernel.as_deref().unwrap_or("unknown");
        format!("{cpu}, {} {cores}{memory}, Linux {kernel}", self.cores)
    }
}

/// Returns CPU, memory and kernel of the host.
pub(crate) fn host_info() -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = memory.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Machine {
        cpu: model.map(|text| text.trim_start_matches(['\t', ' ', ':']).to_owned()),
        // Counted from cpuinfo, because this process may be pinned to one core.
        cores: cpu.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: kernel.map(|text| text.trim().to_owned()),
        memory_bytes: kibibytes.map(|kibibytes: u64| kibibytes * 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let this = Process { id: std::process::id() };
        assert!(this.cpu_time().is_some() && this.run_delay().is_some());
        assert!(this.peak_memory().unwrap() >= this.memory().unwrap() / 2);
        assert!(this.descriptors().unwrap() > 2);
        assert!(host_info().cores > 0);
    }

    #[test]
    fn affinity_is_restored() {
        let before = sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core)).unwrap();
        let count = with_affinity(core, || Ok(sched_getaffinity(None)?.count())).unwrap();
        assert_eq!(count, 1);
        assert_eq!(sched_getaffinity(None).unwrap().count(), before.count());
        assert!(with_affinity(CpuSet::MAX_CPU, || Ok(())).is_err());
    }

    #[test]
    fn a_cpu_that_is_not_there() {
        let error = check_cpu(CpuSet::MAX_CPU - 1).unwrap_err();
        assert!(error.contains("valid: "), "{error}");
        assert_eq!(check_cpu(allowed_cpus().unwrap()[0]), Ok(()));
        assert_eq!(ranges_of(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn a_process_that_is_gone_tells_nothing() {
        let gone = Process { id: u32::MAX };
        assert_eq!((gone.cpu_time(), gone.memory(), gone.descriptors()), (None, None, None));
    }
}
