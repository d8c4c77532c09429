//! Every setting: its name, default, bounds and reason, in one place, the table below.
//!
//! Flags win over the configuration file, which wins over the defaults. All of it is checked
//! before the server starts; what is wrong is named together with what would be right.

#[macro_use]
mod table;
mod error;
mod file;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs};

use argh::{EarlyExit, FromArgs};
use log::LevelFilter;
use serde_json::{Map, Value};

pub use error::{Error, Origin};
use value::{
    Choice, Integer, ListenAddress, ListenPort, Millis, OptionalInteger, OptionalMillis,
    OptionalPath, SettingType, Toggle,
};

settings! {
    /// Where event sources connect. Loopback: who reaches it controls the stream.
    event_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        option String "event-listen",
        "where event sources connect, as [ADDRESS:]PORT; a bare port means 127.0.0.1, since whoever \
         reaches it controls the stream; port 0 takes any free one (default 127.0.0.1:9090)",
        "eventListenerPort" => ListenPort, "eventListenerAddress" => ListenAddress;

    /// Where user clients connect. Loopback: opened to others on purpose only.
    client_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9099)),
        option String "client-listen",
        "where user clients connect, as [ADDRESS:]PORT; 0.0.0.0:9099 or [::]:9099 opens it to other machines \
         (default 127.0.0.1:9099)",
        "clientListenerPort" => ListenPort, "clientListenerAddress" => ListenAddress;

    /// The sequence of the first event.
    first_sequence: u64 = 1,
        option String "first-sequence",
        "sequence of the first event, 0 to 18446744073709551614 (default 1)",
        "firstSequence" => Integer(0..=u64::MAX - 1);

    /// How far ahead of the awaited sequence an event may be, in events. Memory grows with use.
    reorder_window: u32 = 262_144,
        option String "reorder-window",
        "how many events ahead of the awaited one an event may be, 1 to 67108864 (default 262144)",
        "reorderWindow" => Integer(1..=1 << 26);

    /// After this long a missing sequence is given up. `None`: never.
    gap_timeout: Option<Duration> = None,
        option String "gap-timeout-ms",
        "give a missing sequence up after this many milliseconds, 0 to 86400000 (default 0, which \
         means never)",
        "gapTimeoutMs" => OptionalMillis(86_400_000);

    /// What a source's end means for order and graph.
    on_source_disconnect: OnSourceDisconnect = OnSourceDisconnect::Keep,
        option String "on-source-disconnect",
        "when the last event source ends, keep sequence and follows for the next one, or reset \
         them, for repeated test runs (default keep)",
        "onSourceDisconnect" => Choice(&[
            ("keep", OnSourceDisconnect::Keep),
            ("reset", OnSourceDisconnect::Reset),
        ]);

    /// Sources open at once.
    max_sources: usize = 64,
        option String "max-sources",
        "event sources connected at once, 1 to 1024 (default 64)",
        "maxSources" => Integer(1..=1024);

    /// Clients connected at once. `None`: what the descriptor limit allows.
    max_clients: Option<usize> = None,
        option String "max-clients",
        "clients connected at once, 1 to 16777216 (default: what the limit on open files allows)",
        "maxClients" => OptionalInteger(1..=1 << 24);

    /// Clients connected at once from one IP address. `None`: no limit of its own.
    max_clients_per_address: Option<usize> = None,
        option String "max-clients-per-address",
        "clients connected at once from one IP address, 1 to 16777216 (default: no such limit)",
        "maxClientsPerAddress" => OptionalInteger(1..=1 << 24);

    /// The longest line of a source, without its terminator, in bytes. The longest valid one
    /// without leading zeros has 64.
    max_line_bytes: usize = 256,
        option String "max-line-bytes",
        "longest line of a source, 64 to 65536 (default 256)",
        "maxLineBytes" => Integer(64..=65_536);

    /// How long a client may take to send its id line.
    identify_timeout: Duration = Duration::from_secs(10),
        option String "identify-timeout-ms",
        "milliseconds a client may take to send its id, 10 to 3600000 (default 10000)",
        "identifyTimeoutMs" => Millis(10..=3_600_000);

    /// How long a peer may be unreachable before its connection is closed.
    peer_timeout: Duration = Duration::from_secs(60),
        option String "peer-timeout-ms",
        "milliseconds after which a peer that vanished without a word is disconnected, 1000 to \
         3600000 (default 60000)",
        "peerTimeoutMs" => Millis(1000..=3_600_000);

    /// Bytes that may be queued for one client.
    client_queue_bytes: u64 = 4 << 20,
        option String "client-queue-bytes",
        "bytes that may be queued for one client, 4096 to 4294967296 (default 4194304, 4 MiB)",
        "clientQueueBytes" => Integer(4096..=1 << 32);

    /// Bytes that may be queued for all clients together, no less than for one.
    total_queue_bytes: u64 = 512 << 20,
        option String "total-queue-bytes",
        "bytes that may be queued for all clients together, 4096 to 1099511627776, but no less \
         than for one (default 536870912, 512 MiB)",
        "totalQueueBytes" => Integer(4096..=1 << 40);

    /// What happens when a client's queue is full.
    slow_client: SlowClient = SlowClient::Pause,
        option String "slow-client",
        "when a client's queue is full, pause the sources until it has caught up, or disconnect \
         it (default pause)",
        "slowClient" => Choice(&[
            ("pause", SlowClient::Pause),
            ("disconnect", SlowClient::Disconnect),
        ]);

    /// How long a client may take to bring a full queue down to half.
    stall_timeout: Duration = Duration::from_secs(30),
        option String "stall-timeout-ms",
        "milliseconds a client may take to bring a full queue down to half before it is \
         disconnected, 10 to 3600000 (default 30000)",
        "stallTimeoutMs" => Millis(10..=3_600_000);

    /// How long a stop waits for queued bytes to leave.
    drain_timeout: Duration = Duration::from_secs(5),
        option String "drain-timeout-ms",
        "milliseconds a stop waits for queued bytes to leave, 0 to 3600000 (default 5000)",
        "drainTimeoutMs" => Millis(0..=3_600_000);

    /// Never sleep in poll: for a core of its own.
    busy_poll: bool = false,
        switch bool "busy-poll",
        "never sleep while there is nothing to do: for a core of its own (default false)",
        "busyPoll" => Toggle;

    /// What is logged. The totals log at `info`.
    log_level: LevelFilter = LevelFilter::Info,
        option String "log-level",
        "what is logged to standard error: off, error, warn, info, debug or trace (default info)",
        "logLevel" => Choice(&[
            ("off", LevelFilter::Off),
            ("error", LevelFilter::Error),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("debug", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ]);

    /// The file that every accepted line of a source is written to. `None`: none.
    capture: Option<PathBuf> = None,
        option String "capture",
        "write every accepted line of a source to this file (default: none)",
        "capture" => OptionalPath;
}

/// What happens to the order and the graph when the last source that sent a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSourceDisconnect {
    /// They go on when a source comes back.
    Keep,
    /// They start anew: for repeated test runs.
    Reset,
}

/// What happens when an event does not fit a client's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClient {
    /// Applying and reading stop until the client has caught up by half, or is given up.
    Pause,
    /// The client is disconnected at once.
    Disconnect,
}

/// What the program's arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// To serve with these settings.
    Run(Box<Config>),
    /// To print this on standard output, and no more: help, the version, the settings in force.
    Print(String),
}

impl Invocation {
    /// Reads the program's arguments (without its name), and the configuration file they name.
    pub fn parse(arguments: &[&str]) -> Result<Invocation, Error> {
        let flags = match Flags::from_args(&[env!("CARGO_PKG_NAME")], arguments) {
            Ok(flags) => flags,
            Err(EarlyExit { output, status: Ok(()) }) => return Ok(Invocation::Print(output)),
            Err(EarlyExit { output, .. }) => return Err(Error::usage(&output, FLAGS)),
        };
        if flags.version {
            return Ok(Invocation::Print(
                concat!("eventserver ", env!("CARGO_PKG_VERSION")).into(),
            ));
        }
        let config = Config::from_flags(&flags)?;
        if flags.check_config {
            return Ok(Invocation::Print(config.to_string()));
        }
        Ok(Invocation::Run(Box::new(config)))
    }
}

impl Config {
    /// Reads the text of a configuration file; errors call it `file`.
    pub fn from_json(file: &str, text: &str) -> Result<Config, Error> {
        let mut settings = ConfigBuilder::default();
        settings.apply_json(file, text)?;
        settings.validate()
    }

    fn from_flags(flags: &Flags) -> Result<Config, Error> {
        let mut settings = ConfigBuilder::default();
        if let Some(file) = &flags.config {
            let text = fs::read_to_string(file)
                .map_err(|reason| Error::Read { file: file.clone(), reason })?;
            settings.apply_json(file, &text)?;
        }
        settings.apply_flags(flags)?;
        settings.validate()
    }
}

/// The text of a configuration file that gives these settings.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", Value::Object(self.to_json()))
    }
}

/// ConfigBuilder while they are put together, each with where it comes from.
#[derive(Default)]
struct ConfigBuilder {
    config: Config,
    places: Origins,
}

impl ConfigBuilder {
    fn apply_json(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let object: file::Object = serde_json::from_str(text)
            .map_err(|reason| Error::Parse { file: file.to_owned(), reason })?;
        for (key, value) in &object.0 {
            let place = Origin::Key { file: file.to_owned(), key: key.clone() };
            self.apply_key(place.clone(), key, value)
                .unwrap_or_else(|| Err(error::unknown_key_message(key, KEYS)))
                .map_err(|reason| Error::invalid_value(&place, &value.to_string(), reason))?;
        }
        Ok(())
    }

    /// The settings, if they go together.
    fn validate(self) -> Result<Config, Error> {
        let ConfigBuilder { config, places } = self;
        if config.event_listen == config.client_listen && config.event_listen.port() != 0 {
            return Err(Error::Conflict(format!(
                "events ({}) and clients ({}) cannot both listen on {}: give one of them another \
                 port",
                places.event_listen, places.client_listen, config.event_listen
            )));
        }
        if config.total_queue_bytes < config.client_queue_bytes {
            return Err(Error::Conflict(format!(
                "the queue limit for all clients, {} bytes ({}), is below the one for each client, \
                 {} bytes ({}): raise --total-queue-bytes (\"totalQueueBytes\") or lower \
                 --client-queue-bytes (\"clientQueueBytes\")",
                config.total_queue_bytes,
                places.total_queue_bytes,
                config.client_queue_bytes,
                places.client_queue_bytes
            )));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
