//! `replay`: a captured stream, whatever is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;

use super::event::{Event, Line};
use super::model::Model;
use super::random::Random;
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

/// A captured stream, slice by slice.
pub(crate) struct Replay {
    lines: Box<dyn BufRead>,
    schedule: Pacer,
    model: Model,
    order: Order,
}

impl Replay {
    /// # Errors
    ///
    /// The file, or that of its times where the pace needs it, cannot be read.
    pub(crate) fn open(file: &Path, users: &[u64], pace: Pace) -> io::Result<Replay> {
        Ok(Replay {
            lines: open(file)?,
            schedule: Pacer::new(pace, file)?,
            model: Model::new(users),
            order: Order { awaited: 1, waiting: BTreeMap::new() },
        })
    }

    fn add_line(&mut self, line: &[u8], slice: &mut Slice) {
        let text = without_end(line);
        let (model, deliveries) = (&mut self.model, &mut slice.deliveries);
        self.order.receive(text, |event, line| model.apply(event, line, deliveries));
        slice.wire.extend_from_slice(line);
        slice.events += 1;
    }
}

impl Load for Replay {
    fn prepare(&mut self, slice: &mut Slice) -> io::Result<bool> {
        slice.clear();
        let mut line = Vec::new();
        while !slice.is_full() && slice.wire.len() < SLICE_WIRE_BYTES {
            line.clear();
            // A last line without its end is cut short: a server discards it.
            if self.lines.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
                break;
            }
            self.add_line(&line, slice);
            if let Some(after) = self.schedule.next(line.len() as u64) {
                slice.schedule.push(Due { after, end: slice.wire.len() });
            }
        }
        if slice.events == 0 {
            self.order.warn_of_what_waits();
        }
        self.schedule.restart(&mut slice.schedule);
        slice.deliveries.complete();
        Ok(slice.events > 0)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// Puts lines into the order of their sequences, as PROTOCOL.md has it.
struct Order {
    awaited: u64,
    /// `None` where a malformed line took the sequence.
    waiting: BTreeMap<u64, Option<(Event, Vec<u8>)>>,
}

impl Order {
    /// Says what nobody receives since a sequence before it is missing: such a replay proves little.
    fn warn_of_what_waits(&self) {
        if !self.waiting.is_empty() {
            log::warn!(
                "{} lines of the capture wait behind sequence {}, which it lacks: nobody receives them",
                self.waiting.len(),
                self.awaited
            );
        }
    }

    /// Takes a line without its end and applies all that is in order then.
    fn receive(&mut self, line: &[u8], mut apply: impl FnMut(Event, &[u8])) {
        match Line::read(line) {
            Line::Noise => {}
            Line::Void(sequence) if sequence >= self.awaited => {
                self.waiting.entry(sequence).or_insert(None);
            }
            Line::Event(sequence, event) if sequence >= self.awaited => {
                let place = self.waiting.entry(sequence).or_insert(None);
                if place.is_none() {
                    *place = Some((event, line.to_vec()));
                }
            }
            Line::Void(_) | Line::Event(..) => {}
        }
        while let Some(next) = self.waiting.remove(&self.awaited) {
            if let Some((event, line)) = next {
                apply(event, &line);
            }
            self.awaited += 1;
        }
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

/// What one pass over a capture tells.
pub(crate) struct Survey {
    pub(crate) lines: u64,
    /// Every user that an event names.
    pub(crate) users: BTreeSet<u64>,
}

/// Reads a capture once.
///
/// # Errors
///
/// It cannot be read.
pub(crate) fn survey(file: &Path) -> io::Result<Survey> {
    let mut survey = Survey { lines: 0, users: BTreeSet::new() };
    for line in open(file)?.split(b'\n') {
        survey.lines += 1;
        let Line::Event(_, event) = Line::read(without_end(&line?)) else { continue };
        match event {
            Event::Follow { follower: a, followed: b }
            | Event::Unfollow { follower: a, followed: b }
            | Event::Private { from: a, to: b } => survey.users.extend([a, b]),
            Event::Status { from } => drop(survey.users.insert(from)),
            Event::Broadcast => {}
        }
    }
    Ok(survey)
}

/// The users that connect: `all` that the capture names, so many of them at random, or those in a
/// file, which has one at the beginning of each line.
///
/// # Errors
///
/// The file cannot be read, or a line does not begin with an id.
pub(crate) fn choose_users(choice: &str, named: BTreeSet<u64>, seed: u64) -> io::Result<Vec<u64>> {
    let mut named: Vec<u64> = named.into_iter().collect();
    if choice == "all" {
        return Ok(named);
    }
    if let Ok(count) = choice.parse::<usize>() {
        Random::from_seed(seed).shuffle(&mut named);
        named.truncate(count);
        return Ok(named);
    }
    let mut text = String::new();
    open(Path::new(choice))?.read_to_string(&mut text)?;
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|id| id.parse().map_err(|_| io::Error::other(format!("{choice}: `{id}` is no id"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// What the original verification program expects for the stream that it sent.
    #[test]
    fn the_model_agrees_with_the_original() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let capture = data.join("verification-20k.events.gz");
        let expected = std::fs::read_to_string(data.join("verification-20k.expected")).unwrap();
        let expected: Vec<Vec<&str>> =
            expected.lines().map(|line| line.split_whitespace().collect()).collect();
        let users: Vec<u64> = expected.iter().map(|fields| fields[0].parse().unwrap()).collect();

        let mut replay = Replay::open(&capture, &users, Pace::FullSpeed).unwrap();
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
        let mut order = Order { awaited: 1, waiting: BTreeMap::new() };
        let mut applied = Vec::new();
        for line in lines {
            order.receive(line.as_bytes(), |_, text| {
                applied.push(String::from_utf8(text.to_vec()).unwrap());
            });
        }
        applied
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
