//! The cost of each part of the data path.
//!
//! Run with `cargo bench -p eventserver-benches --bench micro`, or a selection with `--
//! reorder` after it. Every bench checks its result within the measured time; the checks are comparisons of
//! sums.
#![allow(clippy::unwrap_used, reason = "a bench may panic on anything unexpected")]

mod apply;
mod graph;
mod parse;
mod reorder;
mod split;
#[path = "../support/mod.rs"]
mod support;

use eventserver::protocol::Line;

fn main() {
    let mut criterion = support::criterion();
    split::each_terminator(&mut criterion);
    parse::each_type(&mut criterion);
    parse::verification_mix(&mut criterion);
    reorder::every_disorder(&mut criterion);
    apply::each_type(&mut criterion);
    graph::random_follows(&mut criterion);
    graph::at_a_celebrity(&mut criterion);
    criterion.final_summary();
}

/// Returns the lines of a stream, each ended by LF and followed by the rest of the stream, as in a
/// read buffer.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> + Clone {
    let mut start = 0;
    bytes.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let rest = &bytes[start..];
        start += line.len();
        Line::prefix_of(rest, line.len() - 1)
    })
}
