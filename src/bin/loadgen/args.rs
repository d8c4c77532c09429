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
/// Without a subcommand: `verify` with the environment alone.
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
}

/// Declares a subcommand out of its own flags and groups of flags that others have too.
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
            /// the core that this program runs on, 0 to 1023
            #[argh(option, from_str_fn(ranges::core))]
            pub(crate) cpu: Option<usize>,
            /// give up after so many ms in which nothing moves, 1 to 86400000; 20000 unless given
            #[argh(option, from_str_fn(ranges::timeout_ms))]
            pub(crate) timeout: Option<u64>,
            /// ms between lines of progress where there is no terminal, 0 to 86400000; 1000 unless
            /// given
            #[argh(option, from_str_fn(ranges::log_interval_ms))]
            pub(crate) log_interval: Option<u64>,
            /// off, error, warn, info (unless given), debug or trace
            #[argh(option)]
            pub(crate) log_level: Option<LevelFilter>,
            /// write the result to this file, as JSON
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
            /// the core that a server started by this program runs on, 0 to 1023
            #[argh(option, from_str_fn(ranges::core))]
            pub(crate) server_cpu: Option<usize>,
        } }
    };
    (@add $about:tt $name:ident $command:literal (load $($group:ident)*) { $($flags:tt)* }) => {
        command! { @add $about $name $command ($($group)*) {
            $($flags)*
            /// events in all, 1 to 1000000000000000
            #[argh(option, from_str_fn(ranges::events))]
            pub(crate) total_events: Option<u64>,
            /// users that connect, 1 to 1048576; 100 unless given
            #[argh(option, from_str_fn(ranges::clients))]
            pub(crate) concurrency_level: Option<usize>,
            /// users in all, from those that connect on, 1 to 1073741824; 10 for each connected
            /// one unless given
            #[argh(option, from_str_fn(ranges::users))]
            pub(crate) number_of_users: Option<u64>,
            /// the stream is a different one for each seed, -9223372036854775808 to
            /// 18446744073709551615; 666 unless given
            #[argh(option, from_str_fn(ranges::seed))]
            pub(crate) random_seed: Option<i128>,
            /// events are shuffled in batches of up to this many, 1 to 1048576; 100 unless given
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
            /// host of the server, 127.0.0.1 unless given
            #[argh(option, default = "String::from(\"127.0.0.1\")")]
            pub(crate) host: String,
            /// port for the event source, 1 to 65535; 9090 unless given
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) event_listener_port: Option<u16>,
            /// the same port, 1 to 65535: short for --event-listener-port
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) event_port: Option<u16>,
            /// port for the clients, 1 to 65535; 9099 unless given
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) client_listener_port: Option<u16>,
            /// the same port, 1 to 65535: short for --client-listener-port
            #[argh(option, from_str_fn(ranges::port))]
            pub(crate) client_port: Option<u16>,
            /// start the `eventserver` beside this program, on free ports, and stop it at the end
            #[argh(switch)]
            pub(crate) spawn: bool,
            /// one more argument for the server that --spawn starts; can be repeated
            #[argh(option)]
            pub(crate) server_arg: Vec<String>,
            /// process id of the server, 1 to 4194304, to show what processor time and memory it
            /// takes
            #[argh(option, from_str_fn(ranges::process))]
            pub(crate) server_pid: Option<u32>,
            /// write a page about the run to this file, as HTML
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
    /// Send a generated stream and check every byte that every client receives.
    struct Verify("verify") with (load, target, core) {
        /// verification (unless given), dense, even, private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
    }
}

command! {
    /// Measure how long deliveries take at a given rate, from the moment when each was due.
    struct Latency("latency") with (target, core) {
        /// events a second, 0.001 to 10000000; 1000 unless given
        #[argh(option, from_str_fn(ranges::rate), default = "1000.0")]
        pub(crate) rate: f64,
        /// seconds, 0.001 to 86400; 5 unless given
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// connected users, 1 to 1048576; 100 unless given
        #[argh(option, from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// send broadcasts instead of private messages
        #[argh(switch)]
        pub(crate) broadcast: bool,
        /// spin instead of sleeping until the next event is due
        #[argh(switch)]
        pub(crate) busy: bool,
        /// measure the smallest possible relay too, in turn with the server
        #[argh(switch)]
        pub(crate) relay: bool,
        /// the same, with a relay that busy_poll instead of sleeping until something comes
        #[argh(switch)]
        pub(crate) busy_relay: bool,
        /// runs of each, 1 to 1000; 1 unless given; medians count. A server that runs already must
        /// reset when its source disconnects
        #[argh(option, from_str_fn(ranges::runs), default = "1")]
        pub(crate) runs: usize,
        /// search the highest rate at which --p99-us holds, from --rate on
        #[argh(switch)]
        pub(crate) find_knee: bool,
        /// a bound in µs, 0.001 to 60000000, for --find-knee; 1000 unless given
        #[argh(option, from_str_fn(ranges::micros), default = "1000.0")]
        pub(crate) p99_us: f64,
        /// write the distribution to this file, for the `HdrHistogram` plotter
        #[argh(option)]
        pub(crate) hgrm: Option<PathBuf>,
    }
}

command! {
    /// Send a captured stream, raw lines or gzip, and check what the clients receive.
    ///
    /// A server that runs already is expected to give up the sequences that the capture lacks, as is
    /// one started with --server-arg --gap-timeout-ms. From any other, nobody receives what comes
    /// after them, and the exit status is 1.
    struct Replay("replay") with (target, core) {
        /// the captured stream
        #[argh(positional)]
        pub(crate) file: PathBuf,
        /// users that connect: all that the stream names, a file of ids, or so many of them at
        /// random, 1 to 1048576; all unless given
        #[argh(option, default = "String::from(\"all\")")]
        pub(crate) users: String,
        /// events a second, 0.001 to 10000000; as fast as the server takes them unless given
        #[argh(option, from_str_fn(ranges::rate))]
        pub(crate) rate: Option<f64>,
        /// so many times the pace of the recording, 0.001 to 1000000, by the times in FILE.times
        #[argh(option, from_str_fn(ranges::speed))]
        pub(crate) speed: Option<f64>,
        /// the sequence that the server awaits first, 0 to 18446744073709551614: 1 unless given,
        /// or the lowest of the capture where that lacks 1; a server that --spawn starts is told
        #[argh(option, from_str_fn(ranges::sequence))]
        pub(crate) first_sequence: Option<u64>,
        /// read what the clients receive without checking it
        #[argh(switch)]
        pub(crate) no_verify: bool,
    }
}

command! {
    /// Hold many clients that receive nothing, then send one broadcast to all; the server must not
    /// have had events before.
    struct Idle("idle") with (target, core) {
        /// connected users, 1 to 1048576; 10000 unless given
        #[argh(option, from_str_fn(ranges::clients), default = "10000")]
        pub(crate) clients: usize,
        /// measure the smallest possible relay too
        #[argh(switch)]
        pub(crate) relay: bool,
    }
}

command! {
    /// Measure what the kernel alone allows for the same bytes: a server that parses nothing.
    struct Baseline("limit") with (load, core) {
        /// write a page about the run to this file, as HTML
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// verification (unless given), dense, even, private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// measure the latency of the smallest possible relay instead
        #[argh(switch)]
        pub(crate) relay: bool,
        /// events a second, 0.001 to 10000000; 1000 unless given; of --relay
        #[argh(option, from_str_fn(ranges::rate), default = "1000.0")]
        pub(crate) rate: f64,
        /// seconds, 0.001 to 86400; 5 unless given; of --relay
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// with --relay: send broadcasts instead of private messages
        #[argh(switch)]
        pub(crate) broadcast: bool,
        /// with --relay: spin instead of sleeping until the next event is due
        #[argh(switch)]
        pub(crate) busy: bool,
    }
}

command! {
    /// Run the server and the limit in turn, several times, and print medians and ratios.
    struct Throughput("pinned") with (load, core) {
        /// write a page about the run to this file, as HTML
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// a mix to measure, all unless given; can be repeated
        #[argh(option)]
        pub(crate) mix: Vec<Mix>,
        /// runs of each, 1 to 1000; 5 unless given
        #[argh(option, from_str_fn(ranges::runs), default = "5")]
        pub(crate) runs: usize,
        /// one more argument for the server; can be repeated
        #[argh(option)]
        pub(crate) server_arg: Vec<String>,
    }
}

command! {
    /// The same fan-out over a publish-and-subscribe server of another kind.
    struct Pubsub("pubsub") with (load) {
        /// write a page about the run to this file, as HTML
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
        /// redis or nats
        #[argh(option)]
        pub(crate) dialect: WireProtocol,
        /// host of the server, 127.0.0.1 unless given
        #[argh(option, default = "String::from(\"127.0.0.1\")")]
        pub(crate) host: String,
        /// its port, 1 to 65535
        #[argh(option, from_str_fn(ranges::port))]
        pub(crate) port: u16,
        /// private (unless given) or broadcast
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// process id of the server, 1 to 4194304, to show what processor time and memory it takes
        #[argh(option, from_str_fn(ranges::process))]
        pub(crate) server_pid: Option<u32>,
    }
}

command! {
    /// Flood the server and measure how long others wait meanwhile: a new client for its first event,
    /// a client that does not say who it is for its end, SIGUSR1 for its totals, a byte that the
    /// server has queued. All must be served within --bound-ms, or the exit status is 1.
    ///
    /// This program reads what the server writes and measures on one core: give the server another
    /// one (--cpu, --server-cpu). The last line of the table says how late it may have seen
    /// something. Totals are measured with --spawn only. Of the clients that stay connected the
    /// first 8 are checked byte for byte; the others must receive the last event last.
    struct Fairness("fairness") with (target, core) {
        /// dense, even (unless given), broadcast or F:U:B:P:S, with broadcasts among it
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// users that are connected all the time, 1 to 1048576; 100 unless given; ten times as
        /// many exist
        #[argh(option, from_str_fn(ranges::clients), default = "100")]
        pub(crate) clients: usize,
        /// seconds, 0.001 to 86400; 5 unless given
        #[argh(option, from_str_fn(ranges::seconds), default = "5.0")]
        pub(crate) duration: f64,
        /// ms between two new clients, 0.001 to 86400000; 5 unless given; every tenth time one
        /// comes that stays silent, every twentieth time a signal
        #[argh(option, from_str_fn(ranges::millis), default = "5.0")]
        pub(crate) interval_ms: f64,
        /// ms after which the server closes a silent client, 10 to 3600000: 100 unless given with
        /// --spawn, else unless given not measured
        #[argh(option, from_str_fn(ranges::identify_timeout_ms))]
        pub(crate) identify_timeout_ms: Option<u64>,
        /// nobody may wait longer than so many ms, 0.001 to 86400000; 50 unless given
        #[argh(option, from_str_fn(ranges::millis), default = "50.0")]
        pub(crate) bound_ms: f64,
    }
}

command! {
    /// Keep a server under a mixed load for as long as asked, with clients and sources that come and
    /// go, and watch its memory, descriptors and latency.
    ///
    /// Clients that stay are checked byte for byte. Those that come and go (they close, reset, doze,
    /// take each other over, half-close, say nothing or nonsense) get whole lines that are theirs,
    /// ascending, without a gap between broadcasts, and are closed where the server must close them.
    /// At the end the server must count nobody but those who stayed. From one minute on, the exit
    /// status is 1 too when the server's memory grew in the second half.
    ///
    /// A row: events and visits so far; the server's resident memory, descriptors, clients and
    /// sources; latency in the interval, from when 2 ms of events were due to the last byte of them
    /// at a client that stays; the server's share of a core; this program's memory. Clients and
    /// sources, as the server counts them, are known with --spawn only.
    struct Soak("soak") with (target, core) {
        /// minutes, 0.001 to 1440; 1 unless given
        #[argh(option, from_str_fn(ranges::minutes))]
        pub(crate) minutes: Option<f64>,
        /// seconds instead, 0.001 to 86400
        #[argh(option, from_str_fn(ranges::seconds))]
        pub(crate) seconds: Option<f64>,
        /// seconds from one row to the next, 0.1 to 86400; 10 unless given
        #[argh(option, from_str_fn(ranges::row_seconds), default = "10.0")]
        pub(crate) every: f64,
        /// verification, dense, even (unless given), private, broadcast, feed, or F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// events a second, 0.001 to 10000000; 20000 unless given
        #[argh(option, from_str_fn(ranges::rate), default = "20000.0")]
        pub(crate) rate: f64,
        /// events that come besides, all at once, every second, 0 to 1000000; 5000 unless given
        #[argh(option, from_str_fn(ranges::burst), default = "5000")]
        pub(crate) burst: u64,
        /// clients that stay, 1 to 10000; 50 unless given
        #[argh(option, from_str_fn(ranges::steady_clients), default = "50")]
        pub(crate) clients: u64,
        /// sources at once, which share the stream, 1 to 1024; 2 unless given
        #[argh(option, from_str_fn(ranges::sources), default = "2")]
        pub(crate) sources: usize,
        /// clients a second that come and go, 0 to 1000; 20 unless given; a source is replaced for
        /// each 25
        #[argh(option, from_str_fn(ranges::visits), default = "20.0")]
        pub(crate) visits: f64,
        /// the load is a different one for each seed, 0 to 18446744073709551615; 666 unless given
        #[argh(option, from_str_fn(ranges::soak_seed), default = "666")]
        pub(crate) random_seed: u64,
    }
}
