//! No argument, variable or output makes `loadgen` panic. Invalid values are named together with
//! the valid range, and the exit status is 2.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use super::{loadgen, outcome};

const COMMANDS: [&str; 9] =
    ["verify", "latency", "replay", "idle", "limit", "pinned", "pubsub", "fairness", "soak"];

/// Flags whose values are not single numbers.
const NOT_NUMERIC: [&str; 11] = [
    "--log-level",
    "--json",
    "--report",
    "--host",
    "--server-arg",
    "--mix",
    "--dialect",
    "--hgrm",
    "--users",
    "--file",
    "--data-dir",
];

/// Values that no numeric flag accepts.
const INVALID_VALUES: [&str; 5] =
    ["-9223372036854775809", "18446744073709551616", "nan", "inf", "many"];

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).env_clear().output().unwrap()
}

/// Returns the flags of `command` that take a value, with their descriptions as one line.
fn flags_with_value(command: &str) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut last = None;
    for line in outcome(&run(&[command, "--help"])).1.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [flag, value, ..] if line.starts_with("  --") && value == value.to_uppercase() => {
                flags.insert(flag.to_owned(), words[2..].join(" "));
                last = Some(flag.to_owned());
            }
            _ if line.starts_with("      ") => {
                if let Some(about) = last.as_ref().and_then(|flag| flags.get_mut(flag)) {
                    about.push(' ');
                    about.push_str(line.trim());
                }
            }
            _ => last = None,
        }
    }
    flags
}

/// Returns the range of "from A to B" in a message.
fn range_in(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let index = words.windows(4).position(|words| words[0] == "from" && words[2] == "to")?;
    Some(format!("{} to {}", words[index + 1], words[index + 3].trim_end_matches(',')))
}

#[test]
fn every_number_has_a_range_that_errors_and_help_tell() {
    for command in COMMANDS {
        let mut tried = 0;
        for (flag, about) in flags_with_value(command) {
            if NOT_NUMERIC.contains(&flag.as_str()) {
                continue;
            }
            for value in INVALID_VALUES {
                let output = run(&[command, &flag, value]);
                let text = outcome(&output).1;
                assert_eq!(output.status.code(), Some(2), "{command} {flag} {value}");
                assert!(text.contains(&flag), "{command} {flag} {value}: {text}");
                let range = range_in(&text);
                let range = range.unwrap_or_else(|| panic!("{command} {flag}: no range: {text}"));
                assert!(about.contains(&range), "{command} {flag}: `{range}` is not in `{about}`");
            }
            tried += 1;
        }
        assert!(tried >= 3, "{command}: only {tried} numbers");
    }
}

#[test]
fn numbers_just_outside_are_refused() {
    for arguments in [
        "verify --concurrency-level 0",
        "verify --concurrency-level 8589934592",
        "verify --timeout 0",
        "verify --timeout 18446744073709551615",
        "verify --total-events 0",
        "verify --cpu 1024",
        "verify --event-port 0",
        "verify --server-pid 0",
        "latency --clients 0",
        "latency --clients 18446744073709551615",
        "latency --clients 8589934592",
        "latency --rate 0",
        "latency --rate 1e-300",
        "latency --rate 1e8",
        "latency --rate 20M",
        "latency --duration 2d",
        "verify --timeout 1us",
        "verify --event-port localhost:0",
        "latency --duration 86401",
        "latency --runs 0",
        "idle --clients 8589934592",
        "fairness --clients 18446744073709551615",
        "fairness --interval-ms 0",
        "replay x --rate 1e-300",
        "replay x --speed 1e-300",
        "replay x --first-sequence 18446744073709551615",
        "pinned --runs 18446744073709551615",
        "pubsub --dialect redis --port 0",
        "soak --sources 0",
        "soak --sources 18446744073709551615",
        "soak --clients 18446744073709551615",
        "soak --burst 18446744073709551615",
        "soak --visits 1001",
        "soak --every 0",
        "soak --random-seed -1",
    ] {
        let output = loadgen(arguments).output().unwrap();
        let text = outcome(&output).1;
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(range_in(&text).is_some(), "{arguments}: {text}");
    }
}

#[test]
fn more_clients_than_descriptors_are_an_error_before_anything_is_prepared() {
    for arguments in [
        "verify --spawn --concurrency-level 1048576",
        "latency --spawn --clients 1048576",
        "idle --spawn --clients 1048576",
        "fairness --spawn --clients 1048576",
    ] {
        let output = loadgen(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(outcome(&output).1.contains("descriptors"), "{arguments}");
    }
}

#[test]
fn any_number_of_users_may_exist() {
    let (right, text) = super::run(
        "verify --spawn --total-events 5000 --concurrency-level 3 --number-of-users 1073741824",
    );
    assert!(right, "{text}");
}

#[test]
fn variables_have_the_same_ranges() {
    for (name, value) in [
        ("timeout", OsStr::new("99999999999999999999")),
        ("timeout", OsStr::new("0")),
        ("concurrencyLevel", OsStr::new("8589934592")),
        ("randomSeed", OsStr::new("18446744073709551616")),
        ("eventListenerPort", OsStr::new("65536")),
        ("totalEvents", OsStr::from_bytes(b"7\xff")),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.env_clear().env(name, value).output().unwrap();
        let text = outcome(&output).1;
        assert_eq!(output.status.code(), Some(2), "{name}={value:?}");
        assert!(text.contains(name) && range_in(&text).is_some(), "{text}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8() {
    for arguments in [&[b"\xff".as_slice()][..], &[b"verify", b"--mix", b"a\xffb"]] {
        let arguments = arguments.iter().map(|argument| OsStr::from_bytes(argument));
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(outcome(&output).1.contains("is not UTF-8"));
    }
}

#[test]
fn closed_and_full_outputs() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let broken = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (arguments, status) in [
        ("verify --frobnicate", 2),
        ("frobnicate", 2),
        ("verify --event-port 1 --total-events 10", 1),
        ("verify --help", 0),
        ("verify --spawn --total-events 1000", 0),
    ] {
        let outputs: [&dyn Fn() -> Stdio; 2] = [&full, &broken];
        for output in outputs {
            let mut command = loadgen(arguments);
            let ended = command.stdout(output()).stderr(output()).status().unwrap();
            assert_eq!(ended.code(), Some(status), "{arguments}");
        }
    }
}
