//! Commands and their flags, as types. [`crate::cli`] parses them and prints their help.
//!
//! The text of `--help` is the documentation of these types. A value's range is the one that
//! [`ranges`] accepts; a test compares them.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use log::LevelFilter;

use crate::cli::address::{Address, ServerAddress};
use crate::options::{CommonFlags, LoadFlags, TargetFlags};
use crate::ranges;
use crate::workload::mix::Mix;
use crate::workload::pubsub::WireProtocol;

/// Measures and verifies an event server: compares every byte that every client receives with a
/// model of its own.
#[derive(FromArgs, ArgsInfo)]
pub(crate) struct Arguments {
    #[argh(subcommand)]
    pub(crate) command: Command,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub(crate) enum Command {
    Verify(Verify),
    Latency(Latency),
    Replay(Replay),
    Fairness(Fairness),
    Soak(Soak),
    Idle(Idle),
    Limit(Limit),
    Pinned(Pinned),
    Pubsub(Pubsub),
    Compare(Compare),
    Top(Top),
}

/// Groups of flags in `--help`, in this order, with flags by their long names. Flags that are not
/// listed are the command's own.
pub(crate) const HELP_GROUPS: [(&str, &[&str]); 6] = [
    (
        "Load",
        &[
            "--mix",
            "--total-events",
            "--concurrency-level",
            "--number-of-users",
            "--random-seed",
            "--max-event-source-batch-size",
            "--rate",
            "--duration",
            "--broadcast",
            "--busy",
            "--sync",
        ],
    ),
    ("Restarts", &["--restart-every", "--restarts", "--data-dir", "--reconnect-every"]),
    (
        "Server",
        &[
            "--spawn",
            "--server-arg",
            "--server-cpu",
            "--host",
            "--event-port",
            "--event-listener-port",
            "--client-port",
            "--client-listener-port",
            "--server-pid",
            "--admin",
        ],
    ),
    ("Several servers", &["--target", "--move-every"]),
    ("Results", &["--json", "--report", "--hgrm"]),
    ("This program", &["--cpu", "--timeout", "--log-interval", "--log-level"]),
];

/// Declares a subcommand with its own flags and shared groups of flags.
macro_rules! command {
    (
        $(#[$about:meta])*
        struct $name:ident ($command:literal) with ($($group:ident),*) { $($flags:tt)* }
    ) => {
        command! { @add [$(#[$about])*] $name $command ($($group)*) { $($flags)* } }
    };
    (@add [$($about:tt)*] $name:ident $command:literal () { $($flags:tt)* }) => {
        #[derive(FromArgs, ArgsInfo)]
        $($about)*
        #[argh(subcommand, name = $command)]
        pub(crate) struct $name {
            $($flags)*
            /// write the result as JSON to this file
            #[argh(option, arg_name = "FILE")]
            pub(crate) json: Option<PathBuf>,
            /// write an HTML report to this file
            #[argh(option, arg_name = "FILE")]
            pub(crate) report: Option<PathBuf>,
            /// pin this program to this CPU, 0 to 1023
            #[argh(option, arg_name = "CPU", from_str_fn(ranges::cpu))]
            pub(crate) cpu: Option<usize>,
            /// give up after this time without progress, in ms, 1 to 86400000 [default: 20s]
            #[argh(option, arg_name = "TIME", from_str_fn(ranges::timeout_ms))]
            pub(crate) timeout: Option<u64>,
            /// time between progress lines where there is no terminal, in ms, 0 to 86400000
            /// [default: 1s]
            #[argh(option, arg_name = "TIME", from_str_fn(ranges::log_interval_ms))]
            pub(crate) log_interval: Option<u64>,
            /// off, error, warn, info, debug or trace [default: info]
            #[argh(option, arg_name = "LEVEL", from_str_fn(ranges::log_level))]
            pub(crate) log_level: Option<LevelFilter>,
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
    // The mix of a generated stream.
    (@add $about:tt $name:ident $command:literal (mix $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// verification, dense, even, private, broadcast, feed, or weights of follows,
            /// unfollows, broadcasts, private messages and status updates as F:U:B:P:S
            /// [default: verification]
            #[argh(option, arg_name = "MIX")]
            pub(crate) mix: Option<Mix>,
        } }
    };
    // Amount and users of a generated stream.
    (@add $about:tt $name:ident $command:literal (load $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// events in total, 1 to 1000000000000000 [default: 10M; limit, pinned, pubsub: 2M]
            #[argh(option, arg_name = "N", from_str_fn(ranges::events))]
            pub(crate) total_events: Option<u64>,
            /// connected users, 1 to 1048576 [default: 100]
            #[argh(option, arg_name = "N", from_str_fn(ranges::clients))]
            pub(crate) concurrency_level: Option<usize>,
            /// users in total, 1 to 1073741824, including the connected ones [default: 10 per
            /// connected user]
            #[argh(option, arg_name = "N", from_str_fn(ranges::users))]
            pub(crate) number_of_users: Option<u64>,
            /// seed of the stream, -9223372036854775808 to 18446744073709551615 [default: 666]
            #[argh(option, arg_name = "N", from_str_fn(ranges::seed))]
            pub(crate) random_seed: Option<i128>,
        } }

        impl $name {
            pub(crate) fn load(&self, mix: Option<Mix>) -> LoadFlags {
                LoadFlags {
                    mix,
                    total_events: self.total_events,
                    concurrency_level: self.concurrency_level,
                    number_of_users: self.number_of_users,
                    random_seed: self.random_seed,
                    max_event_source_batch_size: None,
                }
            }
        }
    };
    // Order of a generated stream; needs `load`.
    (@add $about:tt $name:ident $command:literal (shuffle $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// largest batch within which events are shuffled, 1 to 1048576 [default: 100]
            #[argh(option, arg_name = "N", from_str_fn(ranges::batch))]
            pub(crate) max_event_source_batch_size: Option<u64>,
        } }

        impl $name {
            pub(crate) fn shuffled_load(&self, mix: Option<Mix>) -> LoadFlags {
                LoadFlags {
                    max_event_source_batch_size: self.max_event_source_batch_size,
                    ..self.load(mix)
                }
            }
        }
    };
    // Events that are timed.
    (@add $about:tt $name:ident $command:literal (pace $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// events per second, 0.001 to 10000000 [default: 1000]
            #[argh(option, arg_name = "N", from_str_fn(ranges::rate), default = "1000.0")]
            pub(crate) rate: f64,
            /// length of a run in seconds, 0.001 to 86400 [default: 5s]
            #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds), default = "5.0")]
            pub(crate) duration: f64,
            /// send broadcasts instead of private messages
            #[argh(switch)]
            pub(crate) broadcast: bool,
            /// busy-poll instead of sleeping until the next event is due
            #[argh(switch)]
            pub(crate) busy: bool,
        } }
    };
    // A server that is started.
    (@add $about:tt $name:ident $command:literal (started $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// additional argument for the server that this program starts; can be repeated
            #[argh(option, arg_name = "ARG")]
            pub(crate) server_arg: Vec<String>,
        } }
    };
    (@add $about:tt $name:ident $command:literal (server_cpu $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// pin the servers that this program starts to this CPU, 0 to 1023
            #[argh(option, arg_name = "CPU", from_str_fn(ranges::cpu))]
            pub(crate) server_cpu: Option<usize>,
        } }
    };
    // A server that is running.
    (@add $about:tt $name:ident $command:literal (running $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// host of a running server [default: 127.0.0.1]
            #[argh(option, arg_name = "HOST")]
            pub(crate) host: Option<String>,
            /// process ID of a running server, 1 to 4194304, to report its CPU time and memory
            #[argh(option, arg_name = "PID", from_str_fn(ranges::process))]
            pub(crate) server_pid: Option<u32>,
        } }
    };
    // The server under test, started or running.
    (@add $about:tt $name:ident $command:literal (target $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command (started server_cpu running $($group)*) {
            $($flags)*
            /// start the `eventserver` in the directory of this program, on free ports, and stop it
            /// at the end
            #[argh(switch)]
            pub(crate) spawn: bool,
            /// where a running server listens for event sources: PORT, :PORT or HOST:PORT, 1 to
            /// 65535 [default: 9090]
            #[argh(option, arg_name = "PORT")]
            pub(crate) event_port: Option<Address>,
            /// the same as --event-port, 1 to 65535
            #[argh(option, arg_name = "PORT")]
            pub(crate) event_listener_port: Option<Address>,
            /// where a running server listens for clients: PORT, :PORT or HOST:PORT, 1 to 65535
            /// [default: 9099]
            #[argh(option, arg_name = "PORT")]
            pub(crate) client_port: Option<Address>,
            /// the same as --client-port, 1 to 65535
            #[argh(option, arg_name = "PORT")]
            pub(crate) client_listener_port: Option<Address>,
            /// where a running server has its --admin-listen, to report its CPU time, memory,
            /// descriptors and connections, also from another machine: PORT, :PORT or HOST:PORT, 1
            /// to 65535
            #[argh(option, arg_name = "PORT")]
            pub(crate) admin: Option<Address>,
        } }

        impl $name {
            pub(crate) fn target(&self) -> TargetFlags<'_> {
                TargetFlags {
                    host: self.host.as_deref(),
                    event_port: self.event_port.as_ref().or(self.event_listener_port.as_ref()),
                    client_port: self.client_port.as_ref().or(self.client_listener_port.as_ref()),
                    spawn: self.spawn,
                    server_arguments: &self.server_arg,
                    server_process: self.server_pid,
                    admin: self.admin.as_ref(),
                    servers: &[],
                }
            }
        }
    };
    // Several running servers; needs `target`.
    (@add $about:tt $name:ident $command:literal (several $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// one of the running servers that share a stream: HOST:EVENT:CLIENT, or
            /// HOST:EVENT:CLIENT:ADMIN with its --admin-listen, ports from 1 to 65535; repeated for
            /// each server
            #[argh(option, long = "target", arg_name = "SERVER")]
            pub(crate) servers: Vec<ServerAddress>,
        } }

        impl $name {
            pub(crate) fn targets(&self) -> TargetFlags<'_> {
                TargetFlags { servers: &self.servers, ..self.target() }
            }
        }
    };
}

command! {
    /// Send a generated stream and check every byte that each client receives.
    #[argh(
        note = "Without --spawn the server must not have received events before, or must reset when \
                its source disconnects (--on-source-disconnect reset).",
        example = "loadgen verify --spawn",
        example = "loadgen verify --event-port localhost:9090 --client-port :9099",
        example = "loadgen verify --spawn --mix feed --total-events 20M --report feed.html",
        example = "loadgen verify --spawn --restart-every 2s --data-dir journal --total-events 50M",
        example = "loadgen verify --target a:9090:9099:9091 --target b:9090:9099:9091 --move-every 200ms",
        note = "With --sync the source keeps what is not committed. When its connection is lost, it \
                connects again and goes on from the sequence that the server awaits.",
        note = "With --restart-every the server is killed (SIGKILL) and started again on the same ports, \
                over and over, every fourth time once more while it starts. Each time all clients connect, then the source goes on from the awaited \
                sequence. In each life of the server, what a client receives must begin at that sequence \
                and be correct up to the kill, and nothing that a client has received or that the server \
                has said to be committed may be awaited again afterwards. In the last life everything must \
                arrive. Then the server is killed once more, up to 2000 users connect, and status updates of \
                everybody show the follower graph.",
        note = "With several --target, clients are spread over these servers, and the source speaks SYNC \
                and moves from server to server. A client whose connection is lost connects again, to the \
                same server or to the next one. Each connection must receive exactly what concerns the user \
                from its registration on, in order, once each. The stream is sent in parts that end with a \
                broadcast to everybody. With ADMIN, all servers must show the same state hash at the end. \
                The servers must not have received events before.",
        example = "loadgen verify --spawn --reconnect-every 1ms",
        note = "With --reconnect-every clients drop their connections at random, with or without reading what \
                their sockets hold, and come back with the last sequence that they have parsed. At the end \
                each must have received exactly its events, none twice. The server needs --resume-events; with \
                --spawn it gets 1000000. With --restart-every too, all clients come back after each restart."
    )]
    struct Verify("verify") with (mix, load, shuffle, target, several) {
        /// the source speaks SYNC, and goes on after a lost connection
        #[argh(switch)]
        pub(crate) sync: bool,
        /// kill the started server about this often, after 0.5 to 1.5 times this time at random, in
        /// seconds, 0.001 to 86400; implies --sync
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds))]
        pub(crate) restart_every: Option<f64>,
        /// end after this many restarts instead of --total-events, 1 to 1000000
        #[argh(option, arg_name = "N", from_str_fn(ranges::restarts))]
        pub(crate) restarts: Option<u64>,
        /// let clients leave and come back, one about this often at random, in seconds, 0.001 to 86400
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds))]
        pub(crate) reconnect_every: Option<f64>,
        /// directory for the journal of the started server; must be empty
        #[argh(option, arg_name = "DIR")]
        pub(crate) data_dir: Option<PathBuf>,
        /// let the source move to another --target about this often, after 0.5 to 1.5 times this time
        /// at random, in seconds, 0.001 to 86400 [default: 1s]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds))]
        pub(crate) move_every: Option<f64>,
    }
}

command! {
    /// Measure the latency of deliveries at a given rate, from the time when each was due.
    #[argh(
        note = "With --find-knee, search the highest rate within a bound on p99, starting at --rate. \
                Each rate is measured for --duration. The exit status is 3 if the first rate exceeds \
                the bound.",
        note = "With several --target, the source connects to the first one, and clients are spread over \
                all.",
        example = "loadgen latency --spawn --rate 20k --relay",
        example = "loadgen latency --spawn --find-knee --p99-us 2ms --duration 2s"
    )]
    struct Latency("latency") with (pace, target, several) {
        /// connected users, 1 to 1048576 [default: 100]
        #[argh(option, arg_name = "N", from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// measure a minimal relay too, in turn with the server
        #[argh(switch)]
        pub(crate) relay: bool,
        /// the same, with a relay that busy-polls
        #[argh(switch)]
        pub(crate) busy_relay: bool,
        /// runs of each, 1 to 1000; medians are reported. A running server must reset when its
        /// source disconnects [default: 1]
        #[argh(option, arg_name = "N", from_str_fn(ranges::runs), default = "1")]
        pub(crate) runs: usize,
        /// search the highest rate within --p99-us
        #[argh(switch)]
        pub(crate) find_knee: bool,
        /// bound on p99 in µs, 0.001 to 60000000 [default: 1ms]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::micros), default = "1000.0")]
        pub(crate) p99_us: f64,
        /// write the distribution to this file, in the format of the `HdrHistogram` plotter
        #[argh(option, arg_name = "FILE")]
        pub(crate) hgrm: Option<PathBuf>,
    }
}

command! {
    /// Send a captured stream, plain or .gz, and check every byte that each client receives.
    #[argh(
        note = "A running server, or one started with --server-arg --gap-timeout-ms, is expected to \
                skip the sequences that are missing from the capture. Any other server delivers \
                nothing after them, and the exit status is 1.",
        example = "loadgen replay stream.events --spawn",
        example = "loadgen replay stream.events.gz --spawn --speed 10 --users 50"
    )]
    struct Replay("replay") with (target) {
        /// the captured stream, as `eventserver --capture FILE` writes it
        #[argh(positional, arg_name = "FILE")]
        pub(crate) file: PathBuf,
        /// connected users: all that the stream names, a file of IDs, or a random choice of N, 1 to
        /// 1048576 [default: all]
        #[argh(option, arg_name = "USERS", default = "String::from(\"all\")")]
        pub(crate) users: String,
        /// events per second, 0.001 to 10000000 [default: as fast as the server accepts them]
        #[argh(option, arg_name = "N", from_str_fn(ranges::rate))]
        pub(crate) rate: Option<f64>,
        /// multiple of the recorded pace, 0.001 to 1000000, from the times in FILE.times
        #[argh(option, arg_name = "FACTOR", from_str_fn(ranges::speed))]
        pub(crate) speed: Option<f64>,
        /// the first awaited sequence of the server, 0 to 18446744073709551614; passed to a server
        /// started by --spawn [default: 1, or the lowest of the capture if it lacks 1]
        #[argh(option, arg_name = "N", from_str_fn(ranges::sequence))]
        pub(crate) first_sequence: Option<u64>,
        /// count what the clients receive instead of checking it
        #[argh(switch)]
        pub(crate) no_verify: bool,
    }
}

command! {
    /// Flood the server and measure waiting times: of a new client for its first event, of an
    /// unidentified client for its disconnect, of SIGUSR1 for its totals, of queued bytes for their
    /// write.
    #[argh(
        note = "The exit status is 1 if any exceeds --bound-ms, and 3 if the machine is too busy to \
                judge: the server was not saturated, or it or this program waited for a CPU itself.",
        note = "This program reads and measures on one CPU; give the server another one (--cpu, \
                --server-cpu). The last line of the table is the resolution of the measurement. Totals \
                are measured with --spawn only. The first 8 of the permanent clients are checked byte \
                for byte; the others must receive the last event last.",
        note = "With --returning a crowd of clients comes back with ID|SEQUENCE as the measurement starts. They read \
                as fast as this program does; it reports how many have caught up, and how many were told a gap. \
                The server needs --resume-events; with --spawn it gets 1000000.",
        example = "loadgen fairness --spawn --cpu 1 --server-cpu 0",
        example = "loadgen fairness --spawn --cpu 1 --server-cpu 0 --returning 1000"
    )]
    struct Fairness("fairness") with (target) {
        /// dense, even, broadcast or F:U:B:P:S; must include broadcasts [default: even]
        #[argh(option, arg_name = "MIX")]
        pub(crate) mix: Option<Mix>,
        /// permanently connected users, 1 to 1048576, one tenth of all users [default: 100]
        #[argh(option, arg_name = "N", from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// length of the measurement in seconds, 0.001 to 86400 [default: 5s]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// time between two new clients in ms, 0.001 to 86400000; every tenth is accompanied by an
        /// unidentified client, every twentieth by a signal [default: 5ms]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::millis), default = "5.0")]
        pub(crate) interval_ms: f64,
        /// time in ms after which the server closes an unidentified client, 10 to 3600000
        /// [default: 100ms with --spawn, otherwise not measured]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::identify_timeout_ms))]
        pub(crate) identify_timeout_ms: Option<u64>,
        /// clients that come back at once for 1000000 events, at the start of the measurement, 1 to 1048576
        #[argh(option, arg_name = "N", from_str_fn(ranges::clients))]
        pub(crate) returning: Option<usize>,
        /// maximum waiting time in ms, 0.001 to 86400000 [default: 50ms]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::millis), default = "50.0")]
        pub(crate) bound_ms: f64,
    }
}

command! {
    /// Keep a server under a mixed load with churn of clients and sources, and sample its memory,
    /// descriptors and latency.
    #[argh(
        note = "Persistent clients are checked byte for byte. Visits (clients that close, reset, read \
                slowly, take each other over, half-close, send no ID or an invalid one) must receive \
                whole lines addressed to them, ascending, without a missing broadcast, and be closed \
                if and only if required. At the end the server must count the persistent clients only. \
                In runs of a minute or more, the exit status is also 1 if the server's memory grew in \
                the second half.",
        note = "A row: events and visits so far; the server's resident memory, descriptors, clients \
                and sources; latency in the interval, from the due time of a 2 ms tick of events to \
                its last byte at a persistent client; the server's share of a CPU. Clients and sources \
                are the server's own counts, known with --spawn or an admin port only.",
        note = "With several --target, sources and clients are spread over these servers, and so is one \
                sequence. Visits of one user go to one server. Figures of the servers are sums, and need \
                ADMIN. At the end all servers must show the same state hash.",
        example = "loadgen soak --spawn --minutes 30",
        example = "loadgen soak --spawn --seconds 10 --every 1s --rate 50k"
    )]
    struct Soak("soak") with (target, several) {
        /// length of the run in minutes, 0.001 to 1440 [default: 1m]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::minutes))]
        pub(crate) minutes: Option<f64>,
        /// length of the run in seconds, 0.001 to 86400
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::seconds))]
        pub(crate) seconds: Option<f64>,
        /// seconds from one row to the next, 0.1 to 86400 [default: 10s]
        #[argh(option, arg_name = "TIME", from_str_fn(ranges::row_seconds), default = "10.0")]
        pub(crate) every: f64,
        /// verification, dense, even, private, broadcast, feed, or F:U:B:P:S [default: even]
        #[argh(option, arg_name = "MIX")]
        pub(crate) mix: Option<Mix>,
        /// events per second, 0.001 to 10000000 [default: 20k]
        #[argh(option, arg_name = "N", from_str_fn(ranges::rate), default = "20000.0")]
        pub(crate) rate: f64,
        /// additional events sent at once every second, 0 to 1000000 [default: 5000]
        #[argh(option, arg_name = "N", from_str_fn(ranges::burst), default = "5000")]
        pub(crate) burst: u64,
        /// persistent clients, 1 to 10000 [default: 50]
        #[argh(option, arg_name = "N", from_str_fn(ranges::steady_clients), default = "50")]
        pub(crate) clients: u64,
        /// simultaneous sources that share the stream, 1 to 1024 [default: 2]
        #[argh(option, arg_name = "N", from_str_fn(ranges::sources), default = "2")]
        pub(crate) sources: usize,
        /// visits (short-lived clients) per second, 0 to 1000; one source is replaced per 25 visits
        /// [default: 20]
        #[argh(option, arg_name = "N", from_str_fn(ranges::visits), default = "20.0")]
        pub(crate) visits: f64,
        /// seed of the load, 0 to 18446744073709551615 [default: 666]
        #[argh(option, arg_name = "N", from_str_fn(ranges::soak_seed), default = "666")]
        pub(crate) random_seed: u64,
    }
}

command! {
    /// Connect many clients that receive nothing, then send one broadcast to all.
    #[argh(
        note = "A running server must not have received events before.",
        example = "loadgen idle --spawn --clients 10k"
    )]
    struct Idle("idle") with (target) {
        /// connected users, 1 to 1048576 [default: 10k]
        #[argh(option, arg_name = "N", from_str_fn(ranges::clients), default = "10000")]
        pub(crate) clients: usize,
        /// measure a minimal relay too
        #[argh(switch)]
        pub(crate) relay: bool,
    }
}

command! {
    /// Measure the baseline: a server that delivers the same bytes without parsing anything.
    #[argh(
        note = "With --relay, measure the latency of a minimal relay instead. --rate, --duration, \
                --broadcast and --busy belong to the relay; --mix and the amount of events to the \
                baseline.",
        example = "loadgen limit --mix even",
        example = "loadgen limit --relay --rate 20k"
    )]
    struct Limit("limit") with (mix, load, shuffle, pace, server_cpu) {
        /// measure the latency of a minimal relay instead
        #[argh(switch)]
        pub(crate) relay: bool,
    }
}

command! {
    /// Measure the throughput of the server and the baseline in turn, several times, and print
    /// medians and ratios.
    #[argh(
        example = "loadgen pinned --cpu 1 --server-cpu 0 --mix even --mix feed"
    )]
    struct Pinned("pinned") with (load, shuffle, started, server_cpu) {
        /// a mix to measure; can be repeated [default: all by name]
        #[argh(option, arg_name = "MIX")]
        pub(crate) mix: Vec<Mix>,
        /// runs of each, 1 to 1000 [default: 5]
        #[argh(option, arg_name = "N", from_str_fn(ranges::runs), default = "5")]
        pub(crate) runs: usize,
    }
}

command! {
    /// Send the same fan-out over Redis or NATS, and check it in the same way.
    #[argh(
        example = "loadgen pubsub --dialect redis --port 6379 --mix broadcast"
    )]
    struct Pubsub("pubsub") with (load, running) {
        /// redis or nats
        #[argh(option, arg_name = "NAME")]
        pub(crate) dialect: WireProtocol,
        /// where the server listens: PORT, :PORT or HOST:PORT, 1 to 65535
        #[argh(option, arg_name = "PORT")]
        pub(crate) port: Address,
        /// private or broadcast [default: private]
        #[argh(option, arg_name = "MIX")]
        pub(crate) mix: Option<Mix>,
    }
}

/// Show what changed between two results of the same command, files of --json.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "compare",
    note = "A figure is worse if its median over the runs of B is worse than that of A by more than \
            --tolerance; then the exit status is 1. Rates should be higher; times, memory and ratios \
            to a relay lower. Amounts are not compared.",
    example = "loadgen compare before.json after.json",
    example = "loadgen compare before-*.json vs after-*.json --tolerance 5"
)]
pub(crate) struct Compare {
    /// the results A and B; a file may hold several, one after another or as an array. With more
    /// than two files: those of A, the word `vs`, those of B
    #[argh(positional, arg_name = "FILE...")]
    pub(crate) files: Vec<PathBuf>,
    /// percent by which a figure may be worse, 0 to 1000 [default: 10]
    #[argh(option, arg_name = "N", from_str_fn(ranges::tolerance), default = "10.0")]
    pub(crate) tolerance: f64,
    /// compare only figures with this in their name, such as eventsPerSecond or correctedUs.p99;
    /// can be repeated
    #[argh(option, arg_name = "NAME")]
    pub(crate) figure: Vec<String>,
}

/// Show what a server does, once a second, until Ctrl-C.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "top",
    note = "The server has to run with --admin-listen. On a terminal the figures are replaced, elsewhere \
            a line is added each time.",
    example = "loadgen top",
    example = "loadgen top --admin events.example:9091 --every 5s"
)]
pub(crate) struct Top {
    /// where the server has its --admin-listen: PORT, :PORT or HOST:PORT, 1 to 65535 [default: 9091]
    #[argh(option, arg_name = "PORT", default = "Address::of_port(9091)")]
    pub(crate) admin: Address,
    /// time from one look to the next in seconds, 0.1 to 86400 [default: 1s]
    #[argh(option, arg_name = "TIME", from_str_fn(ranges::row_seconds), default = "1.0")]
    pub(crate) every: f64,
    /// end after this many looks, 1 to 1000 [default: at Ctrl-C]
    #[argh(option, arg_name = "N", from_str_fn(ranges::runs))]
    pub(crate) times: Option<usize>,
}
