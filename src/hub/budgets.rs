//! Limits on the work of one turn, for fairness.

/// Limits on the work of one turn. A server uses the [default](Budgets::default); a simulation uses
/// smaller budgets, so that few bytes exhaust them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Bytes read per source. A larger budget puts more events into each write to a client. The
    /// default is parsed in one or two milliseconds.
    pub source_bytes: usize,
    /// The minimum per source, for any number of sources.
    pub min_source_bytes: usize,
    /// Bytes read from all sources together.
    pub total_source_bytes: usize,
    /// Lines decoded plus events applied.
    pub events: usize,
    /// Bytes queued for clients before applying ends. With the default a turn takes about 3 ms for
    /// a hundred clients (`perf/results/fairness.md`), which is also the wait of a new client, a
    /// timeout or a signal. Each of the hundred gets a little less than 64 KiB, which fit one
    /// write.
    pub queued_bytes: u64,
    /// The same per client that one flush reaches; the larger of the two applies. It spreads the cost of a
    /// write over many lines. What waits to be flushed is limited to this for all registered clients.
    pub queued_bytes_per_client: u64,
    /// Addressed deliveries before applying ends: each non-broadcast line counts once per
    /// recipient. The default stays in a core's private cache until it is written.
    pub addressed: u64,
    /// The same per client that one flush reaches; the larger of the two applies.
    pub addressed_per_client: u64,
    /// Bytes of memory for the lines that are not flushed to all their recipients before applying ends, and
    /// the same for the lists of lines per client. Both are held in addition to the send queues.
    pub batch_bytes: u64,
    /// Clients flushed, up to half of them clients that were not flushed before. The others wait for the next
    /// turn, with what it queues for them. A write of 8 KiB takes about 3.5 µs, and the time of a turn is what
    /// a new client, a timeout, a signal or an operator waits for. With at most this many clients a turn
    /// flushes all of them.
    pub flush_writes: usize,
    /// Bytes written before flushing ends.
    pub flush_bytes: u64,
    /// Bytes freed of the memory of a stream that was reset or of a reorder buffer that has become empty, for each of
    /// slots, lines and kept events. The system takes some 0.1 ms to take back a MiB. More than a turn fills
    /// with the default budget of events, so that the memory of one stream is freed before the next one needs as much.
    pub freed_bytes: usize,
    /// Clients accepted. A connection takes some 20 µs. Events are not applied before all connections are
    /// accepted that wait, or as many as a backlog holds, in however many turns.
    pub accepts: usize,
    /// ID lines read, complete or not. Reading one and registering the client takes some 4 µs. The others wait for the
    /// following turns, in which sources are not read and events not applied before those are done that waited
    /// when the sources were read.
    pub identifies: usize,
    /// Connections closed. Closing one takes some 8 µs; the rest of what the end of a client does takes little,
    /// and is done at once. The others are closed in the following turns.
    pub closes: usize,
    /// Bytes of input read and discarded per identified client.
    pub discarded_bytes_per_client: usize,
    /// Steps of updating follower lists after a registration or its end; each step handles one
    /// followee of that user. The default takes less than a millisecond. As many users of a graph that was
    /// reset are freed.
    pub index_steps: usize,
    /// Steps of sending clients that resume what they have missed; each step passes one event. The default
    /// takes about four milliseconds: about as long as a turn of a flood, so that a crowd that comes back gets half of
    /// the time and the stream does not outrun it.
    pub resume_steps: usize,
    /// Bytes sent to clients that resume. The default takes about four milliseconds.
    pub resume_bytes: usize,
    /// Bytes of input read and discarded from all identified clients together.
    pub discarded_bytes: usize,
    /// Bytes of lines passed to the log and not committed before sources are paused. At 20 bytes per event
    /// the default is 0.8 million events, which a disk writes in a tenth of a second.
    pub in_flight_bytes: usize,
    /// Bytes of lines that are passed at once to a log that commits within microseconds. With their slots of
    /// the reorder buffer they stay in a core's private cache until they are applied: at 20 bytes per event
    /// the default takes 0.4 MB. Each costs two switches between threads where they share a core.
    pub prompt_batch_bytes: usize,
    /// Sequences passed to the log and not applied before sources are paused. Their slots take 40 bytes
    /// each, in addition to those of the reorder window.
    pub unapplied: u64,
}

impl Budgets {
    /// The maximum number of bytes queued in a turn, for any budgets and clients, because a turn
    /// counts them with 32 bits.
    pub(crate) const MAX_QUEUED_BYTES: u64 = 1 << 30;

    /// Returns the memory budget for the lines of a turn: a sixty-fourth of `total_queue_bytes` if
    /// that is more than the configured budget. With the default limit that is 8 MiB, and a turn of
    /// up to four thousand clients exhausts another budget first.
    pub(crate) fn batch_bytes(&self, total_queue_bytes: u64) -> u64 {
        self.batch_bytes.max(total_queue_bytes / 64).min(Budgets::MAX_QUEUED_BYTES)
    }
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            source_bytes: 1280 << 10,
            min_source_bytes: 16 << 10,
            total_source_bytes: 4 << 20,
            events: 1 << 18,
            queued_bytes: 6 << 20,
            queued_bytes_per_client: 8 << 10,
            addressed: 1 << 19,
            addressed_per_client: 512,
            batch_bytes: 1 << 20,
            flush_writes: 1024,
            flush_bytes: 16 << 20,
            freed_bytes: 12 << 20,
            accepts: 256,
            identifies: 512,
            closes: 512,
            index_steps: 8192,
            resume_steps: 1 << 20,
            resume_bytes: 8 << 20,
            discarded_bytes_per_client: 16 << 10,
            discarded_bytes: 256 << 10,
            in_flight_bytes: 16 << 20,
            prompt_batch_bytes: 128 << 10,
            unapplied: 1 << 18,
        }
    }
}
