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
