//! Printing the lines of a journal, so that they can be sent to a server.

use std::io;
use std::ops::Range;

use super::chain::{Chain, Replay};
use super::error::Error;
use super::record::{Header, Kind};
use super::state::State;
use super::storage::Storage;
use super::stream::{applied_lines, sequence_of};

/// What a dump contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// The first sequence. Meaningless without lines.
    pub first: u64,
    /// The sequence after the last one.
    pub next: u64,
    /// The number of follow events that stand for a snapshot, because the events before it are no longer
    /// there.
    pub follows: u64,
    /// The number of lines that stand for sequences without an event.
    pub voids: u64,
    /// The number of resets, before the last of which nothing is printed.
    pub resets: u64,
}

/// The reason why a dump is not complete.
#[derive(Debug)]
pub enum DumpError {
    /// The journal cannot be read. All that is before the place in question was printed.
    Journal(Error),
    /// The lines cannot be written.
    Output(io::Error),
}

impl From<Error> for DumpError {
    fn from(error: Error) -> DumpError {
        DumpError::Journal(error)
    }
}

/// Writes the events of a journal in order, each ended by LF: a stream that leads a new server, whose first
/// sequence is that of the first line, to the state of the journal.
///
/// - It begins after the last reset.
/// - If the first segments were replaced by a snapshot, it begins with the follows of the oldest usable
///   snapshot. They take the sequences just before, of which there are enough, because each follow had one.
/// - A sequence without an event is printed as `SEQUENCE|void`, which is malformed, so that a server counts
///   it as void.
///
/// # Errors
///
/// The journal is corrupt, or the output refuses the lines.
pub fn dump<S: Storage>(storage: &S, out: &mut impl io::Write) -> Result<Dumped, DumpError> {
    let chain = Chain::load(storage)?;
    if chain.segments.is_empty() {
        return Ok(Dumped::default());
    }
    let mut resets = CountResets(0);
    let (mut state, segments) = oldest_base(storage, &chain)?;
    // Damage is reported by the second replay, after all that is before it.
    let _ = (0..segments)
        .rev()
        .try_for_each(|index| chain.replay(storage, index, &mut state, &mut resets).map(drop));
    drop(state);
    let (mut state, segments) = oldest_base(storage, &chain)?;
    let mut printer = Printer::new(out, resets.0, state.awaited);
    if resets.0 == 0 {
        printer.print_follows(&state);
    }
    for index in (0..segments).rev() {
        let replayed = chain.replay(storage, index, &mut state, &mut printer);
        printer.written()?;
        replayed?;
    }
    let Printer { dumped, out, .. } = printer;
    out.flush().map_err(DumpError::Output)?;
    Ok(dumped)
}

/// Loads the oldest state that is known, and the number of segments after it.
fn oldest_base<S: Storage>(storage: &S, chain: &Chain) -> Result<(State, usize), Error> {
    if let Some(state) = chain.initial_state() {
        return Ok((state, chain.segments.len()));
    }
    for &name in chain.snapshots.iter().rev() {
        if let Some(base) = chain.load_snapshot(storage, name)? {
            return Ok(base);
        }
    }
    // The error of a start.
    chain.load_base(storage, |_, _| {}).map(|base| (base.state, base.segments))
}

struct CountResets(u64);

impl Replay for CountResets {
    fn on_record(&mut self, header: &Header, _: &[u8]) {
        self.0 += u64::from(header.kind == Kind::Reset);
    }
}

/// Prints what is replayed.
struct Printer<'a, W> {
    out: &'a mut W,
    /// The resets still to come.
    resets_left: u64,
    /// Why the output has refused a line.
    error: Option<io::Error>,
    dumped: Dumped,
}

impl<'a, W: io::Write> Printer<'a, W> {
    fn new(out: &'a mut W, resets: u64, awaited: u64) -> Printer<'a, W> {
        let dumped = Dumped { first: awaited, next: awaited, resets, ..Dumped::default() };
        Printer { out, resets_left: resets, error: None, dumped }
    }

    /// Prints the follows of a snapshot as events before the awaited sequence.
    fn print_follows(&mut self, state: &State) {
        let follows = state.graph.follows().count() as u64;
        self.dumped.follows = follows;
        self.dumped.first = state.awaited.saturating_sub(follows);
        for (sequence, (follower, followed)) in (self.dumped.first..).zip(state.graph.follows()) {
            self.print(format_args!("{sequence}|F|{}|{}", follower.0, followed.0));
        }
    }

    fn print_batch(&mut self, header: &Header, lines: &[u8]) {
        let mut awaited = header.first;
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            // The replay has checked that the lines are events in order.
            let sequence = sequence_of(line).unwrap_or(awaited);
            self.print_voids(awaited..sequence);
            if self.error.is_none() {
                self.error = self.out.write_all(line).err();
            }
            awaited = sequence + 1;
        }
        self.print_voids(awaited..header.next);
        self.dumped.next = header.next;
    }

    fn print_voids(&mut self, sequences: Range<u64>) {
        self.dumped.voids += sequences.end - sequences.start;
        for sequence in sequences {
            self.print(format_args!("{sequence}|void"));
        }
    }

    fn print(&mut self, line: std::fmt::Arguments<'_>) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }

    fn written(&mut self) -> Result<(), DumpError> {
        self.error.take().map_or(Ok(()), |error| Err(DumpError::Output(error)))
    }
}

impl<W: io::Write> Replay for Printer<'_, W> {
    fn on_record(&mut self, header: &Header, payload: &[u8]) {
        if header.kind == Kind::Reset {
            self.resets_left -= 1;
            (self.dumped.first, self.dumped.next) = (header.next, header.next);
        } else if self.resets_left == 0 {
            self.print_batch(header, applied_lines(header, payload));
        }
    }
}
