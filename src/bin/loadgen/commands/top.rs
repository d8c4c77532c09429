//! `top`: what a running server does, in a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{CommandResult, admin_port};
use crate::args;
use crate::output::document::Verdict;
use crate::output::format::{format_bytes, format_count, format_micros, format_si};
use crate::sys::interrupt;
use crate::target::admin::{AdminPort, RecentClose, SlowClient, Status};

/// Slow clients and closed connections shown, so that all fits 24 lines.
const MAX_ROWS: usize = 5;

/// Characters of a line in a terminal.
const WIDTH: usize = 80;

/// Width of the bar of the longest queue, in characters.
const BAR: usize = 20;

/// Another screen without a cursor, which leaves the previous one as it was.
const ENTER_SCREEN: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE_SCREEN: &str = "\x1b[?25h\x1b[?1049l";
/// The top left corner; what follows replaces the screen.
const HOME: &str = "\x1b[H";
/// The rest of a line, or of the screen, is cleared.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

pub(super) fn run(flags: &args::Top) -> CommandResult {
    let port = admin_port(None, flags.admin.clone())?;
    // A server that does not answer at all is an error; one that stops answering is waited for.
    let first = port.status()?;
    let mut view = View::new();
    let shown = watch(port, first, flags, &mut view);
    drop(view);
    match shown {
        Err(_) if interrupt::has_come() => Ok(Verdict::Passed),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Verdict::Passed),
    }
}

/// Shows the status until a signal comes, or as often as wanted.
fn watch(port: AdminPort, first: Status, flags: &args::Top, view: &mut View) -> io::Result<()> {
    let every = Duration::from_secs_f64(flags.every);
    let mut previous = first;
    let mut left = flags.times;
    let mut due = Instant::now();
    while left != Some(0) {
        due = (due + every).max(Instant::now());
        interrupt::sleep(due.saturating_duration_since(Instant::now()))?;
        match port.status() {
            Ok(status) => {
                view.show(port, &status, &Rates::between(&previous, &status))?;
                previous = status;
            }
            Err(error) => view.show_gone(&error)?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// What happened between two looks, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    events: f64,
    lines: f64,
    bytes: f64,
    /// The share of one CPU.
    cpu: Option<f64>,
    /// Times in seconds within which half and 99 % of the sampled events were delivered.
    delays: Option<[f64; 2]>,
}

impl Rates {
    /// Returns the rates; zero for another process than before.
    fn between(before: &Status, after: &Status) -> Rates {
        let time = after.server.uptime_seconds - before.server.uptime_seconds;
        if time <= 0.0 || after.server.pid != before.server.pid {
            return Rates::default();
        }
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / time;
        let cpu = after.process.cpu_seconds.zip(before.process.cpu_seconds);
        Rates {
            events: rate(before.events.applied, after.events.applied),
            lines: rate(before.traffic.lines_queued, after.traffic.lines_queued),
            bytes: rate(before.traffic.bytes_written, after.traffic.bytes_written),
            cpu: cpu.map(|(after, before)| (after - before) / time),
            delays: delays(before, after),
        }
    }
}

/// Returns bounds on the median and the 99th percentile of the time to deliver.
fn delays(before: &Status, after: &Status) -> Option<[f64; 2]> {
    let [before, after] = [before, after].map(|status| &status.histograms.delivery_delay_seconds);
    let count = after.count.checked_sub(before.count).filter(|&count| count > 0)?;
    let quantile = |share: f64| {
        let buckets = before.buckets.iter().zip(&after.buckets);
        let mut counts = buckets.map(|(before, after)| (after.0, after.1 - before.1));
        counts.find(|&(_, up_to)| up_to as f64 >= share * count as f64).map(|(bound, _)| bound)
    };
    Some([quantile(0.5)?, quantile(0.99)?])
}

/// The output: a screen of its own on a terminal, lines elsewhere.
struct View {
    is_terminal: bool,
}

impl View {
    fn new() -> View {
        let is_terminal = io::stdout().is_terminal();
        if is_terminal {
            let _ = io::stdout().write_all(ENTER_SCREEN.as_bytes());
        }
        View { is_terminal }
    }

    fn show(&mut self, port: AdminPort, status: &Status, rates: &Rates) -> io::Result<()> {
        match self.is_terminal {
            true => self.replace(&screen(port, status, rates)),
            false => writeln!(io::stdout(), "{}", line(status, rates)),
        }
    }

    fn show_gone(&mut self, error: &io::Error) -> io::Result<()> {
        match self.is_terminal {
            true => self.replace(&format!("no answer: {error}\n\nasking again; Ctrl-C ends\n")),
            false => writeln!(io::stdout(), "no answer: {error}"),
        }
    }

    /// Replaces the screen without clearing it first, so that it does not flicker.
    fn replace(&mut self, text: &str) -> io::Result<()> {
        let mut output = HOME.to_owned();
        for line in text.lines() {
            output.extend(line.chars().take(WIDTH));
            output.push_str(CLEAR_LINE);
            output.push_str("\r\n");
        }
        output.push_str(CLEAR_REST);
        let mut stdout = io::stdout();
        stdout.write_all(output.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = io::stdout().write_all(LEAVE_SCREEN.as_bytes());
        }
    }
}

fn line(status: &Status, rates: &Rates) -> String {
    format!(
        "{} {:>8} events/s {:>8} lines/s {:>9}/s  {} clients  {} queued{}",
        status.server.state,
        format_si(rates.events),
        format_si(rates.lines),
        format_bytes(rates.bytes),
        format_count(status.clients.connected),
        format_bytes(status.traffic.queued_bytes as f64),
        gap(status).map_or(String::new(), |gap| format!("  {gap}")),
    )
}

fn screen(port: AdminPort, status: &Status, rates: &Rates) -> String {
    let Status { server, sequence, events, traffic, clients, sources, graph, process, .. } = status;
    let mut text = String::new();
    let address = port.0;
    let mut add = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    add(format_args!(
        "eventserver {} at {address}   {}   up {}",
        server.version,
        server.state,
        format_age(server.uptime_seconds)
    ));
    for notice in notices(status) {
        add(format_args!("! {notice}"));
    }
    add(format_args!(""));
    add(format_args!(
        "events     {:>10}/s   {} applied, {} awaited, {} waiting",
        format_si(rates.events),
        format_count(events.applied),
        format_count(sequence.awaited),
        format_count(sequence.buffered_events)
    ));
    add(format_args!(
        "delivered  {:>10}/s   {} lines, {}/s",
        format_si(rates.lines),
        format_count(traffic.lines_queued),
        format_bytes(rates.bytes)
    ));
    let delays = rates.delays.map(|delays| delays.map(|seconds| format_micros(seconds * 1e6)));
    let delays = match delays {
        Some([half, most]) => format!("half within {half}, 99 % within {most}"),
        None => "nothing was sampled".to_owned(),
    };
    add(format_args!("delay        {delays}"));
    add(format_args!(
        "dropped      malformed {}, void {}, duplicate {}, late {}, lost {}",
        events.malformed, events.void, events.duplicate, events.late, events.lost
    ));
    add(format_args!(
        "clients    {:>12} of {}; sources {} of {}; users {}, follows {}",
        format_count(clients.connected),
        format_count(clients.max),
        sources.connected,
        sources.max,
        format_count(graph.users),
        format_count(graph.follows)
    ));
    add(format_args!(
        "queued     {:>12}   {} full queues, paused for {:.1} s in all",
        format_bytes(traffic.queued_bytes as f64),
        clients.full_queues,
        status.pause.paused_seconds
    ));
    let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    add(format_args!(
        "process    {:>12}   CPU {}, {} descriptors",
        known(process.resident_bytes.map(|bytes| format_bytes(bytes as f64))),
        known(rates.cpu.map(|share| format!("{:.0} %", 100.0 * share))),
        known(process.open_descriptors.map(format_count))
    ));
    add(format_args!(""));
    add(format_args!("slowest clients"));
    let longest = status.slow_clients.first().map_or(1, |client| client.queued_bytes.max(1));
    for client in status.slow_clients.iter().take(MAX_ROWS) {
        add(format_args!("  {}", slow_client(client, longest)));
    }
    add(format_args!("last closed"));
    for close in status.recent_closes.iter().take(MAX_ROWS) {
        add(format_args!("  {}", recent_close(close)));
    }
    text
}

fn notices(status: &Status) -> Vec<String> {
    let unready = status.server.unready_reason.as_ref().map(|why| format!("not ready: {why}"));
    let pause = status.pause.current_pause_seconds.map(|seconds| {
        format!("paused for {}: {} full queues", format_age(seconds), status.clients.full_queues)
    });
    [unready, pause, gap(status)].into_iter().flatten().collect()
}

fn gap(status: &Status) -> Option<String> {
    let gap = status.sequence.gap?;
    Some(format!(
        "sequence {} has been missing for {}",
        format_count(gap.first_missing),
        format_age(gap.age_seconds)
    ))
}

fn slow_client(client: &SlowClient, longest: u64) -> String {
    let share = client.queued_bytes as f64 / longest as f64;
    let bar = "█".repeat(1 + (share * (BAR - 1) as f64) as usize);
    let user = client.user.as_deref().unwrap_or("–");
    let bytes = format_bytes(client.queued_bytes as f64);
    format!("{bytes:>9} {bar:<BAR$} user {} {}", printable(user), printable(&client.peer))
}

fn recent_close(close: &RecentClose) -> String {
    let who = match &close.user {
        Some(user) => format!("user {user}"),
        None => close.side.clone(),
    };
    let input = close.input.as_ref().map_or(String::new(), |input| format!(" {input}"));
    let age = format_age(close.age_seconds);
    printable(&format!("{age:>9} {:<18} {who} {}{input}", close.reason, close.peer))
}

/// Replaces what a terminal might take for a command.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn format_age(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.0} days", (s / 86_400.0).floor()),
        s if s >= 7200.0 => format!("{:.0} h", (s / 3600.0).floor()),
        s if s >= 120.0 => format!("{:.0} min", (s / 60.0).floor()),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(uptime: f64, applied: u64, delays: [u64; 2]) -> Status {
        let value: Value = json!({
            "server": {
                "version": "0.1.0", "pid": 7, "uptime_seconds": uptime, "state": "running",
                "unready_reason": null,
            },
            "sequence": {
                "awaited": applied + 1, "buffered_events": 2,
                "gap": { "first_missing": 1234, "age_seconds": 125.0 },
            },
            "events": {
                "applied": applied, "malformed": 1, "void": 0, "duplicate": 0, "late": 0, "lost": 0,
            },
            "traffic": { "lines_queued": 2 * applied, "bytes_written": applied, "queued_bytes": 5 },
            "pause": { "paused_seconds": 0.0, "current_pause_seconds": null },
            "clients": { "connected": 3, "max": 10, "full_queues": 0 },
            "sources": { "connected": 1, "max": 64 },
            "graph": { "users": 4, "follows": 5 },
            "slow_clients": [{ "user": "9", "peer": "127.0.0.1:1", "queued_bytes": 5 }],
            "recent_closes": [{
                "side": "client", "user": null, "peer": "127.0.0.1:2", "reason": "bad_id",
                "input": "\u{1b}[2J", "age_seconds": 3.0,
            }],
            "process": {
                "resident_bytes": 1_000_000, "peak_resident_bytes": null,
                "cpu_seconds": uptime / 4.0, "open_descriptors": 20,
            },
            "histograms": { "delivery_delay_seconds": {
                "count": delays[1], "buckets": [[0.001, delays[0]], [0.01, delays[1]]],
            }},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let (before, after) = (status(10.0, 1000, [10, 10]), status(12.0, 3000, [109, 110]));
        let rates = Rates::between(&before, &after);
        let delays = Some([0.001, 0.001]);
        let expected =
            Rates { events: 1000.0, lines: 2000.0, bytes: 1000.0, cpu: Some(0.25), delays };
        assert_eq!(rates, expected);
        let rates = Rates::between(&before, &status(12.0, 3000, [60, 110]));
        assert_eq!(rates.delays, Some([0.001, 0.01]));
        assert_eq!(Rates::between(&after, &before), Rates::default(), "it has started again");
    }

    #[test]
    fn what_peers_sent_is_no_command_for_the_terminal() {
        let status = status(10.0, 1000, [0, 0]);
        let port = AdminPort("127.0.0.1:9091".parse().unwrap());
        let screen = screen(port, &status, &Rates::default());
        assert!(!screen.contains('\x1b'), "{screen}");
        for part in
            ["sequence 1,234 has been missing for 2 min", "user 9", "bad_id", "1,000 applied"]
        {
            assert!(screen.contains(part), "{part} in {screen}");
        }
        assert!(screen.lines().count() <= 24);
    }
}
