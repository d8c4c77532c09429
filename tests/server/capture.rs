//! The capture of accepted lines: what it holds, and that nothing about it hurts the server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Client, Server, Source, command, run_to_the_end};

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
    // A malformed line that ends a sequence's turn is one: without it a replay would stall.
    let folder = folder();
    let file = folder.path().join("stream.events");
    let (mut server, mut source) = start_capturing(&file);
    let mut client = Client::connect(&server, 1);
    source.sends("3|B\n1|P|2|1\r\n3|B\nnonsense\n2|X\n1|B\n4|S|0001\n");
    client.receives(&["1|P|2|1", "3|B"]);
    server.stop();
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
    server.logs(&["the capture", "ends", "No space left on device"]);
    assert_eq!(server.stop(), Some(0));
    let errors = server.log_lines().into_iter().filter(|line| line.contains("the capture")).count();
    assert_eq!(errors, 1);
}

#[test]
fn a_capture_is_never_overwritten() {
    let folder = folder();
    let file = folder.path().join("stream.events");
    fs::write(&file, "1|B\n").unwrap();
    let flags =
        ["--capture", file.to_str().unwrap(), "--event-listen", "0", "--client-listen", "0"];
    let (status, log) = run_to_the_end(command(&flags));
    assert_eq!(status, Some(1));
    assert!(log.contains("stream.events holds something already"), "the log is {log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "1|B\n");
}
