//! A wall clock that jumps back and forth by hours. Timeouts do not depend on it: none expires
//! early or late. (`clippy.toml` bans the wall clock from the source.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::RESET;
use crate::scale::report;
use crate::stream::Stream;
use crate::support::{Client, Server, Source, messages};
use crate::verification::passes_verification;

/// Value of all the server's timeouts.
const TIMEOUT: Duration = Duration::from_millis(300);

/// More than a turn takes.
const TURN: Duration = Duration::from_millis(20);

const USER: u64 = 7;

/// Builds the clock as a library with the compiler that Rust links with; `None` where that is
/// another one.
fn jumping_clock(folder: &Path) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/jumping_clock.c");
    let library = folder.join("jumping_clock.so");
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    made.is_ok_and(|status| status.success()).then_some(library)
}

/// Asserts that `wait` takes at least a timeout, but for the length of a turn, from whose beginning the server
/// counts. A jump ahead would end it at once; a jump back would exceed the deadline of the tests.
#[track_caller]
fn takes_a_timeout<T>(wait: impl FnOnce() -> T) {
    let start = Instant::now();
    wait();
    assert!(start.elapsed() + TURN >= TIMEOUT, "after {:?}", start.elapsed());
}

/// Sends messages to a client that does not read.
fn flood(server: &Server, messages_sent: u64) -> Client {
    let client = Client::connect_slow(server, USER);
    let mut source = Source::connect(server);
    source.sends(messages(1..messages_sent + 1, USER));
    client
}

#[test]
fn a_clock_that_jumps() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = jumping_clock(folder.path()) else {
        println!("skipped: no C compiler named `cc`");
        return;
    };
    let millis = TIMEOUT.as_millis().to_string();
    let timeouts =
        ["--identify-timeout-ms", "--gap-timeout-ms", "--stall-timeout-ms", "--drain-timeout-ms"];
    let timeouts: Vec<&str> = timeouts.into_iter().flat_map(|flag| [flag, &millis]).collect();
    let mut wrapper = Command::new("env");
    wrapper.arg(format!("LD_PRELOAD={}", library.display()));
    let queue = ["--client-queue-bytes", "8388608"];
    let mut server = Server::start_under(wrapper, &[&RESET[..], &queue, &timeouts].concat());

    let mut stream = Stream::connect(&server);
    stream.run_during(|| takes_a_timeout(|| Client::connect_unidentified(&server).is_closed()));
    let figures = stream.ends(&server);

    let mut client = Client::connect(&server, USER);
    let mut source = Source::connect(&server);
    takes_a_timeout(|| {
        source.sends_lines(&["2|B"]);
        client.receives(&["2|B"]);
    });
    drop((source, client));
    server.wait_for_stat("sources_connected", 0);

    let mut stalled = None;
    takes_a_timeout(|| {
        stalled = Some(flood(&server, 300_000));
        server.assert_stat_reaches("clients_closed.stalled", 1);
    });
    drop(stalled);
    server.wait_for_stat("sources_connected", 0);
    passes_verification(&server);

    // Less than a full queue, and more than the kernel buffers.
    let _undrained = flood(&server, 100_000);
    server.wait_until("much is queued", || (server.stat("queued_bytes") > 1 << 20).then_some(()));
    takes_a_timeout(|| assert_eq!(server.stop(), Some(0)));
    assert!(server.final_totals().contains("clients_closed.drain_timeout=1"));
    let times: Vec<String> = server.log_lines().iter().map(|line| line[..19].to_owned()).collect();
    let jumps = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(jumps > 0, "the clock did not jump: {times:?}");
    report(format_args!(
        "{jumps} jumps back by two hours in the log, 4 timeouts in time; {figures}"
    ));
}
