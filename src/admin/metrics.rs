//! The status in Prometheus' text format.
//!
//! Labels have fixed values only: no peer can add a time series.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::histogram::Histogram;
use super::status::{State, Status};
use crate::cluster::TROUBLES;

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the metrics of a status.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut text = Exposition(String::with_capacity(16 << 10));
    server(&mut text, status);
    events(&mut text, status);
    stream(&mut text, status);
    connections(&mut text, status);
    queues(&mut text, status);
    resumes(&mut text, status);
    process(&mut text, status);
    histograms(&mut text, status);
    text.0
}

fn server(text: &mut Exposition, status: &Status) {
    let server = &status.server;
    text.family("eventserver_build_info", "gauge", "Always 1. The label tells the version.");
    text.sample("eventserver_build_info", &[("version", server.version)], 1);
    text.gauge(
        "eventserver_ready",
        "Whether /readyz answers 200.",
        u8::from(server.unready_reason.is_none()),
    );
    text.gauge(
        "eventserver_paused",
        "Whether slow clients pause applying and reading.",
        u8::from(server.state == State::Paused),
    );
    text.counter("eventserver_pauses_total", "Pauses for slow clients.", status.pause.pauses);
    text.counter(
        "eventserver_paused_seconds_total",
        "Time spent in pauses for slow clients.",
        seconds(status.pause.paused_seconds),
    );
}

fn events(text: &mut Exposition, status: &Status) {
    let events = &status.events;
    text.family("eventserver_events_applied_total", "counter", "Events applied, by type.");
    for (name, count) in [
        ("follow", events.follows),
        ("unfollow", events.unfollows),
        ("broadcast", events.broadcasts),
        ("private", events.private_messages),
        ("status", events.status_updates),
    ] {
        text.sample("eventserver_events_applied_total", &[("type", name)], count);
    }
    for (name, help, count) in [
        ("eventserver_deliveries_total", "Lines queued for clients.", status.traffic.lines_queued),
        ("eventserver_malformed_lines_total", "Malformed lines of sources.", events.malformed),
        (
            "eventserver_unterminated_lines_total",
            "Last lines of sources that were discarded because they have no terminator.",
            events.unterminated,
        ),
        (
            "eventserver_void_sequences_total",
            "Sequences that malformed lines used up.",
            events.void,
        ),
        (
            "eventserver_duplicate_events_total",
            "Events dropped because their sequence was waiting already.",
            events.duplicate,
        ),
        (
            "eventserver_late_events_total",
            "Events dropped because their sequence was applied already.",
            events.late,
        ),
        (
            "eventserver_lost_sequences_total",
            "Sequences skipped after the gap timeout, and events dropped by a reset.",
            events.lost,
        ),
        (
            "eventserver_source_read_bytes_total",
            "Bytes read from sources.",
            status.traffic.bytes_read,
        ),
        (
            "eventserver_client_written_bytes_total",
            "Bytes written to clients.",
            status.traffic.bytes_written,
        ),
    ] {
        text.counter(name, help, count);
    }
    let sequence = &status.sequence;
    text.gauge("eventserver_awaited_sequence", "The next sequence to apply.", sequence.awaited);
    if let Some(committed) = sequence.committed {
        text.gauge("eventserver_committed_sequence", "The last committed sequence.", committed);
    }
    text.gauge(
        "eventserver_buffered_events",
        "Events in the reorder buffer.",
        sequence.buffered_events,
    );
    text.gauge(
        "eventserver_gap_first_sequence",
        "The first missing sequence, or NaN without a gap.",
        sequence.gap.map_or(f64::NAN, |gap| gap.first_missing as f64),
    );
    text.gauge(
        "eventserver_gap_age_seconds",
        "For how long the first missing sequence has been missing, or 0 without a gap.",
        seconds(sequence.gap.map_or(Duration::ZERO, |gap| gap.age_seconds)),
    );
    text.gauge("eventserver_users", "Users that events or clients have named.", status.graph.users);
    text.gauge("eventserver_follows", "Follows between users.", status.graph.follows);
}

/// The shared stream, if there is one.
fn stream(text: &mut Exposition, status: &Status) {
    let Some(stream) = &status.stream else { return };
    text.gauge(
        "eventserver_stream_position",
        "The awaited sequence after the last entry of the shared stream that was read.",
        stream.position,
    );
    text.gauge(
        "eventserver_stream_lag_sequences",
        "How far the end of the shared stream is ahead.",
        stream.lag,
    );
    let name = "eventserver_stream_trouble";
    text.family(name, "gauge", "Whether the shared stream is not followed, by reason.");
    for reason in TROUBLES {
        text.sample(name, &[("reason", reason)], u8::from(stream.trouble == Some(reason)));
    }
    let name = "eventserver_stream_entries_total";
    text.family(name, "counter", "Entries of the shared stream that were read, by server.");
    text.sample(name, &[("server", "this")], stream.own_entries);
    text.sample(name, &[("server", "other")], stream.other_entries);
    for (name, help, count) in [
        (
            "eventserver_stream_covered_batches_total",
            "Batches of this server that other servers had covered before.",
            stream.covered_batches,
        ),
        (
            "eventserver_stream_repaired_entries_total",
            "Entries that this server has appended again, because the engine had lost them.",
            stream.repaired_entries,
        ),
        (
            "eventserver_stream_errors_total",
            "Connections to the engine of the stream that were dropped after an error.",
            stream.errors,
        ),
    ] {
        text.counter(name, help, count);
    }
    text.gauge(
        "eventserver_stream_retained_bytes",
        "Bytes of entries that are kept to be appended again.",
        stream.retained_bytes,
    );
}

fn connections(text: &mut Exposition, status: &Status) {
    let (clients, sources) = (&status.clients, &status.sources);
    text.gauge("eventserver_clients", "Connected clients.", clients.connected);
    text.gauge("eventserver_clients_max", "The limit on registered clients.", clients.max);
    text.gauge("eventserver_sources", "Connected sources.", sources.connected);
    text.gauge("eventserver_sources_max", "The limit on sources.", sources.max);
    let name = "eventserver_connections_accepted_total";
    text.family(name, "counter", "Connections accepted, including rejected ones, by side.");
    text.sample(name, &[("side", "client")], clients.accepted);
    text.sample(name, &[("side", "source")], sources.accepted);
    let name = "eventserver_connections_closed_total";
    text.family(
        name,
        "counter",
        "Connections closed, including rejected ones, by side and reason.",
    );
    closed(text, name, "client", &clients.closed);
    closed(text, name, "source", &sources.closed);
    text.counter(
        "eventserver_accept_errors_total",
        "Failures to accept connections, after each of which accepting rests.",
        status.accept_errors,
    );
}

fn closed(text: &mut Exposition, name: &str, side: &str, counts: &BTreeMap<&'static str, u64>) {
    for (reason, count) in counts {
        text.sample(name, &[("side", side), ("reason", reason)], count);
    }
}

fn queues(text: &mut Exposition, status: &Status) {
    text.gauge(
        "eventserver_queued_bytes",
        "Bytes queued for all clients.",
        status.traffic.queued_bytes,
    );
    text.gauge(
        "eventserver_full_queues",
        "Clients whose queue is full.",
        status.clients.full_queues,
    );
    let setting = |key: &str| status.settings.get(key).and_then(serde_json::Value::as_u64);
    for (name, help, key) in [
        (
            "eventserver_queued_bytes_max",
            "The limit on bytes queued for all clients.",
            "totalQueueBytes",
        ),
        ("eventserver_reorder_window_events", "The reorder window.", "reorderWindow"),
    ] {
        if let Some(value) = setting(key) {
            text.gauge(name, help, value);
        }
    }
}

fn resumes(text: &mut Exposition, status: &Status) {
    let resume = &status.resume;
    for (name, help, count) in [
        (
            "eventserver_resumes_total",
            "Clients that have sent a sequence to resume after.",
            resume.started,
        ),
        (
            "eventserver_resumes_completed_total",
            "Clients that got everything they had missed.",
            resume.completed,
        ),
        (
            "eventserver_resume_gaps_total",
            "Gaps that clients were told when they resumed.",
            resume.gaps,
        ),
        (
            "eventserver_replayed_lines_total",
            "Lines sent to clients before live events continued them.",
            resume.lines_replayed,
        ),
    ] {
        text.counter(name, help, count);
    }
    text.gauge("eventserver_resuming_clients", "Clients without live events yet.", resume.resuming);
    text.gauge(
        "eventserver_kept_events",
        "Events kept for clients that resume.",
        resume.kept_events,
    );
    text.gauge(
        "eventserver_kept_events_bytes",
        "Memory of the events kept for clients that resume.",
        resume.kept_bytes,
    );
}

/// The metrics of the process have the names that all Prometheus clients give them.
fn process(text: &mut Exposition, status: &Status) {
    let process = &status.process;
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes),
        ("process_open_fds", "Number of open file descriptors.", process.open_descriptors),
        ("process_max_fds", "Maximum number of open file descriptors.", process.max_descriptors),
    ] {
        if let Some(value) = value {
            text.gauge(name, help, value);
        }
    }
    if let Some(time) = process.cpu_seconds {
        text.counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            seconds(time),
        );
    }
    text.gauge(
        "eventserver_uptime_seconds",
        "Time since the start.",
        seconds(status.server.uptime_seconds),
    );
}

fn histograms(text: &mut Exposition, status: &Status) {
    let histograms = &status.histograms;
    let nanos_as_seconds = |nanos: u64| seconds(Duration::from_nanos(nanos));
    text.histogram(
        "eventserver_turn_seconds",
        "Time of a turn of the loop, without waiting.",
        &histograms.turn_seconds,
        nanos_as_seconds,
    );
    text.histogram(
        "eventserver_turn_events",
        "Events applied in a turn of the loop.",
        &histograms.turn_events,
        |count| count as f64,
    );
    text.histogram(
        "eventserver_delivery_delay_seconds",
        "Time from reading an event to the end of writing it to sockets, of sampled events.",
        &histograms.delivery_delay_seconds,
        nanos_as_seconds,
    );
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Text of the exposition format. Names, help and labels are constants without characters to escape.
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{separator}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
        unit: impl Fn(u64) -> f64,
    ) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &[("le", &unit(bound).to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[], unit(histogram.sum()));
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use serde_json::Value;

    use super::super::status::sample;
    use super::*;

    const DASHBOARD: &str = include_str!("dashboard.json");
    const ALERTS: &str = include_str!("alerts.yml");

    /// Returns the names and types of all families.
    fn families() -> BTreeMap<String, String> {
        let text = render(&sample::status());
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
    }

    /// Returns the metrics that an expression names.
    fn names_in(expression: &str) -> impl Iterator<Item = &str> {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| ["eventserver_", "process_"].iter().any(|it| word.starts_with(it)))
    }

    fn assert_exist(expression: &str) {
        let families = families();
        for name in names_in(expression) {
            let is_histogram = |name: &str| families.get(name).is_some_and(|it| it == "histogram");
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let exists = families.contains_key(name) || family.is_some_and(is_histogram);
            assert!(exists, "{name} in {expression}");
        }
    }

    /// Visits every string under a key.
    fn visit_strings(value: &Value, key: &str, visit: &mut impl FnMut(&str)) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match value {
                        Value::String(text) if name == key => visit(text),
                        _ => visit_strings(value, key, visit),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| visit_strings(item, key, visit)),
            _ => {}
        }
    }

    #[test]
    fn each_sample_belongs_to_the_family_before_it_and_occurs_once() {
        let text = render(&sample::status());
        let mut family = "";
        let mut seen = HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(series.starts_with(family), "{line} after {family}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(seen.insert(series), "{line} occurs twice");
            }
        }
        assert!(
            seen.contains(
                r#"eventserver_connections_closed_total{side="client",reason="stalled"}"#
            )
        );
        assert!(seen.contains(r#"eventserver_delivery_delay_seconds_bucket{le="0.0001"}"#));
    }

    #[test]
    fn nothing_of_a_peer_is_a_label() {
        let mut status = sample::status();
        let before = render(&status).lines().count();
        status.slow_clients.extend_from_within(..);
        status.recent_closes.extend_from_within(..);
        let text = render(&status);
        assert_eq!(text.lines().count(), before);
        for part in ["<script>", "127.0.0.1", "18446744073709551615\""] {
            assert!(!text.contains(part), "{part}");
        }
    }

    #[test]
    fn the_dashboard_names_only_metrics_that_exist() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
        let mut expressions = 0;
        visit_strings(&dashboard, "expr", &mut |expression| {
            assert!(names_in(expression).count() > 0, "{expression}");
            assert_exist(expression);
            expressions += 1;
        });
        assert!(expressions > 10, "{expressions} expressions");
    }

    #[test]
    fn the_alerts_name_only_metrics_that_exist() {
        let expressions = ALERTS.lines().filter(|line| line.contains("eventserver_"));
        assert!(expressions.clone().count() > 5);
        expressions.for_each(assert_exist);
    }

    /// Runs promtool. Ignored without it, and run by `.ci/run`.
    fn promtool(arguments: &[&str], input: &str) {
        let mut child = Command::new("promtool")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed: Debian's package `prometheus` has it");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(output.status.success(), "{told}");
        let is_clean = told.trim().is_empty() || arguments.contains(&"rules");
        assert!(is_clean, "{told}");
    }

    #[test]
    #[ignore = "needs promtool"]
    fn promtool_accepts_the_metrics() {
        promtool(&["check", "metrics"], &render(&sample::status()));
    }

    #[test]
    #[ignore = "needs promtool"]
    fn promtool_accepts_the_alerts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/alerts.yml");
        promtool(&["check", "rules", path], "");
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/alerts_test.yml");
        promtool(&["test", "rules", tests], "");
    }
}
