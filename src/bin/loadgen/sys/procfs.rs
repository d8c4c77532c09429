//! Information about processes and the host.

use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A running process, known by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

impl Process {
    /// Returns the CPU time of its threads, in nanoseconds where the kernel counts them; `None` if
    /// it has ended. It is less than before where a thread has ended since.
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
    fn a_process_that_is_gone_tells_nothing() {
        let gone = Process { id: u32::MAX };
        assert_eq!((gone.cpu_time(), gone.memory(), gone.descriptors()), (None, None, None));
    }
}
