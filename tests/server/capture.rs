//! The capture of accepted lines: its content, and that it never hurts the server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Client, Log, Server, Source, command, messages, run_to_exit};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn start_capturing(file: &Path) -> (Server, Source) {
    let server = Server::start(&["--capture", file.to_str().unwrap(), "--max-line-bytes", "64"]);
    let source = Source::connect(&server);
    (server, source)
}

#[test]
fn every_accepted_line_is_captured_in_the_order_of_arrival_and_no_other() {
    // A malformed line with a sequence is captured: without it a replay would stall.
    let folder = folder();
    let file = folder.path().join("stream.events");
    let (mut server, mut source) = start_capturing(&file);
    let mut client = Client::connect(&server, 1);
    source.sends("3|B\n1|P|2|1\r\n3|B\nnonsense\n2|X\n1|B\n4|S|0001\n");
    client.receives(&["1|P|2|1", "3|B"]);
    server.stop_with((source, client));
    assert_eq!(fs::read_to_string(&file).unwrap(), "3|B\n1|P|2|1\n2|X\n4|S|0001\n");
    let times = fs::read_to_string(folder.path().join("stream.events.times")).unwrap();
    let last: Vec<&str> = times.lines().last().unwrap().split(' ').collect();
    let [micros, bytes] = last[..] else { panic!("times are {times:?}") };
    assert!(micros.parse::<u64>().is_ok(), "times are {times:?}");
    assert_eq!(bytes, "25", "the bytes captured until the last time");
}

#[test]
fn a_full_disk_ends_the_capture_with_one_error_and_not_the_server() {
    let folder = folder();
    let file = folder.path().join("stream.events");
    symlink("/dev/full", &file).unwrap();
    let (mut server, mut source) = start_capturing(&file);
    let mut client = Client::connect(&server, 1);
    for sequence in 1..=50 {
        source.sends_lines(&[&format!("{sequence}|B")]);
        client.receives(&[&format!("{sequence}|B")]);
    }
    server.logs(&["capture to", "stopped", "No space left on device"]);
    assert_eq!(server.stop_with((source, client)), Some(0));
    let errors = server.log_lines().into_iter().filter(|line| line.contains("capture to")).count();
    assert_eq!(errors, 1);
}

#[test]
fn a_capture_is_never_overwritten() {
    let folder = folder();
    let file = folder.path().join("stream.events");
    fs::write(&file, "1|B\n").unwrap();
    let flags =
        ["--capture", file.to_str().unwrap(), "--event-listen", "0", "--client-listen", "0"];
    let (status, log) = run_to_exit(command(&flags));
    assert_eq!(status, Some(1));
    assert!(log.contains("stream.events: the file is not empty"), "the log is {log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "1|B\n");
}

/// Creates a named pipe in this folder.
fn named_pipe(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("stream.pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Sends these lines and waits until the last one is applied.
#[track_caller]
fn is_applied(server: &Server, source: &mut Source, lines: &[u8]) {
    let before = server.stat("events");
    source.sends(lines);
    server.assert_stat_reaches(
        "events",
        before + lines.iter().filter(|&&byte| byte == b'\n').count() as u64,
    );
}

#[test]
fn a_named_pipe_without_a_reader_holds_nothing_up_and_is_captured_to_once_it_has_one() {
    let folder = folder();
    let pipe = named_pipe(&folder);
    let (mut server, mut source) = start_capturing(&pipe);
    server.logs(&["WARN", "capture to", "stream.pipe waits for a reader"]);
    is_applied(&server, &mut source, b"1|B\n2|B\n");
    let captured = Log::of(fs::File::open(&pipe).unwrap());
    captured.wait_for("both lines", |lines| (lines == ["1|B", "2|B"]).then_some(()));
    is_applied(&server, &mut source, b"3|B\n");
    assert_eq!(server.stop(), Some(0));
    assert_eq!(captured.whole(), "1|B\n2|B\n3|B");
}

#[test]
fn a_named_pipe_without_a_reader_does_not_outlast_the_drain_timeout() {
    let folder = folder();
    let pipe = named_pipe(&folder);
    let flags = ["--capture", pipe.to_str().unwrap(), "--drain-timeout-ms", "50"];
    let mut server = Server::start(&flags);
    is_applied(&server, &mut Source::connect(&server), b"1|B\n2|B\n");
    assert_eq!(server.stop(), Some(0));
    server.logs(&["ERROR", "capture to", "8 bytes were not written"]);
}

#[test]
fn a_reader_that_stands_still_does_not_outlast_the_drain_timeout() {
    let folder = folder();
    let pipe = named_pipe(&folder);
    let flags = ["--capture", pipe.to_str().unwrap(), "--drain-timeout-ms", "50"];
    let mut server = Server::start(&flags);
    let _reader = fs::File::open(&pipe).unwrap();
    let lines = messages(1..10_001, 7);
    is_applied(&server, &mut Source::connect(&server), &lines);
    assert_eq!(server.stop(), Some(0));
    let error = server.logs(&["ERROR", "capture to", " bytes were not written"]);
    let number = error.split_once(" ms: ").unwrap().1.split(' ').next().unwrap();
    let number: usize = number.parse().unwrap();
    // The pipe's buffer holds some of them.
    assert!((lines.len() - (128 << 10)..lines.len()).contains(&number), "{error}");
}

#[test]
fn a_second_signal_ends_a_server_that_waits_for_its_capture() {
    let folder = folder();
    let pipe = named_pipe(&folder);
    let flags = ["--capture", pipe.to_str().unwrap(), "--drain-timeout-ms", "3600000"];
    for is_read in [false, true] {
        let mut server = Server::start(&flags);
        let _reader = is_read.then(|| fs::File::open(&pipe).unwrap());
        is_applied(&server, &mut Source::connect(&server), &messages(1..10_001, 7));
        server.signal(Signal::TERM);
        server.logs(&["totals: "]);
        assert_eq!(server.signal_until_exit(Signal::TERM), Some(1), "is read: {is_read}");
        let _ = fs::remove_file(folder.path().join("stream.pipe.times"));
    }
}

#[test]
fn a_reader_that_leaves_ends_the_capture_alone() {
    let folder = folder();
    let pipe = named_pipe(&folder);
    let (mut server, mut source) = start_capturing(&pipe);
    drop(fs::File::open(&pipe).unwrap());
    is_applied(&server, &mut source, b"1|B\n2|B\n");
    server.logs(&["ERROR", "capture to", "stopped", "Broken pipe"]);
    is_applied(&server, &mut source, b"3|B\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn what_waits_for_a_capture_is_bounded() {
    const MAX_RESIDENT_BYTES: u64 = (32 + 24) << 20;
    let folder = folder();
    let pipe = named_pipe(&folder);
    let mut server = Server::start(&["--capture", pipe.to_str().unwrap()]);
    let _reader = fs::File::open(&pipe).unwrap();
    let mut source = Source::connect(&server);
    for first in (1..2_000_000).step_by(100_000) {
        is_applied(&server, &mut source, &messages(first..first + 100_000, 7));
        let peak = server.process().peak_resident_bytes();
        assert!(peak < MAX_RESIDENT_BYTES, "{peak} bytes were resident");
    }
    server.logs(&["ERROR", "capture to", "stopped", "too slow"]);
    server.signal(Signal::TERM);
    assert_eq!(server.signal_until_exit(Signal::TERM), Some(1));
}
