//! What the operating system tells about this process.

use std::fs;
use std::time::Duration;

use crate::admin::status::Process;

/// The unit of CPU times in `/proc`, which is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Returns memory, CPU time and descriptors. Costs a few system calls, whatever is open.
///
/// Before Linux 6.2 only a listing counts descriptors, which takes milliseconds for thousands of them: there
/// `assumed_descriptors` is used.
pub(super) fn measure(max_descriptors: u64, assumed_descriptors: u64) -> Process {
    let counted = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    Process {
        resident_bytes: resident_bytes(),
        cpu_seconds: cpu_time(),
        open_descriptors: Some(if counted > 0 { counted } else { assumed_descriptors }),
        max_descriptors: Some(max_descriptors).filter(|&limit| limit < u64::MAX),
    }
}

fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Returns the CPU time of all threads, user and system.
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map_while(|field| field.parse::<u32>().ok());
    Some(TICK * times.next()? + TICK * times.next()?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_is_measured() {
        let before = measure(1024, 5);
        assert!(before.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(before.open_descriptors.is_some_and(|count| count > 2));
        assert_eq!(before.max_descriptors, Some(1024));
        assert_eq!(measure(u64::MAX, 5).max_descriptors, None);
        let deadline = Instant::now() + Duration::from_secs(20);
        while measure(1024, 5).cpu_seconds == before.cpu_seconds {
            assert!(Instant::now() < deadline, "CPU time does not pass");
        }
    }
}
