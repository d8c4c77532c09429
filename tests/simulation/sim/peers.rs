//! The peers of the server: clients and sources, and their actions.

use std::collections::VecDeque;

use super::kernel::{Kernel, SocketId};
use super::line_generator::LineGenerator;
use super::random::Random;
use super::scenario::Scenario;
use super::socket::Side;

/// The speed at which a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Fast,
    Slow,
    Never,
}

/// The peer's side of a client connection.
pub(crate) struct ClientPeer {
    pub(crate) socket: SocketId,
    pub(crate) pace: Pace,
    /// Pieces of its ID line that it will send.
    pieces: VecDeque<Vec<u8>>,
}

/// All peers.
pub(crate) struct Peers {
    random: Random,
    scenario: Scenario,
    lines: LineGenerator,
    pub(crate) clients: Vec<ClientPeer>,
    pub(crate) sources: Vec<SocketId>,
    /// The first sequence that no source has sent since the stream began.
    cursor: u64,
    /// The sequence that the server waits for.
    awaited: u64,
    /// No peer acts any more.
    has_stopped: bool,
    pub(crate) is_tracing: bool,
}

/// Upper bound of the connections of one run.
const MAX_SOCKETS: usize = 200;

impl Peers {
    pub(crate) fn new(scenario: &Scenario, random: &mut Random) -> Peers {
        let lines = LineGenerator::new(
            random.fork(),
            scenario.users.clone(),
            scenario.error_rate,
            scenario.sources == 1,
            scenario.config.max_line_bytes,
        );
        Peers {
            random: random.fork(),
            scenario: scenario.clone(),
            lines,
            clients: Vec::new(),
            sources: Vec::new(),
            cursor: scenario.config.first_sequence,
            awaited: scenario.config.first_sequence,
            has_stopped: false,
            is_tracing: false,
        }
    }

    /// Lets one peer act. `awaited` is the sequence that the server waits for.
    pub(crate) fn step(&mut self, kernel: &mut Kernel, awaited: u64) {
        self.awaited = awaited;
        match self.random.below(100) {
            0..14 => self.client_connects(kernel),
            14..34 => self.client_sends_id(kernel),
            34..44 => self.client_reads(kernel),
            44..48 => self.client_changes_pace(),
            48..52 => self.client_sends_garbage(kernel),
            52..58 if self.should_leave() => self.client_disconnects(kernel),
            58..66 => self.source_connects(kernel),
            66..90 => self.source_sends(kernel, awaited),
            90..95 if self.should_leave() => self.source_disconnects(kernel),
            95..97 => kernel.is_out_of_descriptors = self.random.one_in(3),
            _ => {}
        }
        self.transfer(kernel);
    }

    /// Lets one peer act in the middle of a turn.
    pub(crate) fn step_mid_turn(&mut self, kernel: &mut Kernel) {
        if self.has_stopped || !self.random.one_in(3) {
            return;
        }
        match self.random.below(8) {
            0 => self.client_connects(kernel),
            1 => self.client_reads(kernel),
            2 if self.should_leave() => self.client_disconnects(kernel),
            3 if self.should_leave() => self.source_disconnects(kernel),
            _ => self.client_sends_id(kernel),
        }
        self.transfer(kernel);
    }

    /// Delivers sent bytes, and lets clients read, at random.
    pub(crate) fn transfer(&mut self, kernel: &mut Kernel) {
        for id in 0..kernel.sockets.len() {
            if self.random.below(3) > 0 {
                kernel.deliver(id);
            }
        }
        for client in &self.clients {
            let max = match client.pace {
                Pace::Fast => usize::MAX,
                Pace::Slow if self.random.one_in(3) => 1 + self.random.below(9),
                Pace::Slow | Pace::Never => 0,
            };
            kernel.sockets[client.socket].receive(max);
        }
        for &source in &self.sources {
            let socket = &mut kernel.sockets[source];
            if !socket.is_drained() {
                socket.receive(*self.random.pick(&[0, 0, 3, usize::MAX]));
            }
        }
        self.close_after_eof(kernel);
    }

    /// Closes most of the clients that have read the end of the stream.
    fn close_after_eof(&mut self, kernel: &mut Kernel) {
        for client in self.clients.iter().filter(|client| client.pace != Pace::Never) {
            let socket = &mut kernel.sockets[client.socket];
            if socket.is_shut_down && socket.is_drained() && client.socket % 5 > 0 {
                socket.is_finished = true;
                socket.deliver();
            }
        }
    }

    /// Ends all actions; only sent bytes still arrive.
    pub(crate) fn stop_acting(&mut self, kernel: &mut Kernel) {
        self.has_stopped = true;
        kernel.is_out_of_descriptors = false;
    }

    /// Delivers all sent bytes, and lets every client that reads read everything.
    pub(crate) fn transfer_all(&mut self, kernel: &mut Kernel) {
        (0..kernel.sockets.len()).for_each(|id| kernel.deliver(id));
        for client in self.clients.iter().filter(|client| client.pace != Pace::Never) {
            kernel.sockets[client.socket].receive(usize::MAX);
        }
        for &source in &self.sources {
            kernel.sockets[source].receive(usize::MAX);
        }
        self.close_after_eof(kernel);
    }

    /// Restarts the stream at the first sequence.
    pub(crate) fn restart_stream(&mut self) {
        self.cursor = self.scenario.config.first_sequence;
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.is_tracing {
            println!("  {what}");
        }
    }

    fn should_leave(&mut self) -> bool {
        self.random.one_in(self.scenario.disconnect_rate)
    }

    /// Picks one of the clients that the server may still have open.
    fn random_client(&mut self, kernel: &Kernel) -> Option<usize> {
        self.clients.retain(|client| !kernel.sockets[client.socket].is_closed);
        (!self.clients.is_empty()).then(|| self.random.below(self.clients.len()))
    }

    fn random_source(&mut self, kernel: &Kernel) -> Option<SocketId> {
        let is_open = |&&id: &&SocketId| {
            let socket = &kernel.sockets[id];
            !socket.is_closed && !socket.is_finished
        };
        let open: Vec<SocketId> = self.sources.iter().filter(is_open).copied().collect();
        (!open.is_empty()).then(|| *self.random.pick(&open))
    }
}

/// Clients.
impl Peers {
    fn client_connects(&mut self, kernel: &mut Kernel) {
        if kernel.sockets.len() >= MAX_SOCKETS {
            return;
        }
        let Some(socket) = kernel.connect(Side::Client) else { return };
        let line = self.id_line();
        let pace = self.random_pace();
        self.trace(format_args!("client {socket} connects: {}, {pace:?}", line.escape_ascii()));
        let pieces = if self.random.one_in(3) {
            let size = 1 + self.random.below(3);
            line.chunks(size).map(<[u8]>::to_vec).collect()
        } else {
            [line].into()
        };
        self.clients.push(ClientPeer { socket, pace, pieces });
        if self.random.one_in(2) {
            self.send_id_piece(self.clients.len() - 1, kernel);
        }
    }

    fn id_line(&mut self) -> Vec<u8> {
        let user = *self.random.pick(&self.scenario.users);
        let end = *self.random.pick(&["\n", "\r\n"]);
        let extra = *self.random.pick(&["", "", "", "hello\n", "1\n2\n"]);
        match self.random.below(20) {
            0 => format!("00{user}{end}").into_bytes(),
            1 => self.random.pick(&[&b"abc\n"[..], b"\n", b"-1\n", b"1 \n", b"\xff\0\n"]).to_vec(),
            2 => "1".repeat(60 + self.random.below(10)).into_bytes(),
            3 => Vec::new(),
            4 => user.to_string().into_bytes(),
            5 => format!("{user}|{end}").into_bytes(),
            6..13 if self.scenario.config.resume_events > 0 || self.random.one_in(10) => {
                format!("{user}|{}{end}{extra}", self.last_sequence()).into_bytes()
            }
            _ => format!("{user}{end}{extra}").into_bytes(),
        }
    }

    /// Returns a sequence up to which a client that comes back may have everything.
    fn last_sequence(&mut self) -> u64 {
        let back = self.random.below(40) as u64;
        let last = self.awaited.saturating_sub(1);
        match self.random.below(12) {
            0 => last.saturating_add(self.random.between(1, 4)),
            1 => *self.random.pick(&[0, u64::MAX - 1, u64::MAX]),
            2..6 => last,
            _ => last.saturating_sub(back),
        }
    }

    fn random_pace(&mut self) -> Pace {
        match self.random.one_in(self.scenario.slow_reader_rate) {
            true => *self.random.pick(&[Pace::Slow, Pace::Slow, Pace::Never]),
            false => Pace::Fast,
        }
    }

    fn client_sends_id(&mut self, kernel: &mut Kernel) {
        if let Some(at) = self.random_client(kernel) {
            self.send_id_piece(at, kernel);
        }
    }

    fn send_id_piece(&mut self, at: usize, kernel: &mut Kernel) {
        let client = &mut self.clients[at];
        let socket = &mut kernel.sockets[client.socket];
        if let Some(piece) = client.pieces.pop_front().filter(|_| !socket.is_finished) {
            socket.unsent.extend(piece);
            socket.deliver();
        }
    }

    fn client_reads(&mut self, kernel: &mut Kernel) {
        if let Some(at) = self.random_client(kernel) {
            let max = 1 + self.random.below(50);
            let ClientPeer { socket, pace, .. } = self.clients[at];
            if pace != Pace::Never {
                kernel.sockets[socket].receive(max);
            }
        }
    }

    fn client_changes_pace(&mut self) {
        if !self.clients.is_empty() {
            let at = self.random.below(self.clients.len());
            self.clients[at].pace = self.random_pace();
            let ClientPeer { socket, pace, .. } = self.clients[at];
            self.trace(format_args!("client {socket} reads {pace:?}"));
        }
    }

    fn client_sends_garbage(&mut self, kernel: &mut Kernel) {
        if let Some(at) = self.random_client(kernel) {
            let bytes = self.random.below(60);
            let ClientPeer { socket, ref pieces, .. } = self.clients[at];
            if pieces.is_empty() && !kernel.sockets[socket].is_finished {
                kernel.sockets[socket].unsent.extend(vec![b'\n'; bytes]);
            }
        }
    }

    fn client_disconnects(&mut self, kernel: &mut Kernel) {
        let Some(at) = self.random_client(kernel) else { return };
        let id = self.clients[at].socket;
        let socket = &mut kernel.sockets[id];
        let how = self.random.below(3);
        match how {
            0 => socket.reset(),
            way => {
                socket.is_finished = true;
                socket.is_abandoned = way == 1;
                socket.deliver();
            }
        }
        let how = ["resets", "closes", "closes half"][how];
        self.trace(format_args!("client {id} {how}"));
    }
}

/// Sources.
impl Peers {
    fn source_connects(&mut self, kernel: &mut Kernel) {
        // A source that has ended is replaced by another, even if the server has not read its end.
        // Where the same sequence may come with different bytes, only one source may be connected.
        let may_overlap = self.scenario.sources > 1;
        self.sources.retain(|&id| {
            let socket = &kernel.sockets[id];
            !(socket.is_closed || may_overlap && socket.is_finished)
        });
        if self.sources.len() < self.scenario.sources
            && kernel.sockets.len() < MAX_SOCKETS
            && let Some(id) = kernel.connect(Side::Source)
        {
            self.trace(format_args!("source {id} connects"));
            self.sources.push(id);
        }
    }

    fn source_sends(&mut self, kernel: &mut Kernel, awaited: u64) {
        let Some(id) = self.random_source(kernel) else { return };
        // At most what buffers and budgets pass in a bounded number of turns.
        let Scenario { kernel_config, budgets, .. } = &self.scenario;
        let max =
            (10 * kernel_config.max_buffer_bytes as usize + 20).min(200 * budgets.source_bytes);
        if kernel.sockets[id].unsent.len() > max {
            return;
        }
        let sequences = self.next_sequences(awaited);
        let mut bytes = self.lines.generate(sequences);
        if self.scenario.syncs && self.random.one_in(5) {
            let sync = *self.random.pick(&[&b"SYNC\n"[..], b"SYNC\r\n", b"SYNC\nSYNC\n"]);
            match self.random.one_in(2) {
                true => bytes.extend(sync),
                false => drop(bytes.splice(..0, sync.iter().copied())),
            }
        }
        self.trace(format_args!("source {id} sends {}", bytes.escape_ascii()));
        kernel.sockets[id].unsent.extend(bytes);
        kernel.deliver(id);
    }

    /// Picks the sequences to send: new ones within the window, or old ones again, as a source does
    /// that does not know what was lost.
    fn next_sequences(&mut self, awaited: u64) -> Vec<u64> {
        let window = u64::from(self.scenario.config.reorder_window);
        let count = 1 + self.random.below(self.scenario.batch as usize) as u64;
        let end = awaited.saturating_add(window);
        if self.scenario.exceeds_window && self.random.one_in(10) {
            return vec![end.saturating_add(count - 1).min(u64::MAX - 1)];
        }
        self.cursor = self.cursor.max(awaited);
        if self.cursor >= end || self.random.one_in(3) {
            let late = self.random.below(3) as u64;
            let first = awaited.saturating_sub(late);
            return (first..self.cursor.min(first.saturating_add(count)).min(end)).collect();
        }
        let first = self.cursor;
        self.cursor = first.saturating_add(count).min(end);
        (first..self.cursor).collect()
    }

    fn source_disconnects(&mut self, kernel: &mut Kernel) {
        let Some(id) = self.random_source(kernel) else { return };
        let socket = &mut kernel.sockets[id];
        let how = self.random.below(4);
        match how {
            0 => socket.reset(),
            1 => socket.unsent.extend(b"1234|B"),
            _ => {}
        }
        socket.is_finished = true;
        socket.deliver();
        let how = ["resets", "ends mid-line", "ends", "ends"][how];
        self.trace(format_args!("source {id} {how}"));
    }
}
