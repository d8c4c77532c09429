//! A captured stream as a workload.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::{Serialize, Serializer};

use crate::codec::{Event, Line};
use crate::oracle::model::Model;
use crate::sys::interrupt;
use crate::workload::segment::{DueAt, Segment, Workload};

/// A segment holds at most this many bytes of the stream.
const MAX_SEGMENT_WIRE_BYTES: usize = 64 * 1024 * 1024;

/// Send times of the lines of a capture.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as the server accepts them.
    FullSpeed,
    /// N lines per second, evenly spaced.
    Rate(f64),
    /// N times as fast as recorded.
    Recorded(f64),
}

/// The server settings that decide which lines of a capture are delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerRules {
    /// `None`: 1 if the capture contains it, else its lowest sequence.
    pub(crate) first_sequence: Option<u64>,
    pub(crate) gaps: Gaps,
}

/// The server's treatment of sequences that never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// It waits indefinitely.
    Waits,
    /// It is assumed to skip them after a timeout.
    GivesUp,
}

/// A captured stream, one segment at a time.
pub(crate) struct CapturedWorkload {
    lines: Lines,
    /// A line that belongs to the next segment.
    held: Option<Vec<u8>>,
    schedule: Pacer,
    model: Model,
    sequencer: Sequencer,
}

impl CapturedWorkload {
    /// Opens a capture that has been scanned into `summary`.
    ///
    /// # Errors
    ///
    /// The file, or its times file if `pace` needs it, cannot be read.
    pub(crate) fn open(
        file: &Path,
        summary: &CaptureSummary,
        rules: ServerRules,
        users: &[u64],
        pace: Pace,
    ) -> io::Result<CapturedWorkload> {
        let missing = match rules.gaps {
            Gaps::Waits => VecDeque::new(),
            Gaps::GivesUp => summary.missing.iter().cloned().collect(),
        };
        Ok(CapturedWorkload {
            lines: Lines::open(file)?,
            held: None,
            schedule: Pacer::new(pace, file)?,
            model: Model::new(users),
            sequencer: Sequencer {
                awaited: summary.first_sequence,
                missing,
                waiting: BTreeMap::new(),
            },
        })
    }

    /// Returns the next line with its terminator.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.held.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    /// Returns whether the segment is complete. If possible it ends where no later sequence is
    /// waiting, because a server that skips gaps might do so while the next segment is prepared.
    fn is_complete(&self, segment: &Segment) -> bool {
        let fills = |share: usize| segment.wire.len() >= share * MAX_SEGMENT_WIRE_BYTES;
        let is_full = segment.is_full() || fills(1);
        is_full && (fills(2) || self.sequencer.is_settled())
    }

    fn add_line(&mut self, line: &[u8], segment: &mut Segment) {
        let (model, deliveries) = (&mut self.model, &mut segment.deliveries);
        let text = without_end(line);
        let read = Line::read(text);
        self.sequencer.receive(read, text, |event, line| model.apply(event, line, deliveries));
        segment.wire.extend_from_slice(line);
        segment.events += 1;
    }
}

impl Workload for CapturedWorkload {
    fn next_segment(&mut self, segment: &mut Segment) -> io::Result<bool> {
        segment.clear();
        while !self.is_complete(segment) {
            let Some(line) = self.next_line()? else { break };
            let read = Line::read(without_end(&line));
            if segment.events > 0 && self.sequencer.is_too_far(read) {
                self.held = Some(line);
                break;
            }
            self.add_line(&line, segment);
            if let Some(after) = self.schedule.next(line.len() as u64) {
                segment.schedule.push(DueAt { after, end: segment.wire.len() });
            }
        }
        let (model, deliveries) = (&mut self.model, &mut segment.deliveries);
        self.sequencer.give_up(|event, line| model.apply(event, line, deliveries));
        self.schedule.restart(&mut segment.schedule);
        segment.deliveries.finish();
        Ok(segment.events > 0)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// Sequences sent after a gap before the server must have skipped it: half of the default reorder
/// window.
const MAX_AHEAD_OF_GAP: u64 = 131_072;

/// Orders lines by sequence, by the rules of PROTOCOL.md.
struct Sequencer {
    awaited: u64,
    /// Gaps from the awaited sequence on that the server skips.
    missing: VecDeque<Range<u64>>,
    /// `None` if a malformed line occupies the sequence.
    waiting: BTreeMap<u64, Option<(Event, Vec<u8>)>>,
}

impl Sequencer {
    /// Inserts a line without its terminator and applies all lines that are in order.
    fn receive(&mut self, read: Line, line: &[u8], mut apply: impl FnMut(Event, &[u8])) {
        match read {
            Line::Void(sequence) if sequence >= self.awaited => {
                self.waiting.entry(sequence).or_insert(None);
            }
            Line::Event(sequence, event) if sequence >= self.awaited => {
                let slot = self.waiting.entry(sequence).or_insert(None);
                if slot.is_none() {
                    *slot = Some((event, line.to_vec()));
                }
            }
            Line::Noise | Line::Void(_) | Line::Event(..) => {}
        }
        self.apply_due(&mut apply);
    }

    /// Skips gaps that other lines wait for.
    fn give_up(&mut self, mut apply: impl FnMut(Event, &[u8])) {
        while !self.waiting.is_empty()
            && let Some(gap) = self.missing.front().filter(|gap| gap.start == self.awaited)
        {
            self.awaited = gap.end;
            self.missing.pop_front();
            self.apply_due(&mut apply);
        }
    }

    fn apply_due(&mut self, apply: &mut impl FnMut(Event, &[u8])) {
        while let Some(next) = self.waiting.remove(&self.awaited) {
            if let Some((event, line)) = next {
                apply(event, &line);
            }
            self.awaited += 1;
        }
    }

    /// Returns whether every sequence up to the last waiting one is present or skipped.
    fn is_settled(&self) -> bool {
        let Some((&last, _)) = self.waiting.last_key_value() else { return true };
        let gaps = self.missing.iter().take_while(|gap| gap.start < last);
        let missing: u64 = gaps.map(|gap| gap.end - gap.start).sum();
        last - self.awaited + 1 == missing + self.waiting.len() as u64
    }

    /// Returns whether a line is so far after a gap that the gap must be skipped first.
    fn is_too_far(&self, line: Line) -> bool {
        let has_gap = self.missing.front().is_some_and(|gap| gap.start == self.awaited);
        let distance = line.sequence().and_then(|sequence| sequence.checked_sub(self.awaited));
        has_gap && distance.is_some_and(|distance| distance >= MAX_AHEAD_OF_GAP)
    }
}

/// Computes the send time of each line.
struct Pacer {
    pace: Pace,
    /// Lines and bytes so far.
    lines: u64,
    bytes: u64,
    /// Start of the segment, relative to the start of the run.
    segment_start: Duration,
    times: Vec<TimePoint>,
}

/// A line of a times file: the capture had `bytes` bytes after `micros` microseconds.
#[derive(Clone, Copy)]
struct TimePoint {
    micros: u64,
    bytes: u64,
}

impl Pacer {
    fn new(pace: Pace, capture: &Path) -> io::Result<Pacer> {
        let times = match pace {
            Pace::Recorded(_) => read_times(&times_path(capture))?,
            Pace::FullSpeed | Pace::Rate(_) => Vec::new(),
        };
        Ok(Pacer { pace, lines: 0, bytes: 0, segment_start: Duration::ZERO, times })
    }

    /// Returns the send time of the next line of `length` bytes, relative to the start of the run.
    fn next(&mut self, length: u64) -> Option<Duration> {
        let (line, end) = (self.lines, self.bytes + length);
        (self.lines, self.bytes) = (line + 1, end);
        match self.pace {
            Pace::FullSpeed => None,
            Pace::Rate(rate) => Some(Duration::from_secs_f64(line as f64 / rate)),
            Pace::Recorded(speed) => {
                let index = self.times.partition_point(|point| point.bytes < end);
                let point = self.times.get(index).or(self.times.last());
                let micros = point.map_or(0, |point| point.micros);
                Some(Duration::from_micros(micros).div_f64(speed))
            }
        }
    }

    /// Makes the times of a segment relative to its own start.
    fn restart(&mut self, schedule: &mut [DueAt]) {
        let Some(last) = schedule.last().map(|due| due.after) else { return };
        for due in schedule {
            due.after = due.after.saturating_sub(self.segment_start);
        }
        self.segment_start = last;
    }
}

/// Returns `stream.events.times` for `stream.events` and `stream.events.gz`.
fn times_path(capture: &Path) -> PathBuf {
    let uncompressed =
        if is_gzip(capture) { capture.with_extension("") } else { capture.to_owned() };
    let mut name = uncompressed.into_os_string();
    name.push(".times");
    name.into()
}

fn read_times(file: &Path) -> io::Result<Vec<TimePoint>> {
    let mut text = String::new();
    let read = open(file).and_then(|mut input| input.read_to_string(&mut text));
    read.map_err(|error| {
        let message = format!("--speed needs the times of the capture: {error}");
        io::Error::new(error.kind(), message)
    })?;
    let point = |line: &str| {
        let (micros, bytes) = line.split_once(' ')?;
        Some(TimePoint { micros: micros.parse().ok()?, bytes: bytes.parse().ok()? })
    };
    let read = |(line, number): (&str, u64)| {
        point(line).ok_or_else(|| {
            unusable(format!(
                "{}: line {number} is `{}`, and should be two numbers: the time in microseconds, and how many \
                 bytes had been captured by then",
                file.display(),
                line.escape_debug()
            ))
        })
    };
    text.lines().zip(1..).map(read).collect()
}

fn is_gzip(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "gz")
}

/// Opens a file, compressed or not; errors name it.
///
/// # Errors
///
/// The file cannot be opened.
pub(crate) fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(name)?;
    Ok(if is_gzip(file) {
        Box::new(BufReader::new(MultiGzDecoder::new(opened)))
    } else {
        Box::new(BufReader::new(opened))
    })
}

/// Maximum length of a line in bytes. No server setting allows a longer one.
const MAX_CAPTURED_LINE: usize = 1024 * 1024;

/// Reader of a capture's lines.
struct Lines {
    input: Box<dyn BufRead>,
    name: String,
    /// The last line has no terminator.
    is_cut_short: bool,
}

impl Lines {
    fn open(file: &Path) -> io::Result<Lines> {
        Ok(Lines { input: open(file)?, name: file.display().to_string(), is_cut_short: false })
    }

    /// Returns the next line with its terminator. An unterminated last line is left out, since a
    /// server discards it.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        interrupt::check()?;
        let mut line = Vec::new();
        let mut input = (&mut self.input).take(MAX_CAPTURED_LINE as u64);
        input
            .read_until(b'\n', &mut line)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))?;
        if line.len() == MAX_CAPTURED_LINE && !line.ends_with(b"\n") {
            let name = &self.name;
            return Err(unusable(format!(
                "{name} is not a captured stream: it has a line of more than {MAX_CAPTURED_LINE} bytes"
            )));
        }
        self.is_cut_short = !line.is_empty() && !line.ends_with(b"\n");
        Ok(Some(line).filter(|line| line.ends_with(b"\n")))
    }
}

/// Error for a file that cannot be a capture or a list of users.
pub(crate) fn unusable(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// Summary of one pass over a capture.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CaptureSummary {
    pub(crate) lines: u64,
    events: u64,
    /// Malformed lines without and with a sequence.
    malformed: u64,
    void: u64,
    /// Lines whose sequence is a duplicate or lies before the first one.
    repeated: u64,
    is_cut_short: bool,
    pub(crate) first_sequence: u64,
    /// Gaps: missing sequences before present ones.
    #[serde(serialize_with = "as_pairs")]
    missing: Vec<Range<u64>>,
    /// Distinct sequences after the first gap.
    waiting: u64,
    /// All users named by events.
    #[serde(skip)]
    pub(crate) users: BTreeSet<u64>,
}

/// Serializes gaps as pairs of first and last sequence.
fn as_pairs<S: Serializer>(gaps: &[Range<u64>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(gaps.iter().map(|gap| [gap.start, gap.end - 1]))
}

/// Scans a capture once, applying `rules`.
///
/// # Errors
///
/// The file cannot be read. If it contains no event that a server would apply, the kind of the
/// error is [`ErrorKind::InvalidInput`].
pub(crate) fn scan(file: &Path, rules: ServerRules) -> io::Result<CaptureSummary> {
    let name = file.display();
    // The file is read twice.
    if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(unusable(format!(
            "{name} is not a regular file: a capture is read twice, so it cannot be a pipe"
        )));
    }
    let mut summary = CaptureSummary {
        lines: 0,
        events: 0,
        malformed: 0,
        void: 0,
        repeated: 0,
        is_cut_short: false,
        first_sequence: rules.first_sequence.unwrap_or_default(),
        missing: Vec::new(),
        waiting: 0,
        users: BTreeSet::new(),
    };
    let (mut lines, mut seen) = (Lines::open(file)?, Sequences::default());
    while let Some(line) = lines.next()? {
        summary.count(Line::read(without_end(&line)), &mut seen);
    }
    summary.is_cut_short = lines.is_cut_short;
    if summary.events == 0 {
        let what = match (summary.lines, summary.is_cut_short, rules.first_sequence) {
            (0, false, _) => "the file is empty".to_owned(),
            (0, true, _) => {
                "its only line is not terminated, so a server would discard it".to_owned()
            }
            (lines, _, None | Some(0)) => {
                format!("none of its {lines} lines is an event such as `1|B`")
            }
            (lines, _, Some(first)) => {
                format!("none of its {lines} lines is an event of sequence {first} or later")
            }
        };
        return Err(unusable(format!("{name} cannot be replayed: {what}")));
    }
    summary.first_sequence = rules.first_sequence.unwrap_or_else(|| seen.likely_first());
    summary.missing = seen.missing_from(summary.first_sequence);
    summary.waiting = summary.missing.first().map_or(0, |gap| seen.count_from(gap.end));
    Ok(summary)
}

impl CaptureSummary {
    fn count(&mut self, line: Line, seen: &mut Sequences) {
        self.lines += 1;
        let is_new = line
            .sequence()
            .is_none_or(|sequence| sequence >= self.first_sequence && seen.insert(sequence));
        self.repeated += u64::from(!is_new);
        match line {
            Line::Noise => self.malformed += 1,
            Line::Void(_) => self.void += 1,
            Line::Event(sequence, event) if sequence >= self.first_sequence => {
                self.events += 1;
                self.name_users(event);
            }
            Line::Event(..) => {}
        }
    }

    fn name_users(&mut self, event: Event) {
        match event {
            Event::Follow { follower: a, followed: b }
            | Event::Unfollow { follower: a, followed: b }
            | Event::Private { from: a, to: b } => self.users.extend([a, b]),
            Event::Status { from } => drop(self.users.insert(from)),
            Event::Broadcast => {}
        }
    }

    /// Describes the lines that a server with indefinite waiting never delivers; `None` if there
    /// are none.
    pub(crate) fn unsent(&self) -> Option<String> {
        let lines = match self.waiting {
            0 => return None,
            1 => "1 line waits".to_owned(),
            count => format!("{count} lines wait"),
        };
        let first = self.missing.first().map_or(0, |gap| gap.start);
        Some(format!("{lines} for sequence {first}, which is missing from the capture"))
    }
}

impl fmt::Display for CaptureSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CaptureSummary { events, malformed, void, repeated, first_sequence, .. } = self;
        write!(f, "{events} events")?;
        let cut_short = u64::from(self.is_cut_short);
        let others = [
            (*malformed, "malformed"),
            (*void, "void"),
            (*repeated, "repeat a sequence"),
            (cut_short, "cut short"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        write!(f, ", from sequence {first_sequence} on")?;
        let missing: u64 = self.missing.iter().map(|gap| gap.end - gap.start).sum();
        if missing > 0 {
            write!(f, ", {missing} sequences missing before {} lines", self.waiting)?;
        }
        Ok(())
    }
}

/// A set of mostly contiguous sequences, stored as runs: first → last.
#[derive(Default)]
struct Sequences(BTreeMap<u64, u64>);

impl Sequences {
    /// Inserts a sequence; returns whether it was absent.
    fn insert(&mut self, sequence: u64) -> bool {
        let before = self.0.range(..=sequence).next_back().map(|(&first, &last)| (first, last));
        let first = match before {
            Some((_, last)) if last >= sequence => return false,
            Some((first, last)) if last + 1 == sequence => first,
            _ => sequence,
        };
        let last = self.0.remove(&(sequence + 1)).unwrap_or(sequence);
        self.0.insert(first, last);
        true
    }

    /// Returns the sequence that the capturing server probably awaited first.
    fn likely_first(&self) -> u64 {
        let has_one = self.0.range(..=1).next_back().is_some_and(|(_, &last)| last >= 1);
        let lowest = self.0.first_key_value().map_or(1, |(&first, _)| first);
        if has_one { 1 } else { lowest }
    }

    /// Returns the gaps between `start` and the last sequence.
    fn missing_from(&self, start: u64) -> Vec<Range<u64>> {
        let mut next = start;
        let mut gaps = Vec::new();
        for (&first, &last) in self.0.iter().filter(|&(_, &last)| last >= start) {
            if first > next {
                gaps.push(next..first);
            }
            next = last + 1;
        }
        gaps
    }

    /// Returns the number of sequences from `start` on, which begins a run.
    fn count_from(&self, start: u64) -> u64 {
        self.0.range(start..).map(|(first, last)| last - first + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const RULES: ServerRules = ServerRules { first_sequence: None, gaps: Gaps::Waits };

    /// The deliveries that the original verification program expects for the stream that it sent.
    #[test]
    fn the_model_agrees_with_the_original() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let capture = data.join("verification-20k.events.gz");
        let expected = std::fs::read_to_string(data.join("verification-20k.expected")).unwrap();
        let expected: Vec<Vec<&str>> =
            expected.lines().map(|line| line.split_whitespace().collect()).collect();
        let users: Vec<u64> = expected.iter().map(|fields| fields[0].parse().unwrap()).collect();

        let summary = scan(&capture, RULES).unwrap();
        let mut replay =
            CapturedWorkload::open(&capture, &summary, RULES, &users, Pace::FullSpeed).unwrap();
        let mut segment = Segment::for_clients(users.len());
        assert!(replay.next_segment(&mut segment).unwrap());
        assert_eq!(segment.events, 20_000);
        for (fields, client) in expected.iter().zip(&segment.deliveries.clients) {
            let mut digest = Sha256::new();
            client.spans(&segment.deliveries.broadcasts).for_each(|span| digest.update(span));
            let digest: String =
                digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let [user, lines, expected_digest] = fields[..] else { panic!("{fields:?}") };
            assert_eq!(client.lines().to_string(), lines, "user {user}");
            assert_eq!(digest, expected_digest, "user {user}");
        }
        assert!(!replay.next_segment(&mut segment).unwrap());
    }

    fn applied(lines: &[&str]) -> Vec<String> {
        let missing = VecDeque::from([20..22, 23..24, 30..31]);
        let mut sequencer = Sequencer { awaited: 1, missing, waiting: BTreeMap::new() };
        let mut applied = Vec::new();
        let mut apply = |_: Event, text: &[u8]| {
            applied.push(String::from_utf8(text.to_vec()).unwrap());
        };
        for line in lines {
            sequencer.receive(Line::read(line.as_bytes()), line.as_bytes(), &mut apply);
        }
        sequencer.give_up(&mut apply);
        applied
    }

    #[test]
    fn gaps_are_given_up_where_something_waits_for_them() {
        let before: Vec<String> = (1..20).map(|sequence| format!("{sequence}|B")).collect();
        let applied_after = |lines: &[&str]| {
            let lines: Vec<&str> =
                before.iter().map(String::as_str).chain(lines.to_vec()).collect();
            applied(&lines).split_off(19)
        };
        assert_eq!(applied_after(&["24|B", "22|X", "22|B"]), ["22|B", "24|B"]);
        assert_eq!(applied_after(&["25|B", "22|B"]), ["22|B"], "24 comes later");
        assert!(applied_after(&[]).is_empty());
    }

    #[test]
    fn sequences_come_in_runs() {
        let mut seen = Sequences::default();
        for sequence in [5, 7, 6, 10, 1, 11] {
            assert!(seen.insert(sequence));
        }
        assert!([5, 6, 7, 10, 11, 1].iter().all(|&sequence| !seen.insert(sequence)));
        assert_eq!(seen.0, BTreeMap::from([(1, 1), (5, 7), (10, 11)]));
        assert_eq!(seen.missing_from(1), [2..5, 8..10]);
        assert_eq!(seen.missing_from(6).first(), Some(&(8..10)));
        assert_eq!(seen.missing_from(0), [0..1, 2..5, 8..10]);
        assert_eq!((seen.count_from(5), seen.likely_first()), (5, 1));
        let from = |sequences: &[u64]| {
            let mut seen = Sequences::default();
            assert!(sequences.iter().all(|&sequence| seen.insert(sequence)));
            seen.likely_first()
        };
        assert_eq!([from(&[0, 1]), from(&[0, 2]), from(&[5000, 5001])], [1, 0, 5000]);
    }

    #[test]
    fn lines_are_applied_in_order_and_once() {
        assert_eq!(applied(&["3|B", "1|B", "2|S|4"]), ["1|B", "2|S|4", "3|B"]);
        assert_eq!(applied(&["2|S|1", "2|S|2", "1|B", "1|S|9"]), ["1|B", "2|S|1"]);
    }

    #[test]
    fn a_malformed_line_takes_its_place() {
        assert_eq!(applied(&["2|B", "noise", "1|X"]), ["2|B"]);
        assert_eq!(applied(&["2|X", "2|B", "1|B"]), ["1|B", "2|B"], "a void that waits gives way");
        assert_eq!(applied(&["1|X", "1|B", "2|B"]), ["2|B"], "a void that was due is final");
    }

    #[test]
    fn times_stand_beside_the_capture() {
        assert_eq!(times_path(Path::new("a/b.events")), Path::new("a/b.events.times"));
        assert_eq!(times_path(Path::new("a/b.events.gz")), Path::new("a/b.events.times"));
    }

    #[test]
    fn a_recorded_pace_is_stretched() {
        let times = vec![TimePoint { micros: 0, bytes: 10 }, TimePoint { micros: 1000, bytes: 30 }];
        let pace = Pace::Recorded(2.0);
        let mut pacer = Pacer { pace, lines: 0, bytes: 0, segment_start: Duration::ZERO, times };
        assert_eq!(pacer.next(10), Some(Duration::ZERO));
        assert_eq!(pacer.next(10), Some(Duration::from_micros(500)));
        assert_eq!(pacer.next(10), Some(Duration::from_micros(500)));
    }
}
