use std::fmt;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Server, Source};
use crate::workload::{CHECKED_CLIENTS, Workload};

/// Between two rounds, so that the fault has a share of the processor too.
const PAUSE: Duration = Duration::from_millis(1);

/// The first so many bytes sent, at least, are remembered.
const REMEMBERED: usize = 1 << 20;

/// A stream that goes on while something happens to the server: a source sends a few events in
/// disorder, every witness receives exactly what it must, and so forth.
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
    /// A stream that begins with sequence 1.
    pub(crate) fn connect(server: &Server) -> Stream {
        Stream::connect_with(server, Workload::starting_with(1))
    }

    /// A stream that goes on with a script of which all that was written has been received.
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

    /// Goes on while `fault` is at work, and for a round afterwards.
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

    /// What somebody has to have received who was there from the beginning and is no witness.
    pub(crate) fn broadcasts(&self) -> &[u8] {
        self.workload.broadcasts()
    }

    /// The first megabyte that was sent, or all of it so far.
    pub(crate) fn first_sent(&self) -> &[u8] {
        &self.first_sent
    }

    /// Source and witnesses leave; returns what the stream came to.
    #[track_caller]
    pub(crate) fn ends(self, server: &Server) -> Figures {
        drop((self.source, self.clients));
        server.wait_for_stat("sources now", 0);
        server.wait_for_stat("clients now", 0);
        assert_eq!(server.stat("queued now"), 0);
        Figures { events: self.events, longest_round: self.longest_round }
    }
}

/// How many events went to the witnesses, and how long the longest round took.
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
            "{events} events meanwhile to {CHECKED_CLIENTS} clients, the slowest {longest} ms"
        )
    }
}
