use std::fmt;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Server, Source};
use crate::workload::{CHECKED_CLIENTS, Workload};

/// Pause between two rounds, so that the fault gets CPU time too.
const PAUSE: Duration = Duration::from_millis(1);

/// Lower bound of the sent bytes that are kept.
const REMEMBERED: usize = 1 << 20;

/// A stream during a fault. In each round a source sends some events in disorder, and every checked
/// client must receive exactly its bytes.
#[derive(Debug)]
pub(crate) struct Stream {
    source: Source,
    clients: Vec<Client>,
    workload: Workload,
    events_per_round: u64,
    events: u64,
    first_sent: Vec<u8>,
    longest_round: Duration,
}

impl Stream {
    /// Starts a stream at sequence 1.
    pub(crate) fn connect(server: &Server) -> Stream {
        Stream::connect_with(server, Workload::starting_with(1))
    }

    /// Starts a stream that continues a workload of which everything written has been received.
    pub(crate) fn connect_with(server: &Server, workload: Workload) -> Stream {
        Stream {
            source: Source::connect(server),
            clients: Workload::checked_users().map(|user| Client::connect(server, user)).collect(),
            workload,
            events_per_round: 100,
            events: 0,
            first_sent: Vec::new(),
            longest_round: Duration::ZERO,
        }
    }

    pub(crate) fn in_rounds_of(self, events_per_round: u64) -> Stream {
        Stream { events_per_round, ..self }
    }

    /// Runs rounds while `fault` runs, and one after it.
    pub(crate) fn run_during<T: Send>(&mut self, fault: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let fault = scope.spawn(fault);
            while !fault.is_finished() {
                self.round();
            }
            let result = fault.join().unwrap_or_else(|panic| resume_unwind(panic));
            self.round();
            result
        })
    }

    pub(crate) fn round(&mut self) {
        let start = Instant::now();
        let lines = self.workload.write(self.events_per_round);
        self.source.sends(&lines);
        if self.first_sent.len() < REMEMBERED {
            self.first_sent.extend_from_slice(&lines);
        }
        for (client, expected) in self.clients.iter_mut().zip(self.workload.take_expected()) {
            client.receives_bytes(&expected);
        }
        self.events += self.events_per_round;
        self.longest_round = self.longest_round.max(start.elapsed());
        thread::sleep(PAUSE);
    }

    /// Returns what a client must have received that was connected from the start and is not
    /// checked.
    pub(crate) fn broadcasts(&self) -> &[u8] {
        self.workload.broadcasts()
    }

    /// Returns the first megabyte sent, or everything so far.
    pub(crate) fn first_sent(&self) -> &[u8] {
        &self.first_sent
    }

    /// Disconnects source and clients; returns the stream's figures.
    #[track_caller]
    pub(crate) fn ends(self, server: &Server) -> Figures {
        drop((self.source, self.clients));
        server.wait_for_stat("sources_connected", 0);
        server.wait_for_stat("clients_connected", 0);
        assert_eq!(server.stat("queued_bytes"), 0);
        Figures { events: self.events, longest_round: self.longest_round }
    }
}

/// Number of events, and duration of the longest round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    events: u64,
    longest_round: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { events, longest_round } = self;
        let longest = longest_round.as_millis();
        write!(
            f,
            "{events} events meanwhile to {CHECKED_CLIENTS} clients, slowest round {longest} ms"
        )
    }
}
