use std::collections::BTreeSet;

/// Users who must receive something.
pub(crate) const CHECKED_CLIENTS: u64 = 10;

/// Witnesses follow this user, and stop it again.
const CELEBRITY: u64 = 1000;

/// Follows every witness.
const OUTSIDER: u64 = 1001;

/// Ids from here on stand in no script.
pub(crate) const CROWD: u64 = 1_000_000;

/// Events of all kinds that never end, and what each witness must receive for them.
#[derive(Debug)]
pub(crate) struct Workload {
    next_sequence: u64,
    followers: BTreeSet<u64>,
    /// What was written and is not taken yet, for each witness.
    expected: Vec<Vec<u8>>,
    /// What anybody else receives for all that was written.
    broadcasts: Vec<u8>,
}

impl Workload {
    pub(crate) fn starting_with(sequence: u64) -> Workload {
        Workload {
            next_sequence: sequence,
            followers: BTreeSet::new(),
            expected: vec![Vec::new(); CHECKED_CLIENTS as usize],
            broadcasts: Vec::new(),
        }
    }

    /// The ids of the witnesses.
    pub(crate) fn checked_users() -> impl Iterator<Item = u64> {
        0..CHECKED_CLIENTS
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
        let (kind, client) = (sequence % 6, sequence / 6 % CHECKED_CLIENTS);
        let (line, recipients) = match kind {
            0 => {
                self.followers.insert(client);
                (format!("{sequence:020}|F|{client}|{CELEBRITY}"), vec![])
            }
            1 => (format!("{sequence:020}|B"), Workload::checked_users().collect()),
            2 => (format!("{sequence:020}|P|{CELEBRITY}|{client}"), vec![client]),
            3 => {
                (format!("{sequence:020}|S|{CELEBRITY}"), self.followers.iter().copied().collect())
            }
            4 => {
                let other = (client + CHECKED_CLIENTS / 2) % CHECKED_CLIENTS;
                self.followers.remove(&other);
                (format!("{sequence:020}|U|{other}|{CELEBRITY}"), vec![])
            }
            _ => (format!("{sequence:020}|F|{OUTSIDER}|{client}"), vec![client]),
        };
        let delivered = format!("{line}\r\n");
        for user in recipients {
            self.expected[user as usize].extend_from_slice(delivered.as_bytes());
        }
        if kind == 1 {
            self.broadcasts.extend_from_slice(delivered.as_bytes());
        }
        line + "\n"
    }

    /// What each witness must receive for the events written since the last time.
    pub(crate) fn take_expected(&mut self) -> Vec<Vec<u8>> {
        self.expected.iter_mut().map(std::mem::take).collect()
    }

    /// What somebody receives who is no witness.
    pub(crate) fn broadcasts(&self) -> &[u8] {
        &self.broadcasts
    }
}
