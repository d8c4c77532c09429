//! Every setting: its name, default, bounds and reason, in one place.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What happens to the order and the graph when the last source that sent something ends.
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

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where event sources connect. Loopback: who reaches it controls the stream.
    pub event_listen: SocketAddr,
    /// Where user clients connect.
    pub client_listen: SocketAddr,
    /// The sequence of the first event.
    pub first_sequence: u64,
    /// How far ahead of the awaited sequence an event may be, in events. Memory grows with use.
    pub reorder_window: u32,
    /// After this long a missing sequence is given up. `None`: never.
    pub gap_timeout: Option<Duration>,
    /// What a source's end means for order and graph.
    pub on_source_disconnect: OnSourceDisconnect,
    /// Sources open at once.
    pub max_sources: usize,
    /// Clients connected at once. `None`: what the descriptor limit allows.
    pub max_clients: Option<usize>,
    /// The longest line of a source, without its terminator.
    pub max_line_bytes: usize,
    /// How long a client may take to send its id line.
    pub identify_timeout: Duration,
    /// Bytes that may be queued for one client.
    pub client_queue_bytes: u64,
    /// Bytes that may be queued for all clients together.
    pub total_queue_bytes: u64,
    /// What happens when a client's queue is full.
    pub slow_client: SlowClient,
    /// How long a client may take to bring a full queue down to half.
    pub stall_timeout: Duration,
    /// How long a stop waits for queued bytes to leave.
    pub drain_timeout: Duration,
    /// Never sleep in poll: for a core of its own.
    pub busy_poll: bool,
    /// What is logged.
    pub log_level: log::LevelFilter,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            event_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            client_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9099)),
            first_sequence: 1,
            reorder_window: 262_144,
            gap_timeout: None,
            on_source_disconnect: OnSourceDisconnect::Keep,
            max_sources: 64,
            max_clients: None,
            max_line_bytes: 256,
            identify_timeout: Duration::from_secs(10),
            client_queue_bytes: 4 << 20,
            total_queue_bytes: 512 << 20,
            slow_client: SlowClient::Pause,
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            busy_poll: false,
            log_level: log::LevelFilter::Info,
        }
    }
}
