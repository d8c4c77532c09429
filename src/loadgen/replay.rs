//! `replay`: a captured stream, whatever is in it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::{Serialize, Serializer};

use super::event::{Event, Line};
use super::interrupt;
use super::model::Model;
use super::random::Random;
use super::range;
use super::slice::{Due, Load, Slice};

/// A stream is kept in memory up to this many bytes of it at a time.
const SLICE_WIRE_BYTES: usize = 64 * 1024 * 1024;

/// When the lines of a capture leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as the server takes them.
    FullSpeed,
    /// So many a second, evenly spaced.
    Rate(f64),
    /// So many times as fast as they were recorded.
    Recorded(f64),
}

/// The settings of the server that decide which lines of a capture are delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerRules {
    /// `None`: 1 where the capture has it, and otherwise the lowest sequence in it.
    pub(crate) first_sequence: Option<u64>,
    pub(crate) gaps: Gaps,
}

/// The treatment of sequences that never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// It waits for ever.
    Waits,
    /// It gives them up after a while, as far as is known.
    GivesUp,
}

/// A captured stream, slice by slice.
pub(crate) struct Replay {
    lines: Lines,
    /// A line that belongs into the next slice.
    held: Option<Vec<u8>>,
    schedule: Pacer,
    model: Model,
    order: Order,
}

impl Replay {
    /// Opens the file that was surveyed.
    ///
    /// # Errors
    ///
    /// The file, or that of its times where the pace needs it, cannot be read.
    pub(crate) fn open(
        file: &Path,
        survey: &Survey,
        rules: ServerRules,
        users: &[u64],
        pace: Pace,
    ) -> io::Result<Replay> {
        let missing = match rules.gaps {
            Gaps::Waits => VecDeque::new(),
            Gaps::GivesUp => survey.missing.iter().cloned().collect(),
        };
        Ok(Replay {
            lines: Lines::open(file)?,
            held: None,
            schedule: Pacer::new(pace, file)?,
            model: Model::new(users),
            order: Order { awaited: survey.first_sequence, missing, waiting: BTreeMap::new() },
        })
    }

    /// The next line with its end.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.held.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    /// Returns whether a slice ends here. It ends where no sequence is missing that comes later, if
    /// possible: a server that gives gaps up could skip it while the next slice is prepared.
    fn is_complete(&self, slice: &Slice) -> bool {
        let fills = |share: usize| slice.wire.len() >= share * SLICE_WIRE_BYTES;
        let is_full = slice.is_full() || fills(1);
        is_full && (fills(2) || self.order.is_settled())
    }

    fn add_line(&mut self, line: &[u8], slice: &mut Slice) {
        let (model, deliveries) = (&mut self.model, &mut slice.deliveries);
        let text = without_end(line);
        let read = Line::read(text);
        self.order.receive(read, text, |event, line| model.apply(event, line, deliveries));
        slice.wire.extend_from_slice(line);
        slice.events += 1;
    }
}

impl Load for Replay {
    fn prepare(&mut self, slice: &mut Slice) -> io::Result<bool> {
        slice.clear();
        while !self.is_complete(slice) {
            let Some(line) = self.next_line()? else { break };
            let read = Line::read(without_end(&line));
            if slice.events > 0 && self.order.is_too_far(read) {
                self.held = Some(line);
                break;
            }
            self.add_line(&line, slice);
            if let Some(after) = self.schedule.next(line.len() as u64) {
                slice.schedule.push(Due { after, end: slice.wire.len() });
            }
        }
        let (model, deliveries) = (&mut self.model, &mut slice.deliveries);
        self.order.give_up(|event, line| model.apply(event, line, deliveries));
        self.schedule.restart(&mut slice.schedule);
        slice.deliveries.complete();
        Ok(slice.events > 0)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The most sequences that are sent after the start of a gap before the server has given it up: half
/// of its default reorder window.
const MAX_AHEAD_OF_GAP: u64 = 131_072;

/// Puts lines into the order of their sequences, as PROTOCOL.md has it.
struct Order {
    awaited: u64,
    /// Sequences from the awaited one on that never come and that the server gives up.
    missing: VecDeque<Range<u64>>,
    /// `None` where a malformed line took the sequence.
    waiting: BTreeMap<u64, Option<(Event, Vec<u8>)>>,
}

impl Order {
    /// Takes a line without its end and applies all that is in order then.
    fn receive(&mut self, read: Line, line: &[u8], mut apply: impl FnMut(Event, &[u8])) {
        match read {
            Line::Void(sequence) if sequence >= self.awaited => {
                self.waiting.entry(sequence).or_insert(None);
            }
            Line::Event(sequence, event) if sequence >= self.awaited => {
                let place = self.waiting.entry(sequence).or_insert(None);
                if place.is_none() {
                    *place = Some((event, line.to_vec()));
                }
            }
            Line::Noise | Line::Void(_) | Line::Event(..) => {}
        }
        self.apply_due(&mut apply);
    }

    /// Passes over what is missing, where something waits for it.
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

    /// Returns whether each sequence up to the last one that waits has come or never will.
    fn is_settled(&self) -> bool {
        let Some((&last, _)) = self.waiting.last_key_value() else { return true };
        let gaps = self.missing.iter().take_while(|gap| gap.start < last);
        let missing: u64 = gaps.map(|gap| gap.end - gap.start).sum();
        last - self.awaited + 1 == missing + self.waiting.len() as u64
    }

    /// Returns whether a line is so far after a gap that the server must give that up first.
    fn is_too_far(&self, line: Line) -> bool {
        let has_gap = self.missing.front().is_some_and(|gap| gap.start == self.awaited);
        let distance = line.sequence().and_then(|sequence| sequence.checked_sub(self.awaited));
        has_gap && distance.is_some_and(|distance| distance >= MAX_AHEAD_OF_GAP)
    }
}

/// Says when each line may leave.
struct Pacer {
    pace: Pace,
    /// Lines and bytes passed so far.
    lines: u64,
    bytes: u64,
    /// From the run's start to the slice's.
    slice_start: Duration,
    times: Vec<Arrival>,
}

/// A line of a file of times: the capture had `bytes` bytes after `micros` microseconds.
#[derive(Clone, Copy)]
struct Arrival {
    micros: u64,
    bytes: u64,
}

impl Pacer {
    fn new(pace: Pace, capture: &Path) -> io::Result<Pacer> {
        let times = match pace {
            Pace::Recorded(_) => read_times(&times_of(capture))?,
            Pace::FullSpeed | Pace::Rate(_) => Vec::new(),
        };
        Ok(Pacer { pace, lines: 0, bytes: 0, slice_start: Duration::ZERO, times })
    }

    /// When the next line of `length` bytes may leave, from the run's start.
    fn next(&mut self, length: u64) -> Option<Duration> {
        let (line, end) = (self.lines, self.bytes + length);
        (self.lines, self.bytes) = (line + 1, end);
        match self.pace {
            Pace::FullSpeed => None,
            Pace::Rate(rate) => Some(Duration::from_secs_f64(line as f64 / rate)),
            Pace::Recorded(speed) => {
                let place = self.times.partition_point(|arrival| arrival.bytes < end);
                let arrival = self.times.get(place).or(self.times.last());
                let micros = arrival.map_or(0, |arrival| arrival.micros);
                Some(Duration::from_micros(micros).div_f64(speed))
            }
        }
    }

    /// Counts a slice's times from the slice's own start.
    fn restart(&mut self, schedule: &mut [Due]) {
        let Some(last) = schedule.last().map(|due| due.after) else { return };
        for due in schedule {
            due.after = due.after.saturating_sub(self.slice_start);
        }
        self.slice_start = last;
    }
}

/// `stream.events.times` for `stream.events` and `stream.events.gz`.
fn times_of(capture: &Path) -> PathBuf {
    let plain = if is_gzip(capture) { capture.with_extension("") } else { capture.to_owned() };
    let mut name = plain.into_os_string();
    name.push(".times");
    name.into()
}

fn read_times(file: &Path) -> io::Result<Vec<Arrival>> {
    let mut text = String::new();
    open(file)?.read_to_string(&mut text)?;
    text.lines()
        .map(|line| {
            let (micros, bytes) = line.split_once(' ')?;
            Some(Arrival { micros: micros.parse().ok()?, bytes: bytes.parse().ok()? })
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            io::Error::other(format!(
                "{}: a line is not `MICROSECONDS BYTES`, the bytes captured until then",
                file.display()
            ))
        })
}

fn is_gzip(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "gz")
}

fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    let name =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(name)?;
    Ok(if is_gzip(file) {
        Box::new(BufReader::new(MultiGzDecoder::new(opened)))
    } else {
        Box::new(BufReader::new(opened))
    })
}

/// A longer line is none of a captured stream, whatever the server's settings were, in bytes.
const MAX_CAPTURED_LINE_BYTES: usize = 1024 * 1024;

/// The lines of a capture.
struct Lines {
    input: Box<dyn BufRead>,
    name: String,
    /// The last line has no end.
    is_cut_short: bool,
}

impl Lines {
    fn open(file: &Path) -> io::Result<Lines> {
        Ok(Lines { input: open(file)?, name: file.display().to_string(), is_cut_short: false })
    }

    /// The next line with its end. A last one without an end is left out: it is cut short, and a
    /// server discards it.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        interrupt::check()?;
        let mut line = Vec::new();
        let mut input = (&mut self.input).take(MAX_CAPTURED_LINE_BYTES as u64);
        input
            .read_until(b'\n', &mut line)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))?;
        if line.len() == MAX_CAPTURED_LINE_BYTES && !line.ends_with(b"\n") {
            let name = &self.name;
            return Err(unusable(format!(
                "{name} has a line of more than {MAX_CAPTURED_LINE_BYTES} bytes: it is no captured stream"
            )));
        }
        self.is_cut_short = !line.is_empty() && !line.ends_with(b"\n");
        Ok(Some(line).filter(|line| line.ends_with(b"\n")))
    }
}

/// A file that cannot be what it is taken for.
fn unusable(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// What one pass over a capture tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Survey {
    pub(crate) lines: u64,
    events: u64,
    /// Malformed lines without a sequence, and with one.
    malformed: u64,
    void: u64,
    /// Lines with a sequence that came before, or that lies before the first one.
    repeated: u64,
    is_cut_short: bool,
    pub(crate) first_sequence: u64,
    /// Sequences that never come though later ones do.
    #[serde(serialize_with = "as_pairs")]
    missing: Vec<Range<u64>>,
    /// Different sequences that come after a missing one.
    waiting: u64,
    /// Every user that an event names.
    #[serde(skip)]
    pub(crate) users: BTreeSet<u64>,
}

/// The first and the last sequence of each gap.
fn as_pairs<S: Serializer>(gaps: &[Range<u64>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(gaps.iter().map(|gap| [gap.start, gap.end - 1]))
}

/// Reads a capture once, as a server with these rules would.
///
/// # Errors
///
/// It cannot be read, or there is nothing in it that a server would apply: then the error's kind is
/// [`ErrorKind::InvalidInput`].
pub(crate) fn survey(file: &Path, rules: ServerRules) -> io::Result<Survey> {
    let name = file.display();
    // It is read twice.
    if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(unusable(format!("{name} is no regular file")));
    }
    let mut survey = Survey {
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
        survey.count(Line::read(without_end(&line)), &mut seen);
    }
    survey.is_cut_short = lines.is_cut_short;
    if survey.events == 0 {
        let lines = survey.lines;
        return Err(unusable(format!("{name}: none of its {lines} lines is an event to be sent")));
    }
    survey.first_sequence = rules.first_sequence.unwrap_or_else(|| seen.likely_first());
    survey.missing = seen.missing_from(survey.first_sequence);
    survey.waiting = survey.missing.first().map_or(0, |gap| seen.count_from(gap.end));
    Ok(survey)
}

impl Survey {
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

    /// Returns a message about the lines that a server never delivers if it waits for missing
    /// sequences; `None` if none are missing.
    pub(crate) fn unsent(&self) -> Option<String> {
        let lines = match self.waiting {
            0 => return None,
            1 => "1 line waits".to_owned(),
            count => format!("{count} lines wait"),
        };
        let first = self.missing.first().map_or(0, |gap| gap.start);
        Some(format!("{lines} for sequence {first}, which the capture lacks"))
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Survey { events, malformed, void, repeated, first_sequence, .. } = self;
        write!(
            f,
            "{events} events, {malformed} malformed, {void} void; {repeated} repeat a sequence"
        )?;
        if self.is_cut_short {
            f.write_str(", 1 cut short")?;
        }
        write!(f, ", from sequence {first_sequence} on")?;
        let missing: u64 = self.missing.iter().map(|gap| gap.end - gap.start).sum();
        if missing > 0 {
            write!(f, ", {missing} sequences missing before {} lines", self.waiting)?;
        }
        Ok(())
    }
}

/// A set of sequences, most of which follow each other: by run, its first and its last one.
#[derive(Default)]
struct Sequences(BTreeMap<u64, u64>);

impl Sequences {
    /// Returns whether it was not there.
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

    /// The sequence that a server probably awaited first.
    fn likely_first(&self) -> u64 {
        let has_one = self.0.range(..=1).next_back().is_some_and(|(_, &last)| last >= 1);
        let lowest = self.0.first_key_value().map_or(1, |(&first, _)| first);
        if has_one { 1 } else { lowest }
    }

    /// Returns the sequences missing between `start` and the last one.
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

    /// Counts the sequences from `start` on, where a run begins.
    fn count_from(&self, start: u64) -> u64 {
        self.0.range(start..).map(|(first, last)| last - first + 1).sum()
    }
}

/// The user that connects if a capture names none: broadcasts go to any client.
const ANY_USER: u64 = 1;

/// The users that connect: `all` that the capture names, so many of them at random, or those in a
/// file, which has one at the beginning of each line.
///
/// # Errors
///
/// The file cannot be read, or a line does not begin with an id, or there are none.
pub(crate) fn choose_users(choice: &str, survey: &Survey, seed: u64) -> io::Result<Vec<u64>> {
    let mut named: Vec<u64> = survey.users.iter().copied().collect();
    if named.is_empty() {
        named.push(ANY_USER);
    }
    if choice == "all" {
        return Ok(named);
    }
    if choice.bytes().all(|byte| byte.is_ascii_digit()) {
        let count = range::clients(choice).map_err(|why| unusable(format!("--users: {why}")))?;
        Random::from_seed(seed).shuffle(&mut named);
        named.truncate(count);
        return Ok(named);
    }
    let mut text = String::new();
    open(Path::new(choice))?.read_to_string(&mut text)?;
    let read =
        |id: &str| id.parse::<u64>().map_err(|_| unusable(format!("{choice}: `{id}` is no id")));
    let ids = text.lines().filter_map(|line| line.split_whitespace().next());
    let mut users: Vec<u64> = ids.map(read).collect::<io::Result<_>>()?;
    // Were one to connect twice, it would take over from itself.
    let mut seen = HashSet::new();
    users.retain(|&user| seen.insert(user));
    if users.is_empty() {
        return Err(unusable(format!("{choice} names no user")));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const RULES: ServerRules = ServerRules { first_sequence: None, gaps: Gaps::Waits };

    /// What the original verification program expects for the stream that it sent.
    #[test]
    fn the_model_agrees_with_the_original() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let capture = data.join("verification-20k.events.gz");
        let expected = std::fs::read_to_string(data.join("verification-20k.expected")).unwrap();
        let expected: Vec<Vec<&str>> =
            expected.lines().map(|line| line.split_whitespace().collect()).collect();
        let users: Vec<u64> = expected.iter().map(|fields| fields[0].parse().unwrap()).collect();

        let survey = survey(&capture, RULES).unwrap();
        let mut replay = Replay::open(&capture, &survey, RULES, &users, Pace::FullSpeed).unwrap();
        let mut slice = Slice::for_clients(users.len());
        assert!(replay.prepare(&mut slice).unwrap());
        assert_eq!(slice.events, 20_000);
        for (fields, client) in expected.iter().zip(&slice.deliveries.clients) {
            let mut digest = Sha256::new();
            client.pieces(&slice.deliveries.shared).for_each(|piece| digest.update(piece));
            let digest: String =
                digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let [user, lines, expected_digest] = fields[..] else { panic!("{fields:?}") };
            assert_eq!(client.lines().to_string(), lines, "user {user}");
            assert_eq!(digest, expected_digest, "user {user}");
        }
        assert!(!replay.prepare(&mut slice).unwrap());
    }

    fn applied(lines: &[&str]) -> Vec<String> {
        let missing = VecDeque::from([20..22, 23..24, 30..31]);
        let mut order = Order { awaited: 1, missing, waiting: BTreeMap::new() };
        let mut applied = Vec::new();
        let mut apply = |_: Event, text: &[u8]| {
            applied.push(String::from_utf8(text.to_vec()).unwrap());
        };
        for line in lines {
            order.receive(Line::read(line.as_bytes()), line.as_bytes(), &mut apply);
        }
        order.give_up(&mut apply);
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
        assert_eq!(times_of(Path::new("a/b.events")), Path::new("a/b.events.times"));
        assert_eq!(times_of(Path::new("a/b.events.gz")), Path::new("a/b.events.times"));
    }

    #[test]
    fn a_recorded_pace_is_stretched() {
        let times = vec![Arrival { micros: 0, bytes: 10 }, Arrival { micros: 1000, bytes: 30 }];
        let pace = Pace::Recorded(2.0);
        let mut pacer = Pacer { pace, lines: 0, bytes: 0, slice_start: Duration::ZERO, times };
        assert_eq!(pacer.next(10), Some(Duration::ZERO));
        assert_eq!(pacer.next(10), Some(Duration::from_micros(500)));
        assert_eq!(pacer.next(10), Some(Duration::from_micros(500)));
    }
}
