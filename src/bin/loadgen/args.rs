//! The command line.

use std::path::PathBuf;

use argh::FromArgs;
use log::LevelFilter;

use crate::options::{CommonFlags, LoadFlags, TargetFlags};
use crate::ranges;
use crate::workload::mix::Mix;
use crate::workload::pubsub::WireProtocol;

/// Measures and verifies an event server.
///
/// Without a subcommand: `verify`, configured by the environment.
#[derive(FromArgs)]
pub(crate) struct Arguments {
    #[argh(subcommand)]
    pub(crate) command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
pub(crate) enum Command {
    Verify(Verify),
    Latency(Latency),
    Replay(Replay),
    Idle(Idle),
    Baseline(Baseline),
    Throughput(Throughput),
    Pubsub(Pubsub),
    Fairness(Fairness),
    Soak(Soak),
    Compare(Compare),
}

/// Declares a subcommand with its own flags and shared groups of flags.
macro_rules! command {
    (
        $(#[$about:meta])*
        struct $name:ident ($command:literal) with ($($group:ident),*) { $($flags:tt)* }
    ) => {
        command! { @add [$(#[$about])*] $name $command ($($group)*) { $($flags)* } }
    };
    (@add [$($about:tt)*] $name:ident $command:literal () { $($flags:tt)* }) => {
        $($about)*
        #[derive(FromArgs)]
        #[argh(subcommand, name = $command)]
        pub(crate) struct $name {
            $($flags)*
            /// the core to pin this program to, 0 to 1023
            #[argh(option, from_str_fn(ranges::core))]
            pub(crate) cpu: Option<usize>,
            /// give up after this many ms without progress, 1 to 86400000 [default: 20000]
            #[argh(option, from_str_fn(ranges::timeout_ms))]
            pub(crate) timeout: Option<u64>,
            /// ms between progress lines without a terminal, 0 to 86400000 [default: 1000]
            #[argh(option, from_str_fn(ranges::log_interval_ms))]
            pub(crate) log_interval: Option<u64>,
            /// off, error, warn, info (default), debug or trace
            #[argh(option)]
            pub(crate) log_level: Option<LevelFilter>,
            /// write the result as JSON to this file
            #[argh(option)]
            pub(crate) json: Option<PathBuf>,
        }

        impl $name {
            pub(crate) fn common(&self) -> CommonFlags {
                CommonFlags {
                    timeout: self.timeout,
                    log_interval: self.log_interval,
                    log_level: self.log_level,
                }
            }
        }
    };
    (@add $about:tt $name:ident $command:literal (core $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// the core to pin a server started by this program to, 0 to 1023
            #[argh(option, from_str_fn(ranges::core))]
            pub(crate) server_cpu: Option<usize>,
        } }
    };
    (@add $about:tt $name:ident $command:literal (load $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// total events, 1 to 1000000000000000
            #[argh(option, from_str_fn(ranges::events))]
            pub(crate) total_events: Option<u64>,
            /// connected users, 1 to 1048576 [default: 100]
            #[argh(option, from_str_fn(ranges::clients))]
            pub(crate) concurrency_level: Option<usize>,
            /// users in total, 1 to 1073741824, including the connected ones [default: 10 per
            /// connected user]
            #[argh(option, from_str_fn(ranges::users))]
            pub(crate) number_of_users: Option<u64>,
            /// seed of the stream, -9223372036854775808 to 18446744073709551615 [default: 666]
            #[argh(option, from_str_fn(ranges::seed))]
            pub(crate) random_seed: Option<i128>,
            /// maximum batch within which events are shuffled, 1 to 1048576 [default: 100]
            #[argh(option, from_str_fn(ranges::batch))]
            pub(crate) max_event_source_batch_size: Option<u64>,
        } }

        impl $name {
            pub(crate) fn load(&self, mix: Option<Mix>) -> LoadFlags {
                LoadFlags {
                    mix,
                    total_events: self.total_events,
                    concurrency_level: self.concurrency_level,
                    number_of_users: self.number_of_users,
                    random_seed: self.random_seed,
                    max_event_source_batch_size: self.max_event_source_batch_size,
                }
            }
        }
    };
    (@add $about:tt $name:ident $command:literal (target $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// host of the server [default: 127.0.0.1]
            #[argh(option, default = "String::from(\"127.0.0.1\")")]
            pub(crate) host: String,
            /// port for the event source, 1 to 65535 [default: 9090]
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) event_listener_port: Option<u16>,
            /// port, 1 to 65535; short for --event-listener-port
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) event_port: Option<u16>,
            /// port for the clients, 1 to 65535 [default: 9099]
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) client_listener_port: Option<u16>,
            /// port, 1 to 65535; short for --client-listener-port
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) client_port: Option<u16>,
            /// start the `eventserver` in the directory of this program, on free ports, and stop it
            /// at the end
            #[argh(switch)]
            pub(crate) spawn: bool,
            /// additional argument for the server started by --spawn; can be repeated
            #[argh(option)]
            pub(crate) server_arg: Vec<String>,
            /// process id of the server, 1 to 4194304, to report its CPU time and memory
            #[argh(option, from_str_fn(ranges::process))]
            pub(crate) server_pid: Option<u32>,
            /// write an HTML report to this file
            #[argh(option)]
            pub(crate) report: Option<PathBuf>,
        } }

        impl $name {
            pub(crate) fn target(&self) -> TargetFlags<'_> {
                TargetFlags {
                    host: &self.host,
                    event_port: self.event_port.or(self.event_listener_port),
                    client_port: self.client_port.or(self.client_listener_port),
                    spawn: self.spawn,
                    server_arguments: &self.server_arg,
                    server_process: self.server_pid,
                }
            }
        }
    };
}

command! {
    /// Send a generated stream and check every byte that each client receives.
    struct Verify("verify") with (load, target, core) {
        /// verification (default), dense, even, private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
    }
}

command! {
    /// Measure the latency of deliveries at a given rate, from the time when each was due.
    struct Latency("latency") with (target, core) {
        /// events per second, 0.001 to 10000000 [default: 1000]
        #[argh(option, from_str_fn(ranges::rate), default = "1000.0")]
        pub(crate) rate: f64,
        /// seconds, 0.001 to 86400 [default: 5]
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// connected users, 1 to 1048576 [default: 100]
        #[argh(option, from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// send broadcasts instead of private messages
        #[argh(switch)]
        pub(crate) broadcast: bool,
        /// busy-poll instead of sleeping until the next event is due
        #[argh(switch)]
        pub(crate) busy: bool,
        /// measure a minimal relay too, in turn with the server
        #[argh(switch)]
        pub(crate) relay: bool,
        /// the same, with a relay that busy-polls
        #[argh(switch)]
        pub(crate) busy_relay: bool,
        /// runs of each, 1 to 1000 [default: 1]; medians are reported. A server not started by
        /// --spawn must reset when its source disconnects
        #[argh(option, from_str_fn(ranges::runs), default = "1")]
        pub(crate) runs: usize,
        /// search the highest rate within --p99-us, starting at --rate
        #[argh(switch)]
        pub(crate) find_knee: bool,
        /// bound on p99 in µs, 0.001 to 60000000, for --find-knee [default: 1000]
        #[argh(option, from_str_fn(ranges::micros), default = "1000.0")]
        pub(crate) p99_us: f64,
        /// write the distribution to this file, in the format of the `HdrHistogram` plotter
        #[argh(option)]
        pub(crate) hgrm: Option<PathBuf>,
    }
}

command! {
    /// Send a captured stream, raw lines or gzip, and check what the clients receive.
    ///
    /// A server not started by --spawn, or started with --server-arg --gap-timeout-ms, is expected
    /// to skip the sequences that are missing from the capture. Any other server delivers nothing
    /// after them, and the exit status is 1.
    struct Replay("replay") with (target, core) {
        /// the captured stream
        #[argh(positional)]
        pub(crate) file: PathBuf,
        /// connected users: all that the stream names, a file of ids, or a random choice of N, 1 to
        /// 1048576 [default: all]
        #[argh(option, default = "String::from(\"all\")")]
        pub(crate) users: String,
        /// events per second, 0.001 to 10000000 [default: as fast as the server accepts them]
        #[argh(option, from_str_fn(ranges::rate))]
        pub(crate) rate: Option<f64>,
        /// multiple of the recorded pace, 0.001 to 1000000, from the times in FILE.times
        #[argh(option, from_str_fn(ranges::speed))]
        pub(crate) speed: Option<f64>,
        /// the first awaited sequence of the server, 0 to 18446744073709551614 [default: 1, or the
        /// lowest of the capture if it lacks 1]; passed to a server started by --spawn
        #[argh(option, from_str_fn(ranges::sequence))]
        pub(crate) first_sequence: Option<u64>,
        /// do not check what the clients receive
        #[argh(switch)]
        pub(crate) no_verify: bool,
    }
}

command! {
    /// Hold many idle clients, then send one broadcast to all. The server must not have received
    /// events before.
    struct Idle("idle") with (target, core) {
        /// connected users, 1 to 1048576 [default: 10000]
        #[argh(option, from_str_fn(ranges::clients), default = "10000")]
        pub(crate) clients: usize,
        /// measure a minimal relay too
        #[argh(switch)]
        pub(crate) relay: bool,
    }
}

command! {
    /// Measure the baseline: a server that delivers the same bytes without parsing anything.
    struct Baseline("limit") with (load, core) {
        /// write an HTML report to this file
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// verification (default), dense, even, private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// measure the latency of a minimal relay instead
        #[argh(switch)]
        pub(crate) relay: bool,
        /// events per second, 0.001 to 10000000 [default: 1000]; of --relay
        #[argh(option, from_str_fn(ranges::rate), default = "1000.0")]
        pub(crate) rate: f64,
        /// seconds, 0.001 to 86400 [default: 5]; of --relay
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// with --relay: send broadcasts instead of private messages
        #[argh(switch)]
        pub(crate) broadcast: bool,
        /// with --relay: busy-poll instead of sleeping until the next event is due
        #[argh(switch)]
        pub(crate) busy: bool,
    }
}

command! {
    /// Measure the throughput of the server and the baseline in turn, several times, and print
    /// medians and ratios.
    struct Throughput("pinned") with (load, core) {
        /// write an HTML report to this file
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// a mix to measure [default: all]; can be repeated
        #[argh(option)]
        pub(crate) mix: Vec<Mix>,
        /// runs of each, 1 to 1000 [default: 5]
        #[argh(option, from_str_fn(ranges::runs), default = "5")]
        pub(crate) runs: usize,
        /// additional argument for the server; can be repeated
        #[argh(option)]
        pub(crate) server_arg: Vec<String>,
    }
}

command! {
    /// Measure the same fan-out over another publish-subscribe server.
    struct Pubsub("pubsub") with (load) {
        /// write an HTML report to this file
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// redis or nats
        #[argh(option)]
        pub(crate) dialect: WireProtocol,
        /// host of the server [default: 127.0.0.1]
        #[argh(option, default = "String::from(\"127.0.0.1\")")]
        pub(crate) host: String,
        /// port of the server, 1 to 65535
        #[argh(option, from_str_fn(ranges::port))]
        pub(crate) port: u16,
        /// private (default) or broadcast
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// process id of the server, 1 to 4194304, to report its CPU time and memory
        #[argh(option, from_str_fn(ranges::process))]
        pub(crate) server_pid: Option<u32>,
    }
}

command! {
    /// Flood the server and measure waiting times: of a new client for its first event, of an
    /// unidentified client for its disconnect, of SIGUSR1 for its totals, of queued bytes for their
    /// write. If any exceeds --bound-ms, the exit status is 1.
    ///
    /// This program reads and measures on one core; give the server another one (--cpu,
    /// --server-cpu). The last line of the table is the resolution of the measurement. Totals are
    /// measured with --spawn only. The first 8 of the permanent clients are checked byte for byte;
    /// the others must receive the last event last.
    struct Fairness("fairness") with (target, core) {
        /// dense, even (default), broadcast or F:U:B:P:S; must include broadcasts
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// permanently connected users, 1 to 1048576 [default: 100], one tenth of all users
        #[argh(option, from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// seconds, 0.001 to 86400 [default: 5]
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// ms between two new clients, 0.001 to 86400000 [default: 5]; every tenth is accompanied
        /// by an unidentified client, every twentieth by a signal
        #[argh(option, from_str_fn(ranges::millis), default = "5.0")]
        pub(crate) interval_ms: f64,
        /// ms after which the server closes an unidentified client, 10 to 3600000 [default: 100
        /// with --spawn, otherwise not measured]
        #[argh(option, from_str_fn(ranges::identify_timeout_ms))]
        pub(crate) identify_timeout_ms: Option<u64>,
        /// maximum waiting time in ms, 0.001 to 86400000 [default: 50]
        #[argh(option, from_str_fn(ranges::millis), default = "50.0")]
        pub(crate) bound_ms: f64,
    }
}

command! {
    /// Keep a server under a mixed load with churn of clients and sources, and sample its memory,
    /// descriptors and latency.
    ///
    /// Persistent clients are checked byte for byte. Visits (clients that close, reset, read
    /// slowly, take each other over, half-close, send no id or an invalid one) must receive whole
    /// lines addressed to them, ascending, without a missing broadcast, and be closed if and only
    /// if required. At the end the server must count the persistent clients only. In runs of a
    /// minute or more, the exit status is also 1 if the server's memory grew in the second half.
    ///
    /// A row: events and visits so far; the server's resident memory, descriptors, clients and
    /// sources; latency in the interval, from the due time of a 2 ms tick of events to its last
    /// byte at a persistent client; the server's share of a core; this program's memory. Clients
    /// and sources are the server's own counts, known with --spawn only.
    struct Soak("soak") with (target, core) {
        /// minutes, 0.001 to 1440 [default: 1]
        #[argh(option, from_str_fn(ranges::minutes))]
        pub(crate) minutes: Option<f64>,
        /// seconds, instead of minutes, 0.001 to 86400
        #[argh(option, from_str_fn(ranges::seconds))]
        pub(crate) seconds: Option<f64>,
        /// seconds from one row to the next, 0.1 to 86400 [default: 10]
        #[argh(option, from_str_fn(ranges::row_seconds), default = "10.0")]
        pub(crate) every: f64,
        /// verification, dense, even (default), private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// events per second, 0.001 to 10000000 [default: 20000]
        #[argh(option, from_str_fn(ranges::rate), default = "20000.0")]
        pub(crate) rate: f64,
        /// additional events sent at once every second, 0 to 1000000 [default: 5000]
        #[argh(option, from_str_fn(ranges::burst), default = "5000")]
        pub(crate) burst: u64,
        /// persistent clients, 1 to 10000 [default: 50]
        #[argh(option, from_str_fn(ranges::steady_clients), default = "50")]
        pub(crate) clients: u64,
        /// simultaneous sources that share the stream, 1 to 1024 [default: 2]
        #[argh(option, from_str_fn(ranges::sources), default = "2")]
        pub(crate) sources: usize,
        /// visits (short-lived clients) per second, 0 to 1000 [default: 20]; one source is replaced
        /// per 25 visits
        #[argh(option, from_str_fn(ranges::visits), default = "20.0")]
        pub(crate) visits: f64,
        /// seed of the load, 0 to 18446744073709551615 [default: 666]
        #[argh(option, from_str_fn(ranges::soak_seed), default = "666")]
        pub(crate) random_seed: u64,
    }
}

/// Show what changed between two results of the same command, files of --json.
///
/// A figure is worse if its median over the runs of B is worse than that of A by more than
/// --tolerance; then the exit status is 1. Rates should be higher; times, memory and ratios to a
/// relay lower. Amounts are not compared.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "compare",
    example = "compare before.json after.json\ncompare before-*.json vs after-*.json --tolerance 5"
)]
pub(crate) struct Compare {
    /// the results A and B; a file may hold several, one after another or as an array. With more
    /// than two files: those of A, the word `vs`, those of B
    #[argh(positional)]
    pub(crate) files: Vec<PathBuf>,
    /// percent by which a figure may be worse, 0 to 1000 [default: 10]
    #[argh(option, from_str_fn(ranges::tolerance), default = "10.0")]
    pub(crate) tolerance: f64,
    /// compare only figures with this in their name, such as eventsPerSecond or correctedUs.p99;
    /// can be repeated
    #[argh(option)]
    pub(crate) figure: Vec<String>,
}
