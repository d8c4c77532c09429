use std::fmt::Write;
use std::ops::Range;

/// Length of each of the [`messages`] as a client receives it.
pub(crate) const MESSAGE_BYTES: u64 = 66;

/// Returns private messages to `user` with these sequences: the longest valid lines, each ended by
/// LF.
pub(crate) fn messages(sequences: Range<u64>, user: u64) -> Vec<u8> {
    let mut lines = String::with_capacity((sequences.end - sequences.start) as usize * 65);
    for sequence in sequences {
        writeln!(lines, "{sequence:020}|P|{:020}|{user:020}", 1).unwrap();
    }
    lines.into_bytes()
}

/// Returns broadcasts with these sequences, each ended by LF.
pub(crate) fn broadcasts(sequences: Range<u64>) -> Vec<u8> {
    let mut lines = String::new();
    for sequence in sequences {
        writeln!(lines, "{sequence:020}|B").unwrap();
    }
    lines.into_bytes()
}

/// Returns these lines as a client receives them.
pub(crate) fn delivered(lines: &[u8]) -> Vec<u8> {
    let mut delivered = Vec::with_capacity(lines.len() + lines.len() / 16);
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        delivered.extend_from_slice(&line[..line.len() - 1]);
        delivered.extend_from_slice(b"\r\n");
    }
    delivered
}

/// A pseudo-random generator (xorshift64) with a seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator, and prints the seed, which is shown if the test fails.
    pub(crate) fn seeded(seed: u64) -> Random {
        println!("seed {seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}
