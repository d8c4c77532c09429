//! The CPUs on which this process and its children run.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
