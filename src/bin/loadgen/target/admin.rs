//! The figures that a server shows to its operators: `/status` of its admin port.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

use crate::target::server_log::Totals;

/// Timeout of connecting, and of each read.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a response, in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// The admin port of a server. Each request has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdminPort(pub(crate) SocketAddr);

impl AdminPort {
    /// Asks for the status, and waits for it.
    ///
    /// # Errors
    ///
    /// The server does not answer, or with something else; the error names the address.
    pub(crate) fn status(self) -> io::Result<Status> {
        let named = |error: io::Error| {
            let message = match error.kind() {
                ErrorKind::ConnectionRefused => format!(
                    "nothing listens at {}: start the server with --admin-listen {}",
                    self.0,
                    self.0.port()
                ),
                _ => format!("http://{}/status: {error}", self.0),
            };
            io::Error::new(error.kind(), message)
        };
        let response = self.get("/status").map_err(named)?;
        parse_response(&response).map_err(|why| named(io::Error::other(why)))
    }

    fn get(self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.0, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let host = self.0;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_string(&mut response)?;
        Ok(response)
    }
}

fn parse_response(response: &str) -> Result<Status, String> {
    let (head, body) = response.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(format!("the answer is `{line}`: {}", body.trim_end()));
    }
    serde_json::from_str(body).map_err(|error| format!("the answer is not a status: {error}"))
}

/// The status, as far as it is used here. The server's `STATUS.md` describes the names.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) server: ServerStatus,
    pub(crate) sequence: Sequence,
    pub(crate) events: Events,
    pub(crate) traffic: Traffic,
    pub(crate) pause: Pause,
    pub(crate) clients: Connections,
    pub(crate) sources: Connections,
    pub(crate) graph: Graph,
    pub(crate) slow_clients: Vec<SlowClient>,
    pub(crate) recent_closes: Vec<RecentClose>,
    pub(crate) process: ProcessStatus,
    pub(crate) histograms: Histograms,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServerStatus {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: f64,
    pub(crate) state: String,
    pub(crate) unready_reason: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sequence {
    pub(crate) awaited: u64,
    pub(crate) buffered_events: u64,
    pub(crate) gap: Option<Gap>,
    /// `None` if the server keeps none.
    #[serde(default)]
    pub(crate) state_hash: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) first_missing: u64,
    pub(crate) age_seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Events {
    pub(crate) applied: u64,
    pub(crate) malformed: u64,
    pub(crate) void: u64,
    pub(crate) duplicate: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) lines_queued: u64,
    pub(crate) bytes_written: u64,
    pub(crate) queued_bytes: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Pause {
    pub(crate) paused_seconds: f64,
    pub(crate) current_pause_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Connections {
    pub(crate) connected: u64,
    pub(crate) max: u64,
    #[serde(default)]
    pub(crate) full_queues: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Graph {
    pub(crate) users: u64,
    pub(crate) follows: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SlowClient {
    pub(crate) user: Option<String>,
    pub(crate) peer: String,
    pub(crate) queued_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RecentClose {
    pub(crate) side: String,
    pub(crate) user: Option<String>,
    pub(crate) peer: String,
    pub(crate) reason: String,
    pub(crate) input: Option<String>,
    pub(crate) age_seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ProcessStatus {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) peak_resident_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_descriptors: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Histograms {
    pub(crate) delivery_delay_seconds: Histogram,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Histogram {
    pub(crate) count: u64,
    /// Pairs of a time in seconds and the number of values of at most this time.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Status {
    /// Returns the counts that a line of totals has, too.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            clients_connected: self.clients.connected,
            sources_connected: self.sources.connected,
            queued_bytes: self.traffic.queued_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_status_is_told() {
        let error = |response: &str| parse_response(response).unwrap_err();
        assert_eq!(error(""), "the answer is not HTTP");
        let misdirected = "HTTP/1.1 421 Misdirected Request\r\n\r\nserves localhost only\n";
        assert!(error(misdirected).contains("421 Misdirected Request`: serves localhost only"));
        assert!(error("HTTP/1.1 200 OK\r\n\r\n{}").contains("missing field `server`"));
    }
}
