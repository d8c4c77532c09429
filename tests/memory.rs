//! What the follower graph and the reorder buffer take of the machine, as the kernel counts it.
//!
//! Resident memory is a property of a process, and what was freed before hides what is taken now. So
//! each test runs itself once more, in a process of its own, and measures there; allocator, growth
//! and rounding up are all in the figure. A build without optimisation measures smaller sizes.
#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

#[path = "../benches/support/random.rs"]
mod random;

use std::env;
use std::fs;
use std::process::Command;

use eventserver::engine::{FollowerGraph, Head, InsertOutcome, ReorderBuffer};
use eventserver::protocol::{Event, Line, Sequence, UserId};

use random::Random;

/// Set in the process that measures.
const MEASURES: &str = "EVENTSERVER_TEST_MEASURES_MEMORY";

const USERS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const FOLLOWS: u64 = 10 * USERS;
const WINDOW: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// The first sequence of a window: all in it have seven digits.
const FIRST: u64 = 1_000_000;

/// The one behind it, which has to wait.
const BEHIND: u64 = FIRST + 1;

/// The most that a follow may take, its share of the users included.
const BYTES_A_FOLLOW: u64 = 24;

/// The most that a waiting event may take in a full window, the window's share included.
const BYTES_A_WAITING_EVENT: u64 = 96;

/// The most that a follow may take between two users whom no other names.
const BYTES_A_LONE_FOLLOW: u64 = 180;

/// The most that a waiting event in a line of 64 bytes may take, in a ring that is full.
const BYTES_A_WAITING_LONG_LINE: u64 = 120;

/// What an allocator may keep for itself after everything was freed.
const MAX_IDLE_CAPACITY: u64 = 1 << 20;

#[test]
fn a_follow_between_random_users_takes_24_bytes_at_most() {
    in_a_process_of_its_own("a_follow_between_random_users_takes_24_bytes_at_most", || {
        let mut graph = FollowerGraph::new();
        let taken = taken_by(|| follow_at_random(&mut graph, FOLLOWS));
        assert_bytes_each(taken, FOLLOWS, BYTES_A_FOLLOW, "follow");
        assert!(graph.users() as u64 > USERS * 99 / 100);
    });
}

#[test]
fn a_follow_takes_no_more_where_everybody_follows_a_celebrity() {
    in_a_process_of_its_own("a_follow_takes_no_more_where_everybody_follows_a_celebrity", || {
        let mut graph = FollowerGraph::new();
        let taken = taken_by(|| {
            (1..USERS).for_each(|user| graph.follow(UserId(user), UserId(0)));
            follow_at_random(&mut graph, FOLLOWS - USERS);
        });
        assert_bytes_each(taken, FOLLOWS, BYTES_A_FOLLOW, "follow");
        assert_eq!(graph.users() as u64, USERS);
    });
}

/// The largest share of the users: as many as can be, with ids that are not small.
#[test]
fn a_follow_between_users_named_once_takes_180_bytes_at_most() {
    in_a_process_of_its_own("a_follow_between_users_named_once_takes_180_bytes_at_most", || {
        let mut graph = FollowerGraph::new();
        let taken = taken_by(|| follow_in_pairs(&mut graph, sparse));
        assert_bytes_each(taken, USERS / 2, BYTES_A_LONE_FOLLOW, "lone follow");
        assert_eq!(graph.users() as u64, USERS);
    });
}

#[test]
fn a_graph_of_small_ids_that_is_emptied_is_given_back() {
    in_a_process_of_its_own("a_graph_of_small_ids_that_is_emptied_is_given_back", || {
        follow_and_unfollow(dense, |_| MAX_IDLE_CAPACITY);
    });
}

/// The tables of ids are freed piece by piece, of which an allocator may return only those at its end.
#[test]
fn a_graph_of_any_ids_that_is_emptied_is_given_back_but_for_a_quarter() {
    in_a_process_of_its_own(
        "a_graph_of_any_ids_that_is_emptied_is_given_back_but_for_a_quarter",
        || {
            follow_and_unfollow(sparse, |taken| taken / 4);
        },
    );
}

/// Follows far from each other stay, so that no end of anything becomes vacant.
#[test]
fn a_graph_of_which_little_stays_is_given_back_but_for_that() {
    in_a_process_of_its_own("a_graph_of_which_little_stays_is_given_back_but_for_that", || {
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
    in_a_process_of_its_own(
        "a_window_of_long_lines_takes_120_bytes_an_event_and_gives_them_back",
        || {
            let window = WINDOW.next_power_of_two();
            let mut arriving: Vec<u64> = (BEHIND..FIRST + window).collect();
            Random::new(8).shuffle(&mut arriving);
            let line = |number| format!("{number:0>20}|P|{number:0>20}|{:0>20}", 654_321);
            fill_and_drain_lines(&arriving, line, BYTES_A_WAITING_LONG_LINE);
        },
    );
}

#[test]
fn a_window_filled_in_reverse_takes_96_bytes_an_event_and_gives_them_back() {
    in_a_process_of_its_own(
        "a_window_filled_in_reverse_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&(BEHIND..FIRST + WINDOW).rev().collect::<Vec<_>>()),
    );
}

#[test]
fn a_window_filled_at_random_takes_96_bytes_an_event_and_gives_them_back() {
    in_a_process_of_its_own(
        "a_window_filled_at_random_takes_96_bytes_an_event_and_gives_them_back",
        || {
            let mut arriving: Vec<u64> = (BEHIND..FIRST + WINDOW).collect();
            Random::new(8).shuffle(&mut arriving);
            fill_and_drain(&arriving);
        },
    );
}

#[test]
fn a_window_filled_in_strides_takes_96_bytes_an_event_and_gives_them_back() {
    in_a_process_of_its_own(
        "a_window_filled_in_strides_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&in_strides(WINDOW)),
    );
}

/// A window one larger than a power of two: the largest part of a ring that can stay empty.
#[test]
fn a_window_of_the_worst_size_takes_96_bytes_an_event_and_gives_them_back() {
    in_a_process_of_its_own(
        "a_window_of_the_worst_size_takes_96_bytes_an_event_and_gives_them_back",
        || fill_and_drain(&in_strides(WINDOW.next_power_of_two() + 1)),
    );
}

fn follow_at_random(graph: &mut FollowerGraph, follows: u64) {
    let mut random = Random::new(9);
    for _ in 0..follows {
        graph.follow(UserId(random.below(USERS)), UserId(random.below(USERS)));
    }
}

/// Every user follows or is followed, and once.
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

/// A different id for each number, anywhere in the range.
fn sparse(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Lets all of a window but its first event arrive, then the first one, behind which everything
/// leaves.
///
/// The order of arrival stands in one vector that lives as long as the buffer, made without another
/// that is freed: a large piece that glibc gets back makes it keep the next ones of up to that size.
fn fill_and_drain(arriving: &[u64]) {
    fill_and_drain_lines(arriving, line, BYTES_A_WAITING_EVENT);
}

fn fill_and_drain_lines(arriving: &[u64], line: impl Fn(u64) -> String, most_bytes_each: u64) {
    let window = arriving.len() as u64 + 1;
    let mut buffer = ReorderBuffer::new(sequence(FIRST), window as u32);

    let before = resident_bytes();
    for &number in arriving {
        assert_eq!(insert(&mut buffer, &line(number)), InsertOutcome::Buffered);
    }
    let taken = resident_bytes().saturating_sub(before);
    assert_eq!(buffer.len() as u64, window - 1);
    assert_bytes_each(taken, window, most_bytes_each, "waiting event");

    insert(&mut buffer, &line(FIRST));
    for number in FIRST..FIRST + window {
        let Head::Event(_, next) = buffer.head() else { panic!("{number} is missing") };
        assert_eq!(next.as_bytes(), line(number).as_bytes());
        buffer.advance();
    }
    let kept = resident_bytes().saturating_sub(before);
    assert!(kept <= MAX_IDLE_CAPACITY, "{kept} bytes are left of {taken}");
}

/// Every thousandth event of a window, then those behind them, and so on; all but the first.
fn in_strides(window: u64) -> Vec<u64> {
    let mut arriving = Vec::with_capacity(window as usize);
    for start in 0..1_000 {
        arriving.extend((BEHIND + start..FIRST + window).step_by(1_000));
    }
    arriving
}

/// Inserts the event as it arrives: in a buffer, with more behind it.
fn insert(buffer: &mut ReorderBuffer, line: &str) -> InsertOutcome {
    let arrived = format!("{line}\n{}", "7|B\n".repeat(8));
    let event = Event::parse(line.as_bytes()).unwrap();
    buffer.insert(&event, Line::prefix_of(arrived.as_bytes(), line.len()))
}

/// A private message between users of six digits.
fn line(number: u64) -> String {
    let user = 100_000 + number % 900_000;
    format!("{number}|P|{user}|654321")
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn assert_bytes_each(taken: u64, count: u64, most: u64, what: &str) {
    let bytes_each = taken as f64 / count as f64;
    println!("{bytes_each:.1} bytes a {what}");
    assert!(bytes_each > 4.0, "{bytes_each:.1} bytes a {what} cannot be: something is not counted");
    assert!(bytes_each <= most as f64, "{bytes_each:.1} bytes a {what}, {most} are allowed");
}

/// How much more is resident after `work` than before it.
fn taken_by(work: impl FnOnce()) -> u64 {
    let before = resident_bytes();
    work();
    resident_bytes().saturating_sub(before)
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    kibibytes.unwrap().trim().parse::<u64>().unwrap() << 10
}

/// Runs the calling test, which has this name, in a fresh process and does `measure` there, on the
/// main thread as in the server: other threads have arenas of their own.
fn in_a_process_of_its_own(name: &str, measure: impl FnOnce()) {
    if env::var_os(MEASURES).is_some() {
        return measure();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MEASURES, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "the measuring process failed");
}
