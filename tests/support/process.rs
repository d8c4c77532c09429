//! Figures of a process, read from `/proc`.

use std::fs;

use rustix::process::Pid;

/// The kernel's figures of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) Pid);

impl Process {
    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.as_raw_nonzero())).unwrap()
    }

    fn kilobytes(self, name: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident_bytes(self) -> u64 {
        self.kilobytes("VmRSS") << 10
    }

    /// Returns the peak resident memory in bytes.
    pub(crate) fn peak_resident_bytes(self) -> u64 {
        self.kilobytes("VmHWM") << 10
    }

    /// Returns the CPU time so far in kernel ticks, a hundred per second.
    pub(crate) fn ticks(self) -> u64 {
        let stat = self.read("stat");
        // The second field, the name in parentheses, may contain spaces.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [user, system] = [fields[11], fields[12]];
        user.parse::<u64>().unwrap() + system.parse::<u64>().unwrap()
    }

    /// Returns whether it is stopped by a signal.
    pub(crate) fn is_stopped(self) -> bool {
        self.read("stat").rsplit_once(')').unwrap().1.trim_start().starts_with('T')
    }
}
