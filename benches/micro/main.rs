//! What each part on the way of an event costs by itself.
//!
//! `cargo bench --bench micro`; a part is chosen by its name behind it, as in
//! `cargo bench --bench micro -- reorder`. Every bench checks what it has produced, inside the time
//! that is taken: the checks are comparisons of sums.
#![allow(clippy::unwrap_used, reason = "a bench may stop at what is not as it should be")]

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

/// The lines of a stream that ends each with LF, each in front of those behind it, as they stand in
/// a read buffer.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> + Clone {
    let mut start = 0;
    bytes.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let rest = &bytes[start..];
        start += line.len();
        Line::prefix_of(rest, line.len() - 1)
    })
}
