//! `idle`: many clients that receive nothing, and one broadcast to all of them.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use log::info;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::{CommandResult, conclude, relay_server, server, server_settings};
use crate::args;
use crate::client::connection::{connect_error, read_some};
use crate::client::first_delivery::FirstDelivery;
use crate::client::run_end::{Served, expect_silence};
use crate::options::CommonOptions;
use crate::output::chart::{Axis, Chart, LineChart, Series};
use crate::output::document::{Findings, Plan, Verdict};
use crate::output::format::{format_bytes, format_count, format_micros, format_si};
use crate::output::progress::Progress;
use crate::output::table::Table;
use crate::output::{OutputFiles, heading, print};
use crate::sys::descriptors::allow_clients;
use crate::sys::interrupt::{self, MAX_WAIT};
use crate::target::monitor::Monitor;
use crate::target::relay;
use crate::target::server::Server;

/// Connections per loopback address. By default Linux has 28,232 ephemeral ports per address, and
/// finding a free one slows down once half of them are taken.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;
/// Length of the sample of the idle server's CPU time.
const IDLE_SAMPLE: Duration = Duration::from_secs(1);
/// The server's memory is read once it has been constant for this time.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// The broadcast, as sent and as received.
const SENT: &[u8] = b"1|B\n";
const RECEIVED: &[u8] = b"1|B\r\n";

pub(super) fn run(flags: &args::Idle) -> CommandResult {
    let common = super::init(flags.common(), flags.cpu, flags.server_cpu)?;
    let (clients, core) = (flags.clients, flags.server_cpu);
    let plan = Plan {
        kind: "idle",
        description: format!("idle: {clients} idle clients, then one broadcast"),
        settings: json!({
            "clients": clients, "relay": flags.relay, "cpu": flags.cpu, "serverCpu": core,
            "timeoutMs": common.timeout.as_millis() as u64,
            "server": server_settings(flags.target(), &[]),
        }),
    };
    super::announce(&plan.description);
    let files = OutputFiles::open(flags.json.as_deref(), flags.report.as_deref())?;
    let measure = || {
        let figures = idle(server(flags.target(), core)?, clients, common)?;
        print(&format!("{}{}", heading(&plan.description), figures.table()));
        let relay = if flags.relay {
            let spec = relay::RelaySpec { clients, busy_poll: false };
            let relay = idle(relay_server(spec, core)?, clients, common)?;
            let ratio = figures.last_us() / relay.last_us();
            let table = relay.table();
            print(&format!("relay\n{table}  ratio       {ratio:.2} to the last client\n"));
            Some(relay)
        } else {
            None
        };
        Ok(findings(&figures, relay.as_ref()))
    };
    conclude(&plan, files, measure())
}

/// Returns the result for JSON and a report.
fn findings(server: &IdleFigures, relay: Option<&IdleFigures>) -> Findings {
    let sides: Vec<(&'static str, &IdleFigures)> =
        [("server", server)].into_iter().chain(relay.map(|relay| ("relay", relay))).collect();
    let head: Vec<&str> = [""].into_iter().chain(sides.iter().map(|side| side.0)).collect();
    let mut table =
        Table::new(format!("{} idle clients", format_count(server.clients as u64)), &head);
    for (name, cell) in IdleFigures::CELLS {
        let cells = sides.iter().map(|side| cell(side.1));
        table.add([name.to_owned()].into_iter().chain(cells));
    }
    let line = |&(name, side): &(&'static str, &IdleFigures)| Series {
        name,
        points: side
            .arrivals
            .iter()
            .zip(1..)
            .map(|(time, count)| (time.as_secs_f64() * 1e6, f64::from(count)))
            .collect(),
    };
    let axis = Axis::linear_latency("since the broadcast was sent");
    let chart =
        LineChart::new(axis, Axis::linear(""), "").with_series(sides.iter().map(line).collect());
    let mut run = json!({ "server": server });
    if let Some(relay) = relay {
        run["relay"] = json!(relay);
        run["ratio"] = json!({ "broadcastLast": server.last_us() / relay.last_us() });
    }
    Findings {
        runs: vec![run],
        tables: vec![table],
        charts: vec![Chart::lines("Clients that have received the broadcast", chart)],
        ..Findings::new(Verdict::Passed, "Every client received the broadcast and nothing else.")
    }
}

/// Cost of idle clients, and latency of a broadcast to all of them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdleFigures {
    clients: usize,
    connects_per_second: f64,
    /// Resident memory of the server without clients, and with all clients.
    memory_before_bytes: Option<u64>,
    memory_after_bytes: Option<u64>,
    memory_bytes_per_client: Option<f64>,
    /// Share of a core in an idle second.
    idle_cpu_percent: Option<f64>,
    /// From sending the broadcast to its arrival at the first, the median and the last client.
    broadcast_first_us: f64,
    broadcast_median_us: f64,
    broadcast_last_us: f64,
    /// Arrival at each client, ascending.
    #[serde(skip)]
    arrivals: Vec<Duration>,
}

/// Formats one of the figures.
type Cell = fn(&IdleFigures) -> String;

impl IdleFigures {
    /// The rows of a report, with their names.
    const CELLS: [(&str, Cell); 8] = [
        ("Connected per second", |side| format_si(side.connects_per_second)),
        ("Memory without clients", |side| {
            known(side.memory_before_bytes, |n| format_bytes(n as f64))
        }),
        ("Memory with all clients", |side| {
            known(side.memory_after_bytes, |n| format_bytes(n as f64))
        }),
        ("Memory per client", |side| known(side.memory_bytes_per_client, format_bytes)),
        ("CPU at rest", |side| known(side.idle_cpu_percent, |percent| format!("{percent:.2} %"))),
        ("Broadcast at the first client", |side| format_micros(side.broadcast_first_us)),
        ("at the median client", |side| format_micros(side.broadcast_median_us)),
        ("at the last client", |side| format_micros(side.broadcast_last_us)),
    ];

    /// Formats the figures as text.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "  clients     {}, connected at {:.0}/s\n",
            self.clients, self.connects_per_second
        );
        if let (Some(before), Some(after), Some(each)) =
            (self.memory_before_bytes, self.memory_after_bytes, self.memory_bytes_per_client)
        {
            text.push_str(&format!(
                "  memory      {:.1} MB without them, {:.1} MB with them, {each:.0} bytes each\n",
                before as f64 / 1e6,
                after as f64 / 1e6
            ));
        }
        if let Some(percent) = self.idle_cpu_percent {
            text.push_str(&format!("  idle        {percent:.2} % of a core\n"));
        }
        text.push_str(&format!(
            "  broadcast   first after {:.0} µs, median {:.0} µs, last {:.0} µs\n",
            self.broadcast_first_us, self.broadcast_median_us, self.broadcast_last_us
        ));
        text
    }

    /// Returns the latency of the broadcast at the last client, in microseconds.
    pub(crate) fn last_us(&self) -> f64 {
        self.broadcast_last_us
    }
}

fn known<T>(value: Option<T>, format: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), format)
}

/// Connects `count` clients to `server`, sends one broadcast, and stops the server.
///
/// # Errors
///
/// A connection fails or ends, the descriptor limit is reached, a client receives something else,
/// or nothing has arrived for the timeout.
pub(crate) fn idle(server: Server, count: usize, common: CommonOptions) -> io::Result<IdleFigures> {
    allow_clients(count)?;
    let memory_before = server.monitor.map(steady_memory).transpose()?.flatten();
    let to = server.addresses.events;
    let mut source = std::net::TcpStream::connect(to)
        .map_err(|error| connect_error("the event source", to, error))?;
    source.set_nodelay(true)?;

    let start = Instant::now();
    let mut idle_clients =
        IdleClients::connect(server.addresses.clients, count, common.log_interval)?;
    let connects_per_second = count as f64 / start.elapsed().as_secs_f64();
    info!("{count} clients connected");

    let memory_after = server.monitor.map(steady_memory).transpose()?.flatten();
    let cpu_at_rest = server.monitor.map(cpu_at_rest).transpose()?.flatten();
    let arrivals = idle_clients.broadcast(&mut source, common.timeout)?;
    idle_clients.finish(source)?;
    server.stop()?;
    let micros = |index: usize| arrivals[index].as_secs_f64() * 1e6;
    Ok(IdleFigures {
        clients: count,
        connects_per_second,
        memory_before_bytes: memory_before,
        memory_after_bytes: memory_after,
        memory_bytes_per_client: memory_after
            .zip(memory_before)
            .map(|(after, before)| (after as f64 - before as f64) / count as f64),
        idle_cpu_percent: cpu_at_rest.map(|seconds| seconds * 100.0),
        broadcast_first_us: micros(0),
        broadcast_median_us: micros((count - 1) / 2),
        broadcast_last_us: micros(count - 1),
        arrivals,
    })
}

/// Returns the memory of a server once it is constant.
fn steady_memory(monitor: Monitor) -> io::Result<Option<u64>> {
    let mut last = monitor.memory();
    let mut since = Instant::now();
    while last.is_some() && since.elapsed() < SETTLE_TIME {
        interrupt::sleep(Duration::from_millis(20))?;
        let now = monitor.memory();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

fn cpu_at_rest(monitor: Monitor) -> io::Result<Option<f64>> {
    let before = monitor.cpu_time();
    interrupt::sleep(IDLE_SAMPLE)?;
    let used = monitor.cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(used.map(|used| used.as_secs_f64()))
}

/// Clients that wait for one line.
struct IdleClients {
    poll: Poll,
    clients: Vec<IdleClient>,
}

struct IdleClient {
    stream: TcpStream,
    received: usize,
}

impl IdleClients {
    fn connect(to: SocketAddr, count: usize, log_interval: Duration) -> io::Result<IdleClients> {
        let poll = Poll::new()?;
        let start = Instant::now();
        let mut progress = Progress::of(count as u64, "clients", log_interval);
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            interrupt::check()?;
            let now = Instant::now();
            progress.show(now, now - start, index as u64);
            let mut stream = connect_from(source_address(to, index), to)
                .map_err(|error| connect_error("a client", to, error))?;
            stream.write_all(format!("{}\n", index + 1).as_bytes())?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            clients.push(IdleClient { stream, received: 0 });
        }
        Ok(IdleClients { poll, clients })
    }

    /// Sends the line and returns its latency at each client, ascending.
    fn broadcast(
        &mut self,
        source: &mut std::net::TcpStream,
        timeout: Duration,
    ) -> io::Result<Vec<Duration>> {
        let mut events = Events::with_capacity(1024);
        let mut arrivals = Vec::with_capacity(self.clients.len());
        let start = Instant::now();
        let mut last_arrival = start;
        let mut first_delivery = FirstDelivery::new(source.peer_addr()?);
        source.write_all(SENT)?;
        while arrivals.len() < self.clients.len() {
            interrupt::check()?;
            match self.poll.poll(&mut events, Some(MAX_WAIT)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            first_delivery.check(0, || source.local_addr())?;
            if events.is_empty() && last_arrival.elapsed() > timeout {
                let missing = self.clients.len() - arrivals.len();
                return Err(io::Error::other(format!(
                    "{missing} clients have not received the broadcast"
                )));
            }
            for event in &events {
                if self.clients[event.token().0].receive(event.token().0 + 1)? {
                    arrivals.push(start.elapsed());
                    last_arrival = Instant::now();
                    first_delivery.arrived();
                }
            }
        }
        Ok(arrivals)
    }

    /// Checks that nothing more arrives, and closes the source and all clients.
    fn finish(mut self, source: std::net::TcpStream) -> io::Result<()> {
        source.set_nonblocking(true)?;
        let mut source = TcpStream::from_std(source);
        let mut clients: Vec<Served<'_>> = self
            .clients
            .iter_mut()
            .zip(1..)
            .map(|(client, user)| Served { user, stream: &mut client.stream })
            .collect();
        expect_silence(&mut [&mut source], &mut clients)
    }
}

impl IdleClient {
    /// Reads; returns whether the line is complete.
    fn receive(&mut self, user: usize) -> io::Result<bool> {
        let mut bytes = [0; 64];
        match read_some(&mut self.stream, &mut bytes)? {
            None => Ok(false),
            Some(0) => Err(io::Error::other(format!("user {user} was closed"))),
            Some(count) if RECEIVED[self.received..].starts_with(&bytes[..count]) => {
                self.received += count;
                Ok(self.received == RECEIVED.len())
            }
            Some(count) => {
                let got = bytes[..count].escape_ascii();
                Err(io::Error::other(format!("user {user} got `{got}`")))
            }
        }
    }
}

/// Returns the source address of connection `index`. On the loopback interface it changes before
/// the ports of one address run out.
fn source_address(to: SocketAddr, index: usize) -> Option<Ipv4Addr> {
    match to.ip() {
        IpAddr::V4(address) if address.is_loopback() => {
            let host = u8::try_from(1 + index / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
            Some(Ipv4Addr::new(127, 0, 0, host))
        }
        _ => None,
    }
}

fn connect_from(from: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(address) = from.filter(|&address| address != Ipv4Addr::LOCALHOST) {
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    socket.connect(&to.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_change_when_ports_run_out() {
        let to = "127.0.0.1:9099".parse().unwrap();
        let first = Some(Ipv4Addr::LOCALHOST);
        assert_eq!(source_address(to, 0), first);
        assert_eq!(source_address(to, CONNECTIONS_PER_ADDRESS - 1), first);
        let second = Some(Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source_address(to, CONNECTIONS_PER_ADDRESS), second);
        assert_eq!(source_address("10.0.0.1:9099".parse().unwrap(), 50_000), None);
    }
}
