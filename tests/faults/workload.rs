use std::collections::BTreeSet;

/// Users who must receive something.
pub(crate) const WITNESSES: u64 = 10;

/// Witnesses follow this user, and stop it again.
const STAR: u64 = 1000;

/// Follows every witness.
const STRANGER: u64 = 1001;

/// Ids from here on stand in no script.
pub(crate) const CROWD: u64 = 1_000_000;

/// Events of all kinds that never end, and what each witness must receive for them.
#[derive(Debug)]
pub(crate) struct Script {
    next_sequence: u64,
    followers: BTreeSet<u64>,
    /// What was written and is not taken yet, for each witness.
    due: Vec<Vec<u8>>,
    /// What anybody else receives for all that was written.
    broadcasts: Vec<u8>,
}

impl Script {
    pub(crate) fn starting_with(sequence: u64) -> Script {
        Script {
            next_sequence: sequence,
            followers: BTreeSet::new(),
            due: vec![Vec::new(); WITNESSES as usize],
            broadcasts: Vec::new(),
        }
    }

    /// The ids of the witnesses.
    pub(crate) fn witnesses() -> impl Iterator<Item = u64> {
        0..WITNESSES
    }

    /// The next so many events, the last one in front.
    pub(crate) fn write(&mut self, events: u64) -> Vec<u8> {
        let mut lines: Vec<String> = (0..events).map(|_| self.write_event()).collect();
        lines.reverse();
        lines.concat().into_bytes()
    }

    fn write_event(&mut self) -> String {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let (kind, witness) = (sequence % 6, sequence / 6 % WITNESSES);
        let (line, told) = match kind {
            0 => {
                self.followers.insert(witness);
                (format!("{sequence:020}|F|{witness}|{STAR}"), vec![])
            }
            1 => (format!("{sequence:020}|B"), Script::witnesses().collect()),
            2 => (format!("{sequence:020}|P|{STAR}|{witness}"), vec![witness]),
            3 => (format!("{sequence:020}|S|{STAR}"), self.followers.iter().copied().collect()),
            4 => {
                let other = (witness + WITNESSES / 2) % WITNESSES;
                self.followers.remove(&other);
                (format!("{sequence:020}|U|{other}|{STAR}"), vec![])
            }
            _ => (format!("{sequence:020}|F|{STRANGER}|{witness}"), vec![witness]),
        };
        let delivered = format!("{line}\r\n");
        for user in told {
            self.due[user as usize].extend_from_slice(delivered.as_bytes());
        }
        if kind == 1 {
            self.broadcasts.extend_from_slice(delivered.as_bytes());
        }
        line + "\n"
    }

    /// What each witness must receive for the events written since the last time.
    pub(crate) fn take_due(&mut self) -> Vec<Vec<u8>> {
        self.due.iter_mut().map(std::mem::take).collect()
    }

    /// What somebody receives who is no witness.
    pub(crate) fn broadcasts(&self) -> &[u8] {
        &self.broadcasts
    }
}
