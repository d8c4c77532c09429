//! What the operating system tells about this process.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::admin::status::Process;

/// Returns memory, CPU time and descriptors. Costs a few system calls, whatever is open.
///
/// Before Linux 6.2 only a listing counts descriptors, which takes milliseconds for thousands of them: there
/// `assumed_descriptors` is used.
pub(super) fn measure(max_descriptors: u64, assumed_descriptors: u64) -> Process {
    let counted = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Process {
        resident_bytes: memory(&status, "VmRSS:"),
        peak_resident_bytes: memory(&status, "VmHWM:"),
        cpu_seconds: cpu_time(),
        open_descriptors: Some(if counted > 0 { counted } else { assumed_descriptors }),
        max_descriptors: Some(max_descriptors).filter(|&limit| limit < u64::MAX),
    }
}

/// Returns an amount of memory, in bytes, by its name in `/proc/self/status`.
fn memory(status: &str, name: &str) -> Option<u64> {
    let amount = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = amount.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns the CPU time of all threads, user and system.
fn cpu_time() -> Option<Duration> {
    clock_gettime(ClockId::ProcessCPUTime).try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_is_measured() {
        let before = measure(1024, 5);
        let resident = before.resident_bytes.unwrap();
        assert!(
            resident > 100_000 && before.peak_resident_bytes.is_some_and(|it| it >= resident / 2)
        );
        assert!(before.open_descriptors.is_some_and(|count| count > 2));
        assert_eq!(before.max_descriptors, Some(1024));
        assert_eq!(measure(u64::MAX, 5).max_descriptors, None);
        let deadline = Instant::now() + Duration::from_secs(20);
        while measure(1024, 5).cpu_seconds == before.cpu_seconds {
            assert!(Instant::now() < deadline, "CPU time does not pass");
        }
    }
}
