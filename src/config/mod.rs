//! All settings, with name, default, bounds and reason, in the one table below. A new row adds a setting.
//!
//! Flags override environment variables, which override the configuration file, which overrides the
//! defaults. All values are validated before the server starts. An error names the value, its origin and the
//! allowed values. Help, manual page and shell completions are made from the table.

#[macro_use]
mod table;
mod arguments;
mod builder;
mod environment;
mod error;
mod file;
mod invocation;
mod listen;
mod number;
mod print;
mod setting;
mod stream_url;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{Map, Value};

use self::builder::ConfigBuilder;
use self::listen::{ListenAddress, ListenPort, OptionalListen};
use self::setting::{Effect, Group, Setting};
use self::stream_url::OptionalStream;
use self::value::{
    Bytes, Choice, Integer, Millis, OptionalBytes, OptionalInteger, OptionalMillis, OptionalPath,
    SettingType, Sync, Toggle,
};

pub use self::environment::Environment;
pub use self::error::{Error, Origin};
pub use self::invocation::{ConfigSource, Invocation};
pub use self::stream_url::StreamUrl;

settings! {
    /// The address for event sources. Loopback by default, because whatever reaches it controls the stream.
    event_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        Listen, Restart, "event-listen" "[ADDR:]PORT",
        "address for event sources; a port alone listens on 127.0.0.1, because whatever reaches it controls \
         the stream; port 0 selects a free port",
        "eventListenerPort" => ListenPort, "eventListenerAddress" => ListenAddress;

    /// The address for user clients. Loopback by default, so that opening it to other machines is explicit.
    client_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9099)),
        Listen, Restart, "client-listen" "[ADDR:]PORT",
        "address for user clients; 0.0.0.0:9099 or [::]:9099 opens it to other machines",
        "clientListenerPort" => ListenPort, "clientListenerAddress" => ListenAddress;

    /// The address for operators' HTTP. `None`: not served. Loopback unless an address is given.
    admin_listen: Option<SocketAddr> = None,
        Listen, Restart, "admin-listen" "[ADDR:]PORT",
        "address for operators' HTTP",
        "adminListen" => OptionalListen;

    /// The sequence of the first event.
    first_sequence: u64 = 1,
        Order, Restart, "first-sequence" "N",
        "sequence of the first event",
        "firstSequence" => Integer(0..=u64::MAX - 1);

    /// The reorder window: how many sequences ahead of the awaited one an event may be. Memory grows with
    /// use.
    reorder_window: u32 = 262_144,
        Order, Restart, "reorder-window" "N",
        "how many sequences ahead of the awaited one an event may be",
        "reorderWindow" => Integer(1..=1 << 26);

    /// The time after which missing sequences are skipped. `None`: never.
    gap_timeout: Option<Duration> = None,
        Order, Reload, "gap-timeout-ms" "TIME",
        "skip missing sequences after this time; 0 means never",
        "gapTimeoutMs" => OptionalMillis(86_400_000);

    /// The effect of the last source's disconnect on order and graph.
    on_source_disconnect: OnSourceDisconnect = OnSourceDisconnect::Keep,
        Order, Restart, "on-source-disconnect" "MODE",
        "when the last event source disconnects, keep sequence and follows for the next one, or reset \
         them, for repeated test runs",
        "onSourceDisconnect" => Choice(&[
            ("keep", OnSourceDisconnect::Keep),
            ("reset", OnSourceDisconnect::Reset),
        ]);

    /// The maximum number of connected sources.
    max_sources: usize = 64,
        Limits, Reload, "max-sources" "N",
        "maximum number of connected event sources",
        "maxSources" => Integer(1..=1024);

    /// The maximum number of connected clients. `None`: as many as the descriptor limit allows.
    max_clients: Option<usize> = None,
        Limits, Reload, "max-clients" "N",
        "maximum number of connected clients",
        "maxClients" => OptionalInteger(1..=1 << 24, "as the limit on open files allows");

    /// The maximum number of connected clients per IP address. `None`: no such limit.
    max_clients_per_address: Option<usize> = None,
        Limits, Reload, "max-clients-per-address" "N",
        "maximum number of connected clients per IP address",
        "maxClientsPerAddress" => OptionalInteger(1..=1 << 24, "no such limit");

    /// The maximum length of a source's line without its terminator, in bytes. The longest valid line
    /// without leading zeros has 64.
    max_line_bytes: usize = 256,
        Limits, Reload, "max-line-bytes" "SIZE",
        "maximum length of a source's line",
        "maxLineBytes" => Bytes(64..=65_536);

    /// The timeout for a client's ID line.
    identify_timeout: Duration = Duration::from_secs(10),
        Timeouts, Reload, "identify-timeout-ms" "TIME",
        "how long a client may take to send its ID",
        "identifyTimeoutMs" => Millis(10..=3_600_000);

    /// The time after which the connection of an unreachable peer is closed.
    peer_timeout: Duration = Duration::from_secs(60),
        Timeouts, Reload, "peer-timeout-ms" "TIME",
        "how long a connected peer may be unreachable before it is disconnected",
        "peerTimeoutMs" => Millis(1000..=3_600_000);

    /// The queue limit per client, in bytes.
    client_queue_bytes: u64 = 4 << 20,
        Queues, Reload, "client-queue-bytes" "SIZE",
        "maximum number of queued bytes per client",
        "clientQueueBytes" => Bytes(4096..=1 << 32);

    /// The queue limit for all clients together, in bytes. At least the limit per client.
    total_queue_bytes: u64 = 512 << 20,
        Queues, Reload, "total-queue-bytes" "SIZE",
        "maximum number of queued bytes for all clients together, at least the maximum per client",
        "totalQueueBytes" => Bytes(4096..=1 << 40);

    /// The size of the kernel's send buffer per client, in bytes (`SO_SNDBUF`). Linux doubles it, for its own
    /// bookkeeping, and limits it to `net.core.wmem_max`. `None`: as the kernel chooses, up to the last number
    /// of `net.ipv4.tcp_wmem`.
    client_send_buffer_bytes: Option<u64> = None,
        Queues, Reload, "client-send-buffer-bytes" "SIZE",
        "size of the kernel's send buffer per client, which Linux doubles; a full one is held in addition \
         to the queue",
        "clientSendBufferBytes" => OptionalBytes(4096..=1 << 30, "as the kernel chooses");

    /// The reaction to a client whose queue is full.
    slow_client: SlowClient = SlowClient::Pause,
        Queues, Reload, "slow-client" "MODE",
        "when a client's queue is full, pause the sources until it has caught up, or disconnect the client",
        "slowClient" => Choice(&[
            ("pause", SlowClient::Pause),
            ("disconnect", SlowClient::Disconnect),
        ]);

    /// The timeout for a client to bring its full queue down to half.
    stall_timeout: Duration = Duration::from_secs(30),
        Timeouts, Reload, "stall-timeout-ms" "TIME",
        "how long a client may take to bring its full queue down to half before it is disconnected; for \
         --slow-client pause",
        "stallTimeoutMs" => Millis(10..=3_600_000);

    /// The timeout for delivering queued bytes during a shutdown.
    drain_timeout: Duration = Duration::from_secs(5),
        Timeouts, Reload, "drain-timeout-ms" "TIME",
        "how long a shutdown may take to deliver queued bytes",
        "drainTimeoutMs" => Millis(0..=3_600_000);

    /// Polls without sleeping, for a server with a dedicated core.
    busy_poll: bool = false,
        Running, Restart, "busy-poll" "BOOL",
        "poll without sleeping, for a server with a dedicated core",
        "busyPoll" => Toggle;

    /// The log level. Totals are logged at `info`.
    log_level: LevelFilter = LevelFilter::Info,
        Logging, Reload, "log-level" "LEVEL",
        "the least severe level that is logged, on standard error",
        "logLevel" => Choice(&[
            ("off", LevelFilter::Off),
            ("error", LevelFilter::Error),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("debug", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ]);

    /// The form of the log's lines.
    log_format: LogFormat = LogFormat::Text,
        Logging, Reload, "log-format" "FORM",
        "the form of the log's lines: text for people, json for programs, one object a line",
        "logFormat" => Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

    /// The file to which all accepted lines of sources are written. `None`: no capture.
    capture: Option<PathBuf> = None,
        Running, Restart, "capture" "FILE",
        "write all accepted lines of sources to this new file or named pipe",
        "capture" => OptionalPath;

    /// The directory of the journal. `None`: the state lives in memory, and a restart forgets it.
    data_dir: Option<PathBuf> = None,
        Journal, Restart, "data-dir" "DIR",
        "keep sequence and follows in a journal in this directory, so that a restart continues where the \
         server stopped; with --stream, what was read from there",
        "dataDir" => OptionalPath;

    /// When the journal is forced to disk.
    sync: SyncMode = SyncMode::Always,
        Journal, Restart, "sync" "WHEN",
        "when the journal is forced to disk: before an event is applied, at an interval, or never; a power \
         cut loses what was not forced, the end of the process loses nothing",
        "sync" => Sync(1..=60_000);

    /// The size of the segments that the journal keeps before its newest snapshot, in bytes.
    journal_retain_bytes: u64 = 256 << 20,
        Journal, Restart, "journal-retain-bytes" "BYTES",
        "size of the journal kept before its newest snapshot",
        "journalRetainBytes" => Bytes(0..=1 << 48);

    /// The stream that several servers share. `None`: this server is alone.
    stream: Option<StreamUrl> = None,
        Stream, Restart, "stream" "URL",
        "share one ordered stream with other servers: redis://HOST:PORT/DB?stream=NAME, rediss:// or unix://",
        "stream" => OptionalStream;

    /// Whether the stream is created if it does not exist. Without it a missing stream is an error, so that
    /// an emptied engine is noticed.
    stream_create: bool = false,
        Stream, Restart, "stream-create" "BOOL",
        "create the stream if it does not exist; for the first start only, because a stream that has vanished \
         would start anew",
        "streamCreate" => Toggle;

    /// The size of the stream that snapshots keep it below, in bytes.
    stream_max_bytes: u64 = 1 << 30,
        Stream, Restart, "stream-max-bytes" "BYTES",
        "size of the stream from which snapshots are published and older entries are removed",
        "streamMaxBytes" => Bytes(1 << 20..=1 << 48);

    /// How many of the newest events are kept for clients that come back with `ID|SEQUENCE`. 0: such an id line is
    /// malformed.
    resume_events: usize = 0,
        Queues, Restart, "resume-events" "N",
        "how many of the newest events are kept for clients that come back with ID|SEQUENCE, 5 to 12 bytes \
         each; 0 for none",
        "resumeEvents" => Integer(0..=1 << 26);
}

/// What happens to order and graph when the last source that has sent a line disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSourceDisconnect {
    /// Order and graph are kept for the next source.
    Keep,
    /// Order and graph are reset, for repeated test runs.
    Reset,
}

/// When the journal is forced to disk. In all modes events are written to it before they are applied, so that
/// the end of the process forgets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before an event is applied.
    Always,
    /// At this interval. A power cut loses at most the events of one interval.
    Every(Duration),
    /// When the operating system decides.
    Never,
}

/// The reaction to an event that does not fit a client's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClient {
    /// Pauses applying and reading until the queue is half empty or the client is disconnected.
    Pause,
    /// Disconnects the client immediately.
    Disconnect,
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings that differ at a [reload](Config::reload), by their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that have changed.
    pub changed: Vec<&'static str>,
    /// Settings that need a restart to change, and keep their values.
    pub unchangeable: Vec<&'static str>,
}

/// Formats the settings as a configuration file.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", Value::Object(self.to_json()))
    }
}

#[cfg(test)]
mod tests;
