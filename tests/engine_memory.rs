//! Resident memory of the follower graph, of the reorder buffer, and of clients that receive nothing.
//!
//! Resident memory is a property of a process, and memory that was freed earlier hides what is
//! allocated now. So each test runs itself again in a separate process, and measures there; the
//! figures include the allocator, growth and rounding. An unoptimised build measures smaller sizes.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

#[path = "support/prng.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod prng;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod process;

use std::cell::{Cell, RefCell};
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use eventserver::config::Config;
use eventserver::engine::{FollowerGraph, Head, InsertOutcome, ReorderBuffer};
use eventserver::hub::{Acceptor, Capacity, Hub, NextTurn, Stream};
use eventserver::protocol::{Event, Line, Sequence, UserId};

use prng::Prng;
use process::Process;

/// Environment variable that is set in the measuring process.
const MEASURE_VARIABLE: &str = "EVENTSERVER_TEST_MEASURES_MEMORY";

const USERS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const FOLLOWS: u64 = 10 * USERS;
const WINDOW: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// The first sequence of a window: all of a window have seven digits.
const FIRST: u64 = 1_000_000;

/// The sequence after it, which has to wait.
const SECOND: u64 = FIRST + 1;

/// Limit per follow, its share of the users included.
const MAX_BYTES_PER_FOLLOW: u64 = 24;

/// Limit per waiting event in a full window, the window's share included.
const MAX_BYTES_PER_WAITING_EVENT: u64 = 96;

/// Limit per follow between two users that have no other follow.
const MAX_BYTES_PER_LONE_FOLLOW: u64 = 180;

/// Limit per waiting event with a line of 64 bytes, in a full ring.
const MAX_BYTES_PER_WAITING_LONG_LINE: u64 = 120;

/// Limit of what the allocator may keep after everything was freed.
const MAX_KEPT_BYTES: u64 = 1 << 20;

#[test]
fn a_follow_between_random_users_takes_24_bytes_at_most() {
    in_own_process("a_follow_between_random_users_takes_24_bytes_at_most", || {
        let mut graph = FollowerGraph::new();
        let taken = resident_growth(|| follow_at_random(&mut graph, FOLLOWS));
        assert_bytes_each(taken, FOLLOWS, MAX_BYTES_PER_FOLLOW, "follow");
        assert!(graph.users() as u64 > USERS * 99 / 100);
    });
}

#[test]
fn a_follow_takes_no_more_where_everybody_follows_a_celebrity() {
    in_own_process("a_follow_takes_no_more_where_everybody_follows_a_celebrity", || {
        let mut graph = FollowerGraph::new();
        let taken = resident_growth(|| {
            (1..USERS).for_each(|user| graph.follow(UserId(user), UserId(0)));
            follow_at_random(&mut graph, FOLLOWS - USERS);
        });
        assert_bytes_each(taken, FOLLOWS, MAX_BYTES_PER_FOLLOW, "follow");
        assert_eq!(graph.users() as u64, USERS);
    });
}

/// Address space is reserved for all sequences up to the event, and memory used for the event alone.
#[test]
fn an_event_at_the_end_of_a_large_window_takes_hardly_any_memory() {
    in_own_process("an_event_at_the_end_of_a_large_window_takes_hardly_any_memory", || {
        const LARGE_WINDOW: u32 = 1 << 25;
        let first = Sequence::new(FIRST).unwrap();
        let mut buffer = ReorderBuffer::new(first, LARGE_WINDOW);
        let taken = resident_growth(|| {
            for ahead in [1, 1 << 16, 1 << 24, (1 << 25) - 1] {
                let line = format!("{}|B", FIRST + ahead);
                let event = Event::parse(line.as_bytes()).unwrap();
                assert_eq!(
                    buffer.insert(&event, Line::Slice(line.as_bytes())),
                    InsertOutcome::Buffered
                );
                assert_eq!(buffer.gap(), Some(FIRST..FIRST + 1));
            }
        });
        // Four pages, huge ones at worst, and the bits of free slots: the ring has 1.3 GiB.
        const MIB: u64 = 1 << 20;
        assert!(taken <= 4 * 2 * MIB + 8 * MIB, "{taken} bytes");
        assert_eq!(buffer.len(), 4);
        assert_eq!(buffer.reset(first), 4);
    });
}

/// The largest share of users per follow, with IDs that are not small.
#[test]
fn a_follow_between_users_named_once_takes_180_bytes_at_most() {
    in_own_process("a_follow_between_users_named_once_takes_180_bytes_at_most", || {
        let mut graph = FollowerGraph::new();
        let taken = resident_growth(|| follow_in_pairs(&mut graph, sparse));
        assert_bytes_each(taken, USERS / 2, MAX_BYTES_PER_LONE_FOLLOW, "lone follow");
        assert_eq!(graph.users() as u64, USERS);
    });
}

#[test]
fn a_graph_of_small_ids_that_is_emptied_is_given_back() {
    in_own_process("a_graph_of_small_ids_that_is_emptied_is_given_back", || {
        follow_and_unfollow(dense, |_| MAX_KEPT_BYTES);
    });
}

/// The ID tables are freed in pieces, of which an allocator may return only those at the end of its
/// heap.
#[test]
fn a_graph_of_any_ids_that_is_emptied_is_given_back_but_for_a_quarter() {
    in_own_process("a_graph_of_any_ids_that_is_emptied_is_given_back_but_for_a_quarter", || {
        follow_and_unfollow(sparse, |taken| taken / 4);
    });
}

/// Keeps follows that are far apart, so that no end of any table becomes vacant.
#[test]
fn a_graph_of_which_little_stays_is_given_back_but_for_that() {
    in_own_process("a_graph_of_which_little_stays_is_given_back_but_for_that", || {
        let mut graph = FollowerGraph::new();
        let before = resident_bytes();
        follow_in_pairs(&mut graph, dense);
        let taken = resident_bytes().saturating_sub(before);
        let every = USERS / 16;
        for pair in (0..USERS / 2).filter(|pair| pair % (every / 2) != every / 4) {
            graph.unfollow(UserId(dense(2 * pair)), UserId(dense(2 * pair + 1)));
        }
        assert_eq!(graph.users(), 32);
        let kept = resident_bytes().saturating_sub(before);
        println!("{} KiB are left of {}", kept >> 10, taken >> 10);
        assert!(kept <= taken / 8, "{kept} bytes are left of {taken}");
    });
}

#[test]
fn a_window_of_long_lines_takes_120_bytes_an_event_and_gives_them_back() {
    in_own_process("a_window_of_long_lines_takes_120_bytes_an_event_and_gives_them_back", || {
        let window = WINDOW.next_power_of_two();
        let mut arriving: Vec<u64> = (SECOND..FIRST + window).collect();
        Prng::new(8).shuffle(&mut arriving);
        let line = |number| format!("{number:0>20}|P|{number:0>20}|{:0>20}", 654_321);
        fill_and_drain_lines(&arriving, line, MAX_BYTES_PER_WAITING_LONG_LINE);
    });
}

#[test]
fn a_window_filled_in_reverse_takes_96_bytes_an_event_and_gives_them_back() {
    in_own_process(
        "a_window_filled_in_reverse_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&(SECOND..FIRST + WINDOW).rev().collect::<Vec<_>>()),
    );
}

#[test]
fn a_window_filled_at_random_takes_96_bytes_an_event_and_gives_them_back() {
    in_own_process("a_window_filled_at_random_takes_96_bytes_an_event_and_gives_them_back", || {
        let mut arriving: Vec<u64> = (SECOND..FIRST + WINDOW).collect();
        Prng::new(8).shuffle(&mut arriving);
        fill_and_drain(&arriving);
    });
}

#[test]
fn a_window_filled_in_strides_takes_96_bytes_an_event_and_gives_them_back() {
    in_own_process(
        "a_window_filled_in_strides_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&in_strides(WINDOW)),
    );
}

/// A window one larger than a power of two leaves the largest possible part of a ring empty.
#[test]
fn a_window_of_the_worst_size_takes_96_bytes_an_event_and_gives_them_back() {
    in_own_process(
        "a_window_of_the_worst_size_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&in_strides(WINDOW.next_power_of_two() + 1)),
    );
}

/// The limit per client that receives nothing: what the table, the batch, the graph and their indexes keep for it.
const MAX_BYTES_PER_IDLE_CLIENT: u64 = 190;

#[test]
fn an_idle_client_takes_190_bytes_at_most() {
    in_own_process("an_idle_client_takes_190_bytes_at_most", || {
        const CLIENTS: u32 = 19_000;
        SENT.with_borrow_mut(|sent| sent.resize(CLIENTS as usize, false));
        let clients = Arrivals { left: Cell::new(CLIENTS) };
        let (start, config) = (Instant::now(), Config::default());
        let capacity = Capacity::for_clients(CLIENTS as usize);
        let sources = Arrivals { left: Cell::new(0) };
        let mut hub = Hub::new(config, capacity, sources, clients, start);
        let taken = resident_growth(|| {
            while hub.next_turn() == NextTurn::Now {
                hub.turn(start, &[], |_| false);
            }
        });
        assert_eq!(hub.totals().clients_connected(), CLIENTS as usize);
        assert_bytes_each(taken, u64::from(CLIENTS), MAX_BYTES_PER_IDLE_CLIENT, "idle client");
    });
}

thread_local! {
    /// Whether each client has sent its ID line.
    static SENT: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
}

/// A listener on which so many connections wait.
struct Arrivals {
    left: Cell<u32>,
}

/// A connection that takes as much memory as a descriptor. It sends its number as its ID line, and nothing else.
struct IdleStream(u32);

impl Acceptor for Arrivals {
    type Stream = IdleStream;

    fn accept(&mut self, _: usize) -> io::Result<(IdleStream, SocketAddr)> {
        let number = self.left.get().checked_sub(1).ok_or(ErrorKind::WouldBlock)?;
        self.left.set(number);
        Ok((IdleStream(number), SocketAddr::from(([127, 0, 0, 1], 9))))
    }
}

impl Read for IdleStream {
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        let has_sent = |sent: &mut Vec<bool>| std::mem::replace(&mut sent[self.0 as usize], true);
        if SENT.with_borrow_mut(has_sent) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = buffer.len();
        writeln!(buffer, "{}", self.0)?;
        Ok(before - buffer.len())
    }
}

impl Write for IdleStream {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("an idle client receives nothing")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for IdleStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn follow_at_random(graph: &mut FollowerGraph, follows: u64) {
    let mut random = Prng::new(9);
    for _ in 0..follows {
        graph.follow(UserId(random.below(USERS)), UserId(random.below(USERS)));
    }
}

/// Makes every user follow or be followed exactly once.
fn follow_in_pairs(graph: &mut FollowerGraph, id: fn(u64) -> u64) {
    for pair in 0..USERS / 2 {
        graph.follow(UserId(id(2 * pair)), UserId(id(2 * pair + 1)));
    }
}

fn follow_and_unfollow(id: fn(u64) -> u64, may_stay: fn(u64) -> u64) {
    let mut graph = FollowerGraph::new();
    let before = resident_bytes();
    follow_in_pairs(&mut graph, id);
    let taken = resident_bytes().saturating_sub(before);
    for pair in 0..USERS / 2 {
        graph.unfollow(UserId(id(2 * pair)), UserId(id(2 * pair + 1)));
    }
    assert_eq!(graph.users(), 0);
    let kept = resident_bytes().saturating_sub(before);
    println!("{} KiB are left of {}", kept >> 10, taken >> 10);
    assert!(kept <= may_stay(taken), "{kept} bytes are left of {taken}");
}

fn dense(number: u64) -> u64 {
    number
}

/// Returns a distinct ID for each number, anywhere in the range.
fn sparse(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Inserts all of a window except its first event, then the first one, which releases all.
///
/// The order of arrival is one vector that lives as long as the buffer, built without another that
/// is freed: after a large piece is freed, glibc keeps later ones of up to that size.
fn fill_and_drain(arriving: &[u64]) {
    fill_and_drain_lines(arriving, line, MAX_BYTES_PER_WAITING_EVENT);
}

fn fill_and_drain_lines(arriving: &[u64], line: impl Fn(u64) -> String, max_bytes_each: u64) {
    let window = arriving.len() as u64 + 1;
    let mut buffer = ReorderBuffer::new(sequence(FIRST), window as u32);

    let before = resident_bytes();
    for &number in arriving {
        assert_eq!(insert(&mut buffer, &line(number)), InsertOutcome::Buffered);
    }
    let taken = resident_bytes().saturating_sub(before);
    assert_eq!(buffer.len() as u64, window - 1);
    assert_bytes_each(taken, window, max_bytes_each, "waiting event");

    insert(&mut buffer, &line(FIRST));
    for number in FIRST..FIRST + window {
        let Head::Event(_, next) = buffer.head() else { panic!("{number} is missing") };
        assert_eq!(next.as_bytes(), line(number).as_bytes());
        buffer.advance();
    }
    while !buffer.is_freed() {
        buffer.free_some(1 << 20);
    }
    let kept = resident_bytes().saturating_sub(before);
    assert!(kept <= MAX_KEPT_BYTES, "{kept} bytes are left of {taken}");
}

/// Returns every thousandth event of a window, then the ones after those, and so on, without the
/// first.
fn in_strides(window: u64) -> Vec<u64> {
    let mut arriving = Vec::with_capacity(window as usize);
    for start in 0..1_000 {
        arriving.extend((SECOND + start..FIRST + window).step_by(1_000));
    }
    arriving
}

/// Inserts the event as from a read buffer, with more lines after it.
fn insert(buffer: &mut ReorderBuffer, line: &str) -> InsertOutcome {
    let arrived = format!("{line}\n{}", "7|B\n".repeat(8));
    let event = Event::parse(line.as_bytes()).unwrap();
    buffer.insert(&event, Line::prefix_of(arrived.as_bytes(), line.len()))
}

/// Returns a private message between users of six digits.
fn line(number: u64) -> String {
    let user = 100_000 + number % 900_000;
    format!("{number}|P|{user}|654321")
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn assert_bytes_each(taken: u64, count: u64, max: u64, what: &str) {
    let bytes_each = taken as f64 / count as f64;
    println!("{bytes_each:.1} bytes per {what}");
    assert!(bytes_each > 4.0, "{bytes_each:.1} bytes per {what}: something is not counted");
    assert!(bytes_each <= max as f64, "{bytes_each:.1} bytes per {what}, {max} are allowed");
}

/// Returns how much resident memory `work` adds.
fn resident_growth(work: impl FnOnce()) -> u64 {
    let before = resident_bytes();
    work();
    resident_bytes().saturating_sub(before)
}

fn resident_bytes() -> u64 {
    Process(rustix::process::getpid()).resident_bytes()
}

/// Runs the calling test, which has this name, in a new process, and `measure` there on the main
/// thread as in the server: other threads have their own arenas.
fn in_own_process(name: &str, measure: impl FnOnce()) {
    if env::var_os(MEASURE_VARIABLE).is_some() {
        return measure();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MEASURE_VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "the measuring process failed");
}
