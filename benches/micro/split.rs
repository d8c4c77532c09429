//! Splitting a source's bytes into lines.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use eventserver::protocol::{LineBuffer, LineFrame};

use crate::lines;
use crate::support::{captured_bytes, fill, scaled};

/// The server's default.
const MAX_LINE_BYTES: usize = 256;

/// Number of lines found, and of their bytes without terminators.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lines: usize,
    bytes: usize,
}

/// A stream, and the expected result.
struct Stream {
    bytes: Vec<u8>,
    expected: Found,
}

/// Splits a MiB, as a turn does after reading a source. The copy into the buffer stands for the
/// kernel's, and is part of the time.
pub(crate) fn each_terminator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    for (name, terminator) in [("LF", "\n"), ("CRLF", "\r\n")] {
        let stream = stream(scaled(1 << 20, 64 << 10), terminator);
        let mut buffer = LineBuffer::new(MAX_LINE_BYTES);
        group.throughput(Throughput::Bytes(stream.bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                fill(&mut buffer, black_box(&stream.bytes));
                assert_eq!(take_all(&mut buffer), stream.expected);
            });
        });
    }
    group.finish();
}

/// Repeats the lines of the captured stream up to `max_bytes` bytes.
fn stream(max_bytes: usize, terminator: &str) -> Stream {
    let captured = captured_bytes();
    let mut stream = Stream { bytes: Vec::with_capacity(max_bytes), expected: Found::default() };
    for line in lines(&captured).cycle() {
        if stream.bytes.len() + line.len() + terminator.len() > max_bytes {
            break;
        }
        stream.bytes.extend_from_slice(line.as_bytes());
        stream.bytes.extend_from_slice(terminator.as_bytes());
        stream.expected.lines += 1;
        stream.expected.bytes += line.len();
    }
    stream
}

fn take_all(buffer: &mut LineBuffer) -> Found {
    let mut found = Found::default();
    while let Some(line) = buffer.next_frame() {
        let LineFrame::Complete(line) = black_box(line) else { panic!("a line is too long") };
        found.lines += 1;
        found.bytes += line.len();
    }
    found
}
