//! The command line.

use std::path::PathBuf;

use argh::FromArgs;
use log::LevelFilter;

use super::mix::Mix;
use super::settings::LoadFlags;

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
    Limit(Limit),
    Pinned(Pinned),
}

/// Declares a subcommand that runs a generated load: its own flags and those of every such one.
macro_rules! load_command {
    (
        $(#[$about:meta])*
        struct $name:ident ($command:literal) {
            $($own_flags:tt)*
        }
    ) => {
        $(#[$about])*
        #[derive(FromArgs)]
        #[argh(subcommand, name = $command)]
        pub(crate) struct $name {
            $($own_flags)*
            /// events in all
            #[argh(option)]
            total_events: Option<u64>,
            /// users that connect, 100 unless given
            #[argh(option)]
            concurrency_level: Option<u64>,
            /// users in all, 10 for each connected one unless given
            #[argh(option)]
            number_of_users: Option<u64>,
            /// the stream is a different one for each seed, 666 unless given
            #[argh(option)]
            random_seed: Option<i128>,
            /// events are shuffled in batches of up to this many, 100 unless given
            #[argh(option)]
            max_event_source_batch_size: Option<u64>,
            /// give up after so many ms in which nothing moves, 20000 unless given
            #[argh(option)]
            timeout: Option<u64>,
            /// ms between lines of progress where there is no terminal, 1000 unless given
            #[argh(option)]
            log_interval: Option<u64>,
            /// off, error, warn, info (unless given), debug or trace
            #[argh(option)]
            log_level: Option<LevelFilter>,
            /// the core that this program runs on
            #[argh(option)]
            pub(crate) cpu: Option<usize>,
            /// the core that a server started by it runs on
            #[argh(option)]
            pub(crate) server_cpu: Option<usize>,
            /// write the result to this file, as JSON
            #[argh(option)]
            pub(crate) json: Option<PathBuf>,
        }

        impl $name {
            /// The flags that make the load.
            pub(crate) fn load(&self, mix: Option<Mix>) -> LoadFlags {
                LoadFlags {
                    mix,
                    total_events: self.total_events,
                    concurrency_level: self.concurrency_level,
                    number_of_users: self.number_of_users,
                    random_seed: self.random_seed,
                    max_event_source_batch_size: self.max_event_source_batch_size,
                    timeout: self.timeout,
                    log_interval: self.log_interval,
                    log_level: self.log_level,
                }
            }
        }
    };
}

load_command! {
    /// Send a generated stream and check every byte that every client receives.
    struct Verify("verify") {
        /// verification (unless given), even, private, broadcast, feed, or weights F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
        /// host of the server, 127.0.0.1 unless given
        #[argh(option, default = "String::from(\"127.0.0.1\")")]
        pub(crate) host: String,
        /// port for the event source, 9090 unless given
        #[argh(option)]
        pub(crate) event_listener_port: Option<u16>,
        /// short for --event-listener-port
        #[argh(option)]
        pub(crate) event_port: Option<u16>,
        /// port for the clients, 9099 unless given
        #[argh(option)]
        pub(crate) client_listener_port: Option<u16>,
        /// short for --client-listener-port
        #[argh(option)]
        pub(crate) client_port: Option<u16>,
        /// start the `eventserver` beside this program, on free ports, and stop it at the end
        #[argh(switch)]
        pub(crate) spawn: bool,
        /// one more argument for the server that --spawn starts; can be repeated
        #[argh(option)]
        pub(crate) server_arg: Vec<String>,
        /// process id of the server, to show what processor time and memory it takes
        #[argh(option)]
        pub(crate) server_pid: Option<u32>,
        /// write a page about the run to this file, as HTML
        #[argh(option)]
        pub(crate) report: Option<PathBuf>,
    }
}

load_command! {
    /// Measure what the kernel alone allows for the same bytes: a server that parses nothing.
    struct Limit("limit") {
        /// verification (unless given), even, private, broadcast, feed, or weights F:U:B:P:S
        #[argh(option)]
        pub(crate) mix: Option<Mix>,
    }
}

load_command! {
    /// Run the server and the limit in turn, several times, and print medians and ratios.
    struct Pinned("pinned") {
        /// a mix to measure, all unless given; can be repeated
        #[argh(option)]
        pub(crate) mix: Vec<Mix>,
        /// runs of each, 5 unless given
        #[argh(option, default = "5")]
        pub(crate) runs: usize,
        /// one more argument for the server; can be repeated
        #[argh(option)]
        pub(crate) server_arg: Vec<String>,
    }
}
