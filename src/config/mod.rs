//! The settings: name, default, bounds and reason of each, in the one table below.
//!
//! Flags override the configuration file, which overrides the defaults. All values are validated before
//! the server starts. An error names the value, its origin and the allowed values.

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
    Choice, Integer, ListenAddress, ListenPort, Millis, OptionalInteger, OptionalListen,
    OptionalMillis, OptionalPath, SettingType, Toggle,
};

settings! {
    /// The address for event sources. Loopback by default, because whatever reaches it controls the stream.
    event_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        option String "event-listen",
        "address for event sources, as [ADDRESS:]PORT; a port alone listens on 127.0.0.1, because \
         whatever reaches it controls the stream; port 0 selects a free port [default: 127.0.0.1:9090]",
        "eventListenerPort" => ListenPort, "eventListenerAddress" => ListenAddress;

    /// The address for user clients. Loopback by default, so that opening it to other machines is explicit.
    client_listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9099)),
        option String "client-listen",
        "address for user clients, as [ADDRESS:]PORT; 0.0.0.0:9099 or [::]:9099 opens it to other machines \
         [default: 127.0.0.1:9099]",
        "clientListenerPort" => ListenPort, "clientListenerAddress" => ListenAddress;

    /// The address for operators' HTTP. `None`: not served. Loopback unless an address is given.
    admin_listen: Option<SocketAddr> = None,
        option String "admin-listen",
        "address for operators' HTTP, as [ADDRESS:]PORT or none; a port alone listens on 127.0.0.1; port 0 \
         selects a free port [default: none]",
        "adminListen" => OptionalListen;

    /// The sequence of the first event.
    first_sequence: u64 = 1,
        option String "first-sequence",
        "sequence of the first event, 0 to 18446744073709551614 [default: 1]",
        "firstSequence" => Integer(0..=u64::MAX - 1);

    /// The reorder window: how many sequences ahead of the awaited one an event may be. Memory grows with
    /// use.
    reorder_window: u32 = 262_144,
        option String "reorder-window",
        "how many sequences ahead of the awaited one an event may be, 1 to 67108864 [default: 262144]",
        "reorderWindow" => Integer(1..=1 << 26);

    /// The time after which missing sequences are skipped. `None`: never.
    gap_timeout: Option<Duration> = None,
        option String "gap-timeout-ms",
        "skip missing sequences after this many milliseconds, 0 to 86400000; 0 means never [default: 0]",
        "gapTimeoutMs" => OptionalMillis(86_400_000);

    /// The effect of the last source's disconnect on order and graph.
    on_source_disconnect: OnSourceDisconnect = OnSourceDisconnect::Keep,
        option String "on-source-disconnect",
        "when the last event source disconnects, keep sequence and follows for the next one, or reset \
         them, for repeated test runs [default: keep]",
        "onSourceDisconnect" => Choice(&[
            ("keep", OnSourceDisconnect::Keep),
            ("reset", OnSourceDisconnect::Reset),
        ]);

    /// The maximum number of connected sources.
    max_sources: usize = 64,
        option String "max-sources",
        "maximum number of connected event sources, 1 to 1024 [default: 64]",
        "maxSources" => Integer(1..=1024);

    /// The maximum number of connected clients. `None`: as many as the descriptor limit allows.
    max_clients: Option<usize> = None,
        option String "max-clients",
        "maximum number of connected clients, 1 to 16777216 [default: as the limit on open files allows]",
        "maxClients" => OptionalInteger(1..=1 << 24);

    /// The maximum number of connected clients per IP address. `None`: no such limit.
    max_clients_per_address: Option<usize> = None,
        option String "max-clients-per-address",
        "maximum number of connected clients per IP address, 1 to 16777216 [default: no such limit]",
        "maxClientsPerAddress" => OptionalInteger(1..=1 << 24);

    /// The maximum length of a source's line without its terminator, in bytes. The longest valid line
    /// without leading zeros has 64.
    max_line_bytes: usize = 256,
        option String "max-line-bytes",
        "maximum length of a source's line in bytes, 64 to 65536 [default: 256]",
        "maxLineBytes" => Integer(64..=65_536);

    /// The timeout for a client's id line.
    identify_timeout: Duration = Duration::from_secs(10),
        option String "identify-timeout-ms",
        "milliseconds that a client may take to send its id, 10 to 3600000 [default: 10000]",
        "identifyTimeoutMs" => Millis(10..=3_600_000);

    /// The time after which the connection of an unreachable peer is closed.
    peer_timeout: Duration = Duration::from_secs(60),
        option String "peer-timeout-ms",
        "milliseconds after which an unreachable peer is disconnected, 1000 to 3600000 [default: 60000]",
        "peerTimeoutMs" => Millis(1000..=3_600_000);

    /// The queue limit per client, in bytes.
    client_queue_bytes: u64 = 4 << 20,
        option String "client-queue-bytes",
        "maximum number of queued bytes per client, 4096 to 4294967296 [default: 4194304, 4 MiB]",
        "clientQueueBytes" => Integer(4096..=1 << 32);

    /// The queue limit for all clients together, in bytes. At least the limit per client.
    total_queue_bytes: u64 = 512 << 20,
        option String "total-queue-bytes",
        "maximum number of queued bytes for all clients together, 4096 to 1099511627776, at least the \
         maximum per client [default: 536870912, 512 MiB]",
        "totalQueueBytes" => Integer(4096..=1 << 40);

    /// The reaction to a client whose queue is full.
    slow_client: SlowClient = SlowClient::Pause,
        option String "slow-client",
        "when a client's queue is full, pause the sources until it has caught up, or disconnect the \
         client [default: pause]",
        "slowClient" => Choice(&[
            ("pause", SlowClient::Pause),
            ("disconnect", SlowClient::Disconnect),
        ]);

    /// The timeout for a client to bring its full queue down to half.
    stall_timeout: Duration = Duration::from_secs(30),
        option String "stall-timeout-ms",
        "milliseconds that a client may take to bring its full queue down to half before it is \
         disconnected, 10 to 3600000 [default: 30000]",
        "stallTimeoutMs" => Millis(10..=3_600_000);

    /// The timeout for delivering queued bytes during a shutdown.
    drain_timeout: Duration = Duration::from_secs(5),
        option String "drain-timeout-ms",
        "milliseconds that a shutdown may take to deliver queued bytes, 0 to 3600000 [default: 5000]",
        "drainTimeoutMs" => Millis(0..=3_600_000);

    /// Polls without sleeping, for a server with a dedicated core.
    busy_poll: bool = false,
        switch bool "busy-poll",
        "poll without sleeping, for a server with a dedicated core [default: false]",
        "busyPoll" => Toggle;

    /// The log level. Totals are logged at `info`.
    log_level: LevelFilter = LevelFilter::Info,
        option String "log-level",
        "log level on standard error: off, error, warn, info, debug or trace [default: info]",
        "logLevel" => Choice(&[
            ("off", LevelFilter::Off),
            ("error", LevelFilter::Error),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("debug", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ]);

    /// The file to which all accepted lines of sources are written. `None`: no capture.
    capture: Option<PathBuf> = None,
        option String "capture",
        "write all accepted lines of sources to this file [default: none]",
        "capture" => OptionalPath;
}

/// The effect of the last source's disconnect on order and graph. Counts sources that sent a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSourceDisconnect {
    /// Order and graph are kept for the next source.
    Keep,
    /// Order and graph are reset, for repeated test runs.
    Reset,
}

/// The reaction to an event that does not fit a client's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowClient {
    /// Pauses applying and reading until the queue is half empty or the client is disconnected.
    Pause,
    /// Disconnects the client immediately.
    Disconnect,
}

/// The parsed arguments of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Runs the server with these settings.
    Run(Box<Config>),
    /// Prints a text on standard output and exits: help, version or the effective settings.
    Print(String),
}

impl Invocation {
    /// Parses the program's arguments (without its name) and reads the configuration file that they name.
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
    /// Parses the text of a configuration file. Errors name it `file`.
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

/// Formats the settings as a configuration file.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", Value::Object(self.to_json()))
    }
}

/// The settings under construction, with the origin of each.
#[derive(Default)]
struct ConfigBuilder {
    config: Config,
    origins: Origins,
}

impl ConfigBuilder {
    fn apply_json(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let object: file::JsonObject = serde_json::from_str(text)
            .map_err(|reason| Error::Parse { file: file.to_owned(), reason })?;
        for (key, value) in &object.0 {
            let origin = Origin::Key { file: file.to_owned(), key: key.clone() };
            self.apply_key(origin.clone(), key, value)
                .unwrap_or_else(|| Err(error::unknown_key_message(key, KEYS)))
                .map_err(|reason| Error::invalid_value(&origin, &value.to_string(), reason))?;
        }
        Ok(())
    }

    /// Returns the settings if they are consistent with each other.
    fn validate(self) -> Result<Config, Error> {
        let ConfigBuilder { config, origins } = self;
        check_listeners(&config, &origins)?;
        if config.total_queue_bytes < config.client_queue_bytes {
            return Err(Error::Conflict(format!(
                "the queue limit for all clients, {} bytes ({}), is below the one for each client, \
                 {} bytes ({}): raise --total-queue-bytes (\"totalQueueBytes\") or lower \
                 --client-queue-bytes (\"clientQueueBytes\")",
                config.total_queue_bytes,
                origins.total_queue_bytes,
                config.client_queue_bytes,
                origins.client_queue_bytes
            )));
        }
        Ok(config)
    }
}

/// Checks that no two listeners have the same address, unless the port is 0.
fn check_listeners(config: &Config, origins: &Origins) -> Result<(), Error> {
    let mut listeners = vec![
        ("events", config.event_listen, &origins.event_listen),
        ("clients", config.client_listen, &origins.client_listen),
    ];
    listeners.extend(config.admin_listen.map(|address| ("admin", address, &origins.admin_listen)));
    for (index, (purpose, address, origin)) in listeners.iter().enumerate() {
        for (first_purpose, first_address, first_origin) in &listeners[..index] {
            if first_address == address && address.port() != 0 {
                return Err(Error::Conflict(format!(
                    "{first_purpose} ({first_origin}) and {purpose} ({origin}) cannot both listen on \
                     {address}: give one of them another port"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
