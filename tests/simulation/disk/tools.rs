//! Checking, printing and repairing a journal offline.

use std::collections::BTreeMap;

use eventserver::engine::{LogEntry, StateHash};
use eventserver::journal::{
    Checked, CommitPoint, DumpError, Dumped, Error, Inspection, Repair, RepairStep, Storage, dump,
    inspect, maintain, plan_repair,
};

use super::history::{
    History, ModelState, hash_of, read, segments, stamp_closed, start, state_of, writer_at,
};
use crate::journal::memory_disk::{Fault, MemoryDisk};
use crate::sim::prng::Prng;

/// Returns a journal with maintenance in between, so that it has snapshots.
fn maintained(seed: u64, entries: usize, retain: u64) -> (MemoryDisk, History) {
    let mut random = Prng::announced(seed);
    let history = History::random(&mut random, entries);
    let disk = MemoryDisk::default();
    let mut writer = writer_at(&disk, start(history.first_sequence), CommitPoint::Synced);
    for entry in &history.entries {
        writer.append(entry.clone());
        writer.flush().unwrap();
        stamp_closed(&mut writer, &history, 0);
        if random.below(5) == 0 {
            maintain(&mut disk.clone(), retain, || {}).unwrap();
        }
    }
    writer.finish().unwrap();
    (disk, history)
}

fn all_files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    disk.list().unwrap().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

/// Returns the number of a bit for each byte, not always the same in a byte.
fn one_bit_per_byte(content: &[u8]) -> impl Iterator<Item = usize> {
    (0..content.len()).map(|byte| 8 * byte + byte % 8)
}

fn check(disk: &MemoryDisk) -> (Inspection, Vec<Checked>) {
    let mut checked = Vec::new();
    let inspection = inspect(disk, |file| checked.push(file)).unwrap();
    (inspection, checked)
}

#[test]
fn an_intact_journal_is_shown_with_its_totals_and_its_state() {
    for (seed, retain) in (0..30).flat_map(|seed| [0, 3000, u64::MAX].map(|it| (seed, it))) {
        let (disk, history) = maintained(seed, 100, retain);
        let hashes: Vec<StateHash> = history.states.iter().map(hash_of).collect();
        let before = all_files(&disk);
        let (inspection, checked) = check(&disk);
        assert!(inspection.is_intact(), "{checked:?}");
        let start = inspection.start.unwrap().unwrap();
        assert_eq!(start.awaited, history.last().awaited);
        assert_eq!(start.hash, hash_of(history.last()));
        assert_eq!(start.follows, history.last().follows.len() as u64);
        assert_eq!(start.torn, None);
        assert_eq!(inspection.segments as usize, segments(&disk).len());
        if retain == u64::MAX {
            let lines = history.entries.iter().map(|entry| match entry {
                LogEntry::Batch(batch) => u64::from(batch.count),
                LogEntry::Reset { .. } => 0,
            });
            assert_eq!(inspection.totals.lines, lines.sum::<u64>());
        }
        for file in &checked {
            if let Checked::Segment(report) = file
                && let Some(hash) = report.hash
            {
                assert!(hashes.contains(&hash), "seed {seed}: {report:?}");
            }
        }
        assert_eq!(all_files(&disk), before, "nothing was changed");
    }
}

#[test]
fn an_empty_journal_is_intact() {
    let (inspection, checked) = check(&MemoryDisk::default());
    assert!(inspection.is_intact() && checked.is_empty());
    assert_eq!(inspection.start.unwrap(), None);
}

#[test]
fn a_flipped_bit_of_any_byte_is_found() {
    let (disk, history) = maintained(3, 60, 1500);
    let newest = segments(&disk).pop().unwrap();
    let mut torn = 0;
    for (name, content) in all_files(&disk) {
        if name == "spare.segment" {
            continue;
        }
        for bit in one_bit_per_byte(&content) {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&name, &flipped);
            let (inspection, checked) = check(&disk);
            let context = format!("{name}, bit {bit}: {checked:?}");
            match &inspection.start {
                Ok(Some(start)) if start.torn.is_some() => {
                    assert_eq!(name, newest, "{context}");
                    torn += 1;
                }
                _ if is_stamp(&disk, &name, bit / 8, content.len()) => {}
                _ => assert!(!inspection.is_intact(), "{context}"),
            }
            // It agrees with a start.
            let recovered = read(&disk, history.first_sequence);
            assert_eq!(inspection.start.is_ok(), recovered.is_ok(), "{context}");
        }
        disk.set_content(&name, &content);
    }
    assert!(torn > 0);
}

/// Returns whether a byte belongs to the state hash at the end of a segment, which is optional.
fn is_stamp(disk: &MemoryDisk, name: &str, byte: usize, length: usize) -> bool {
    segments(disk).iter().any(|segment| segment == name) && byte >= length - 80
}

/// Returns the state to which lines lead that follow each other without gaps.
fn replay(lines: &[u8], dumped: Dumped) -> ModelState {
    let mut state = ModelState { awaited: dumped.first, ..ModelState::default() };
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let fields: Vec<&str> = line.split('|').collect();
        assert_eq!(fields[0].parse(), Ok(state.awaited), "{line}");
        state.awaited += 1;
        let pair = || (fields[2].parse().unwrap(), fields[3].parse().unwrap());
        match fields[1] {
            "F" => drop(state.follows.insert(pair())),
            "U" => drop(state.follows.remove(&pair())),
            "B" | "P" | "S" | "void" => {}
            _ => panic!("{line}"),
        }
    }
    assert_eq!(state.awaited, dumped.next);
    state
}

#[test]
fn a_dump_leads_to_the_state_of_the_journal() {
    let (mut with_follows, mut with_resets) = (0, 0);
    for (seed, retain) in (0..60).flat_map(|seed| [0, 3000, u64::MAX].map(|it| (seed, it))) {
        let (disk, history) = maintained(seed, (seed as usize + 1) * 3, retain);
        let mut lines = Vec::new();
        let dumped = dump(&disk, &mut lines).unwrap();
        assert_eq!(replay(&lines, dumped), *history.last(), "seed {seed}");
        with_follows += u64::from(dumped.follows > 0);
        with_resets += u64::from(dumped.resets > 0);
    }
    assert!(with_follows > 10 && with_resets > 10, "{with_follows} {with_resets}");
}

#[test]
fn a_dump_of_a_corrupt_journal_ends_before_the_damage() {
    let (disk, history) = maintained(7, 80, u64::MAX);
    let whole = {
        let mut lines = Vec::new();
        dump(&disk, &mut lines).unwrap();
        lines
    };
    let name = &segments(&disk)[3];
    let mut content = disk.content(name);
    content[200] ^= 1;
    disk.set_content(name, &content);
    disk.list()
        .unwrap()
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
        .for_each(|name| disk.clone().remove(name).unwrap());
    let mut lines = Vec::new();
    let Err(DumpError::Journal(Error::Corrupt(corruption))) = dump(&disk, &mut lines) else {
        panic!("the damage is not noticed");
    };
    assert_eq!(&corruption.file, name);
    assert!(lines.len() < whole.len());
    let last = lines.trim_ascii_end().rsplit(|&byte| byte == b'\n').next();
    let sequence: Option<u64> = last
        .and_then(|line| std::str::from_utf8(line).unwrap().split('|').next())
        .and_then(|digits| digits.parse().ok());
    assert!(sequence.is_none_or(|last| last + 1 == corruption.first), "{sequence:?}");
    assert!(history.last().awaited > 0);
}

/// Repairs a journal that a server refuses. Checks that nothing intact before the damage is lost, that
/// everything cut off is kept, and that the journal can be continued. Returns the plan.
fn repair(disk: &MemoryDisk, history: &History, context: &str) -> Option<Repair> {
    let before = all_files(disk);
    let planned = plan_repair(&mut disk.clone());
    assert_eq!(all_files(disk), before, "{context}: a plan changes nothing");
    let repair = match planned {
        Ok(repair) => repair.unwrap_or_else(|| panic!("{context}: nothing to repair")),
        Err(Error::Corrupt(_)) => return None,
        Err(error) => panic!("{context}: {error}"),
    };
    repair.apply(&mut disk.clone()).unwrap();
    let recovery = read(disk, history.first_sequence).unwrap_or_else(|error| {
        panic!("{context}: {error} after {repair:?}");
    });
    assert_eq!(recovery.torn, None, "{context}");
    assert_eq!(recovery.state.awaited, repair.awaited, "{context}");
    let state = state_of(&recovery);
    assert!(history.states.contains(&state), "{context}: {state:?}");
    for step in &repair.steps {
        match step {
            RepairStep::SetAside { file } => {
                assert_eq!(disk.content(&step.kept_in().unwrap()), before[file], "{context}");
            }
            RepairStep::Cut { file, offset, .. } => {
                let kept = disk.content(&step.kept_in().unwrap());
                assert_eq!(kept, before[file][*offset as usize..], "{context}");
                let content = disk.content(file);
                let cut = *offset as usize;
                assert_eq!(content[..cut], before[file][..cut], "{context}");
            }
            RepairStep::Continue { .. } => {}
        }
    }
    assert!(plan_repair(&mut disk.clone()).unwrap().is_none(), "{context}");
    let mut writer = writer_at(disk, recovery.position, CommitPoint::Synced);
    let entries = history.states.iter().rposition(|other| *other == state).unwrap();
    for entry in &history.entries[entries..] {
        writer.append(entry.clone());
        writer.flush().unwrap();
    }
    assert_eq!(state_of(&read(disk, history.first_sequence).unwrap()), *history.last());
    Some(repair)
}

#[test]
fn a_journal_with_a_flipped_bit_in_any_byte_is_repaired() {
    let (disk, history) = maintained(5, 60, 1500);
    let (mut repaired, mut hopeless) = (0, 0);
    for (name, content) in all_files(&disk) {
        for bit in one_bit_per_byte(&content) {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let disk = disk.copy();
            disk.set_content(&name, &flipped);
            if read(&disk, history.first_sequence).is_ok() {
                assert!(plan_repair(&mut disk.clone()).unwrap().is_none());
                continue;
            }
            match repair(&disk, &history, &format!("{name}, bit {bit}")) {
                Some(_) => repaired += 1,
                None => hopeless += 1,
            }
        }
    }
    println!("{repaired} repaired, {hopeless} cannot be");
    assert!(repaired > 300 && hopeless == 0);
}

#[test]
fn a_journal_without_any_of_its_files_is_repaired() {
    let (mut repaired, mut hopeless) = (0, 0);
    for (seed, retain) in (0..20).flat_map(|seed| [0, 3000, u64::MAX].map(|it| (seed, it))) {
        let (disk, history) = maintained(seed, 100, retain);
        let names: Vec<String> = all_files(&disk).into_keys().collect();
        let pairs = names.iter().flat_map(|first| names.iter().map(move |second| (first, second)));
        for (first, second) in pairs {
            let disk = disk.copy();
            for name in [first, second].iter().take(1 + usize::from(first != second)) {
                disk.clone().remove(name).unwrap();
            }
            if read(&disk, history.first_sequence).is_ok() {
                continue;
            }
            match repair(&disk, &history, &format!("seed {seed} without {first} and {second}")) {
                Some(_) => repaired += 1,
                None => hopeless += 1,
            }
        }
    }
    println!("{repaired} repaired, {hopeless} cannot be");
    assert!(repaired > 1000 && hopeless > 0);
}

#[test]
fn a_repair_says_what_is_lost() {
    let (disk, history) = maintained(9, 60, u64::MAX);
    for name in disk.list().unwrap() {
        if name.ends_with(".snapshot") {
            disk.clone().remove(&name).unwrap();
        }
    }
    let name = &segments(&disk)[2];
    let mut content = disk.content(name);
    content[300] ^= 1;
    disk.set_content(name, &content);
    let repair = repair(&disk, &history, "one flipped bit").unwrap();
    assert!(repair.lost_lines > 0);
    assert_eq!(repair.found.len(), 1);
    let awaited = history.states.iter().map(|state| state.awaited);
    assert_eq!(repair.lost_before, awaited.max());
}

#[test]
fn an_interrupted_repair_can_be_repeated() {
    let (disk, history) = maintained(5, 60, u64::MAX);
    for name in disk.list().unwrap() {
        if name.ends_with(".snapshot") {
            disk.clone().remove(&name).unwrap();
        }
    }
    let name = &segments(&disk)[3];
    let mut content = disk.content(name);
    content[250] ^= 1;
    disk.set_content(name, &content);
    let expected = {
        let disk = disk.copy();
        repair(&disk, &history, "without a fault").unwrap().awaited
    };
    for after in 0..200 {
        let disk = disk.copy();
        disk.fail(after, Fault::Error);
        let first = plan_repair(&mut disk.clone());
        let failed = match first {
            Ok(Some(repair)) => repair.apply(&mut disk.clone()).is_err(),
            Ok(None) => panic!("nothing to repair"),
            Err(Error::Io { .. }) => true,
            Err(error) => panic!("{error}"),
        };
        disk.end_faults();
        if !failed {
            assert!(after > 10);
            return;
        }
        if let Some(repair) = plan_repair(&mut disk.clone()).unwrap() {
            repair.apply(&mut disk.clone()).unwrap();
        }
        let recovery = read(&disk, history.first_sequence).unwrap();
        assert_eq!(recovery.state.awaited, expected, "fault {after}");
    }
    panic!("every repair fails");
}

#[test]
fn a_torn_tail_as_long_as_a_header_is_cut_off() {
    let (disk, history) = maintained(11, 30, u64::MAX);
    let recovery = read(&disk, history.first_sequence).unwrap();
    let name = segments(&disk).pop().unwrap();
    for torn in 1..200 {
        let disk = disk.copy();
        let end = recovery.position.previous.unwrap().offset as usize;
        let mut content = disk.content(&name);
        content.truncate(end);
        content.extend_from_slice(&vec![b'x'; torn]);
        disk.set_content(&name, &content);
        let torn_tail = read(&disk, history.first_sequence).unwrap().torn.unwrap();
        assert_eq!((torn_tail.offset, torn_tail.bytes), (end as u64, torn as u64));
    }
}
