use std::collections::BTreeSet;

/// Number of clients whose every byte is checked.
pub(crate) const CHECKED_CLIENTS: u64 = 10;

/// Followed and unfollowed by the checked clients.
const CELEBRITY: u64 = 1000;

/// Follows every checked client.
const OUTSIDER: u64 = 1001;

/// The first ID that no event names.
pub(crate) const CROWD: u64 = 1_000_000;

/// An endless generator of events of all kinds, and the bytes that each checked client must
/// receive.
#[derive(Debug)]
pub(crate) struct Workload {
    next_sequence: u64,
    followers: BTreeSet<u64>,
    /// Expected bytes of each checked client, not yet taken.
    expected: Vec<Vec<u8>>,
    /// Everything that any other client receives.
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

    /// Returns the IDs of the checked clients.
    pub(crate) fn checked_users() -> impl Iterator<Item = u64> {
        0..CHECKED_CLIENTS
    }

    /// Returns the next events in reverse order.
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

    /// Takes what each checked client must receive for the events since the last call.
    pub(crate) fn take_expected(&mut self) -> Vec<Vec<u8>> {
        self.expected.iter_mut().map(std::mem::take).collect()
    }

    /// Returns what any other client receives.
    pub(crate) fn broadcasts(&self) -> &[u8] {
        &self.broadcasts
    }
}
