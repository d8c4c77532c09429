//! How much is done in one turn before the others have theirs.

/// What one turn may do at most. The usual ones are the [default](Budgets::default); a simulation
/// takes smaller ones, so that few bytes reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Bytes read of one source. The more events share a turn, the more of them leave in one write
    /// to a client; the usual number is parsed in one or two milliseconds.
    pub source_bytes: usize,
    /// The least of that, however many sources there are.
    pub min_source_bytes: usize,
    /// Bytes read of all sources together.
    pub total_source_bytes: usize,
    /// Lines taken and events applied, together.
    pub events: usize,
    /// No more events are applied once they have queued so many bytes. With the usual number a turn takes
    /// about 3 ms for a hundred clients (`perf/results/fairness.md`): so long a new client, a timeout or a
    /// signal waits. Each of the hundred gets a little less than 64 KiB, which leave in one piece.
    pub queued_bytes: u64,
    /// The same for each registered client, where that makes more: enough for the cost of a write to
    /// be spread over many lines.
    pub queued_bytes_per_client: u64,
    /// No more events are applied once lines that are not for all have been queued for so many
    /// clients, each line counted for each of them: the usual number stays in a processor's own cache
    /// until it is written.
    pub addressed: u64,
    /// The same for each registered client, where that makes more.
    pub addressed_per_client: u64,
    /// No more events are applied once the turn's lines take so many bytes of memory, or the lists
    /// that say for whom they are: both are held beside the queues that they go to.
    pub batch_bytes: u64,
    /// Bytes of an identified client that are read and forgotten.
    pub discarded_bytes_per_client: usize,
    /// Steps by which lists of followers are brought up to date, each for one user that another one
    /// follows who was registered or unregistered: the usual number takes less than a millisecond.
    pub index_steps: usize,
    /// Bytes of all identified clients that are read and forgotten.
    pub discarded_bytes: usize,
}

impl Budgets {
    /// A turn never goes on behind so many queued bytes, whatever its budgets and clients: what is
    /// queued in it is counted with 32 bits.
    pub(crate) const MAX_QUEUED_BYTES: u64 = 1 << 30;

    /// What the lines of a turn may take where all queues may hold `total_queue_bytes`: a
    /// sixty-fourth of that where it is more than usual. With the usual limit that is 8 MiB, and
    /// the other budgets end a turn of up to four thousand clients first.
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
            index_steps: 8192,
            discarded_bytes_per_client: 16 << 10,
            discarded_bytes: 256 << 10,
        }
    }
}
