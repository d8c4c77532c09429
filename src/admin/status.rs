//! The server's state as one value: what `/status` shows, and `/metrics` is made of.
//!
//! Field names are stable, and described in `STATUS.md` beside this file. Units are part of the names.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::histogram::Histograms;

/// The version of the names. It rises when a name is removed or changes its meaning.
pub const SCHEMA: u32 = 1;

/// The maximum number of clients in [`Status::slow_clients`].
pub const MAX_SLOW_CLIENTS: usize = 20;

/// The maximum number of connections in [`Status::recent_closes`].
pub const MAX_RECENT_CLOSES: usize = 64;

/// A snapshot of the server. All counters count since the start.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "STATUS.md describes the fields of this and the following types")]
pub struct Status {
    pub schema: u32,
    pub server: Server,
    pub sequence: Sequence,
    pub stream: Option<Stream>,
    pub events: Events,
    pub traffic: Traffic,
    pub pause: Pause,
    pub clients: Clients,
    pub sources: Sources,
    pub graph: Graph,
    pub resume: Resume,
    pub accept_errors: u64,
    pub slow_clients: Vec<SlowClient>,
    pub recent_closes: Vec<RecentClose>,
    pub process: Process,
    pub histograms: Histograms,
    /// The settings in force, as in a configuration file.
    pub settings: Map<String, Value>,
}

/// The server itself.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Server {
    pub version: &'static str,
    pub pid: u32,
    #[serde(serialize_with = "in_seconds")]
    pub uptime_seconds: Duration,
    pub state: State,
    pub unready_reason: Option<String>,
}

/// What the server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Events are read and applied.
    #[default]
    Running,
    /// The journal is replayed or the stream read, before sources and clients are listened to.
    Replaying,
    /// Slow clients pause applying and reading.
    Paused,
    /// The server is stopping.
    Draining,
}

/// The order of events.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Sequence {
    pub awaited: u64,
    pub committed: Option<u64>,
    pub state_hash: Option<String>,
    pub buffered_events: usize,
    pub max_buffered_events: usize,
    pub gap: Option<Gap>,
}

/// The missing sequences before the first buffered one.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Gap {
    pub first_missing: u64,
    #[serde(serialize_with = "in_seconds")]
    pub age_seconds: Duration,
}

/// The stream that several servers share.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Stream {
    pub position: u64,
    pub end: u64,
    pub lag: u64,
    pub trouble: Option<&'static str>,
    pub own_entries: u64,
    pub other_entries: u64,
    pub covered_batches: u64,
    pub repaired_entries: u64,
    pub errors: u64,
    pub retained_bytes: u64,
}

/// Events and lines of sources.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Events {
    pub applied: u64,
    pub follows: u64,
    pub unfollows: u64,
    pub broadcasts: u64,
    pub private_messages: u64,
    pub status_updates: u64,
    pub malformed: u64,
    pub void: u64,
    pub duplicate: u64,
    pub late: u64,
    pub lost: u64,
    pub unterminated: u64,
}

/// Lines and bytes in and out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Traffic {
    pub lines_queued: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub queued_bytes: u64,
}

/// Pauses for slow clients.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Pause {
    pub pauses: u64,
    #[serde(serialize_with = "in_seconds")]
    pub paused_seconds: Duration,
    #[serde(serialize_with = "in_seconds_if_any")]
    pub current_pause_seconds: Option<Duration>,
}

/// Clients, registered or not.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Clients {
    pub connected: usize,
    pub max: usize,
    pub accepted: u64,
    pub full_queues: usize,
    pub closed: BTreeMap<&'static str, u64>,
}

/// Sources.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Sources {
    pub connected: usize,
    pub max: usize,
    pub accepted: u64,
    pub closed: BTreeMap<&'static str, u64>,
}

/// The follower graph.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Graph {
    pub users: usize,
    pub follows: usize,
}

/// Clients that come back for what they have missed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Resume {
    pub resuming: usize,
    pub started: u64,
    pub completed: u64,
    pub gaps: u64,
    pub lines_replayed: u64,
    pub kept_events: u64,
    pub kept_bytes: u64,
}

/// A client with queued bytes.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct SlowClient {
    #[serde(serialize_with = "as_text_if_any")]
    pub user: Option<u64>,
    pub peer: SocketAddr,
    pub queued_bytes: u64,
}

/// A closed connection.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct RecentClose {
    pub side: Side,
    #[serde(serialize_with = "as_text_if_any")]
    pub user: Option<u64>,
    pub peer: SocketAddr,
    pub reason: &'static str,
    pub expected: bool,
    /// What the peer sent, if that is the reason. It may contain anything.
    pub input: Option<String>,
    pub queued_bytes: u64,
    #[serde(serialize_with = "in_seconds")]
    pub age_seconds: Duration,
}

/// The port of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client port.
    Client,
    /// The event port.
    Source,
}

/// The process, as the operating system sees it. `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "described in STATUS.md")]
pub struct Process {
    pub resident_bytes: Option<u64>,
    pub peak_resident_bytes: Option<u64>,
    #[serde(serialize_with = "in_seconds_if_any")]
    pub cpu_seconds: Option<Duration>,
    pub open_descriptors: Option<u64>,
    pub max_descriptors: Option<u64>,
}

/// Serializes a time in seconds, to the millisecond.
fn in_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_millis() as f64 / 1000.0)
}

fn in_seconds_if_any<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => in_seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Serializes a user as a string, because many JSON readers take numbers for 53 bits wide.
fn as_text_if_any<S: Serializer>(user: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match user {
        Some(user) => serializer.collect_str(user),
        None => serializer.serialize_none(),
    }
}

/// A status in which nothing is empty, for tests of what is made of it.
#[cfg(test)]
pub(super) mod sample {
    use std::net::Ipv4Addr;

    use super::*;

    pub(in super::super) fn status() -> Status {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
        let second = Duration::from_secs(1);
        let closed = BTreeMap::from([("closed_by_peer", 3), ("stalled", 1)]);
        let mut histograms = Histograms::default();
        histograms.turn_seconds.record(25_000);
        histograms.turn_events.record(12);
        histograms.delivery_delay_seconds.record(90_000);
        let settings = [("reorderWindow", 262_144), ("totalQueueBytes", 1 << 29)];
        Status {
            schema: SCHEMA,
            server: Server {
                version: "0.1.0",
                pid: 42,
                uptime_seconds: 100 * second,
                state: State::Draining,
                unready_reason: Some("draining".to_owned()),
            },
            sequence: Sequence {
                awaited: u64::MAX,
                committed: Some(u64::MAX - 1),
                state_hash: Some("0123456789abcdef".repeat(2)),
                buffered_events: 5,
                max_buffered_events: 6,
                gap: Some(Gap { first_missing: u64::MAX, age_seconds: second }),
            },
            stream: Some(Stream { position: 7, end: 9, lag: 2, ..Stream::default() }),
            events: Events {
                applied: 15,
                follows: 1,
                broadcasts: 14,
                void: 2,
                ..Events::default()
            },
            traffic: Traffic { lines_queued: 7, bytes_read: 8, bytes_written: 9, queued_bytes: 10 },
            pause: Pause {
                pauses: 1,
                paused_seconds: second / 3,
                current_pause_seconds: Some(second),
            },
            clients: Clients {
                connected: 2,
                max: 3,
                accepted: 4,
                full_queues: 1,
                closed: closed.clone(),
            },
            sources: Sources { connected: 1, max: 2, accepted: 3, closed },
            graph: Graph { users: 3, follows: 4 },
            resume: Resume { started: 5, completed: 4, resuming: 1, ..Resume::default() },
            accept_errors: 1,
            slow_clients: vec![SlowClient { user: Some(u64::MAX), peer, queued_bytes: 10 }],
            recent_closes: vec![RecentClose {
                side: Side::Client,
                user: None,
                peer,
                reason: "bad_id",
                expected: false,
                input: Some("<script>\"".to_owned()),
                queued_bytes: 0,
                age_seconds: second,
            }],
            process: Process {
                resident_bytes: Some(1 << 20),
                peak_resident_bytes: Some(1 << 21),
                cpu_seconds: Some(second),
                open_descriptors: Some(10),
                max_descriptors: Some(1024),
            },
            histograms,
            settings: settings
                .map(|(key, value)| (key.to_owned(), value.into()))
                .into_iter()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("STATUS.md");

    /// Adds the path of each value, such as `clients.closed.REASON` for a key that differs.
    fn collect_names(path: &str, value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(_) if path == "settings" || path.ends_with(".closed") => {
                names.push(path.to_owned());
            }
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect_names(&path, value, names);
                }
            }
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                collect_names(&format!("{path}[]"), &items[0], names);
            }
            _ => names.push(path.to_owned()),
        }
    }

    #[test]
    fn every_name_is_described_and_nothing_else() {
        let status = serde_json::to_value(sample::status()).unwrap();
        let mut names = Vec::new();
        collect_names("", &status, &mut names);
        let rows = REFERENCE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let described: Vec<&str> = rows.collect();
        assert_eq!(described, names);
    }

    #[test]
    fn numbers_keep_their_precision_and_input_stays_text() {
        let json = serde_json::to_string(&sample::status()).unwrap();
        for part in [
            r#""awaited":18446744073709551615,"#,
            r#""user":"18446744073709551615","#,
            r#""input":"<script>\"","#,
            r#""paused_seconds":0.333,"#,
            r#""state":"draining","#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }
}
