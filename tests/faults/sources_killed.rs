//! Sources that are killed in the middle of a line, repeatedly.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::RESET;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server, Source};
use crate::verification::passes_verification;
use crate::workload::{CHECKED_CLIENTS, Workload};

/// Lifetime of a source.
const LIFE: Duration = Duration::from_millis(10);
/// Approximate number of bytes that it sends in that time, and of pieces.
const LIFE_BYTES: usize = 6000;
const PIECES: usize = 5;

/// Number of events that are shuffled together.
const BATCH: u64 = 100;

/// Returns the bytes that a source sends before it is killed in the middle of a line, or all that
/// are left.
fn cut_in_mid_line(lines: &[u8]) -> &[u8] {
    let cut = LIFE_BYTES.min(lines.len());
    let is_at_an_end = lines[cut - 1] == b'\n' && cut < lines.len();
    &lines[..cut + usize::from(is_at_an_end)]
}

/// Calls `send` with one piece after the other during the lifetime of a source.
fn live(bytes: &[u8], mut send: impl FnMut(&[u8])) {
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES)) {
        send(piece);
        thread::sleep(LIFE / PIECES as u32);
    }
}

/// Runs `kills` while all checked clients read what they must receive.
fn while_clients_read(server: &Server, workload: &mut Workload, kills: impl FnOnce()) {
    let expected = workload.take_expected();
    thread::scope(|scope| {
        for (user, expected) in Workload::checked_users().zip(&expected) {
            let mut client = Client::connect(server, user);
            scope.spawn(move || client.receives_bytes(expected));
        }
        kills();
    });
    server.wait_for_stat("clients_connected", 0);
}

#[test]
fn sources_that_end_in_mid_line_every_ten_milliseconds() {
    let batches = scaled(400, 2000) as u64;
    let server = Server::start(&["--on-source-disconnect", "keep"]);
    let mut workload = Workload::starting_with(1);
    let lines: Vec<u8> = (0..batches).flat_map(|_| workload.write(BATCH)).collect();
    let mut ends = 0;
    while_clients_read(&server, &mut workload, || {
        let mut left = &lines[..];
        while !left.is_empty() {
            let sent = cut_in_mid_line(left);
            let mut source = Source::connect(&server);
            live(sent, |piece| source.sends(piece));
            // The next source repeats the line that this one cut.
            let whole = sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            ends += u64::from(whole < sent.len());
            left = &left[whole..];
        }
    });
    server.assert_stat_reaches("events", batches * BATCH);
    server.assert_stat_reaches("unterminated", ends);
    for name in ["late", "duplicate", "malformed", "lost"] {
        assert_eq!(server.stat(name), 0, "{name}");
    }
    // A server that keeps its sequence cannot restart: the same workload continues instead.
    let mut stream = Stream::connect_with(&server, workload);
    (0..100).for_each(|_| stream.round());
    stream.ends(&server);
    report(format_args!(
        "{ends} sources, {} events to {CHECKED_CLIENTS} clients, none lost, none twice",
        batches * BATCH
    ));
}

/// A source that is a separate process: `cat` with the connection as its standard output.
struct SourceProcess(Child);

impl SourceProcess {
    fn start(server: &Server) -> SourceProcess {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Source::connect(server));
        SourceProcess(cat.spawn().unwrap())
    }

    fn sends(&mut self, bytes: &[u8]) {
        self.0.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }
}

/// Kills the process with SIGKILL, whatever it is doing.
impl Drop for SourceProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn source_processes_killed_in_mid_line_every_ten_milliseconds() {
    let batches = scaled(200, 2000);
    let server = Server::start(&RESET);
    let mut workload = Workload::starting_with(1);
    let lines: Vec<Vec<u8>> = (0..batches).map(|_| workload.write(BATCH)).collect();
    // While this source is connected, the server does not reset.
    let mut steady = Source::connect(&server);
    let mut kills = 0;
    while_clients_read(&server, &mut workload, || {
        steady.sends(&lines[0]);
        let mut applied = 0;
        while applied < batches {
            let left = lines[applied..].concat();
            let mut source = SourceProcess::start(&server);
            live(cut_in_mid_line(&left), |piece| source.sends(piece));
            drop(source);
            kills += 1;
            server.wait_for_stat("sources_connected", 1);
            // How much a killed process has sent is unknown. The next one starts where the server
            // is.
            applied = (server.stat("awaited") as usize - 1) / BATCH as usize;
        }
    });
    server.assert_stat_reaches("events", batches as u64 * BATCH);
    let (cut, again) = (server.stat("unterminated"), server.stat("late"));
    assert!(cut > 0);
    assert_eq!((server.stat("malformed"), server.stat("lost")), (0, 0));
    drop(steady);
    server.wait_for_stat("sources_connected", 0);
    report(format_args!(
        "{kills} processes, {cut} lines cut, {again} sent again; {} events to \
         {CHECKED_CLIENTS} clients, none lost, none twice",
        batches as u64 * BATCH
    ));
    passes_verification(&server);
}
