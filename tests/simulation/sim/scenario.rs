//! The parameters of a run: settings, budgets, kernel and peers.

use std::time::Duration;

use eventserver::config::{Config, OnSourceDisconnect, SlowClient};
use eventserver::hub::{Budgets, Capacity};

use super::kernel::KernelConfig;
use super::random::Random;

/// The parameters of one run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) config: Config,
    pub(crate) capacity: Capacity,
    pub(crate) budgets: Budgets,
    pub(crate) kernel_config: KernelConfig,
    pub(crate) steps: usize,
    /// Upper bound of the sources connected at once. With more than one, the same sequence always
    /// comes with the same bytes, because it is not defined which of two sources is read first.
    pub(crate) sources: usize,
    /// Whether a source may exceed the reorder window.
    pub(crate) exceeds_window: bool,
    pub(crate) users: Vec<u64>,
    /// Upper bound of the lines that a source sends at once.
    pub(crate) batch: u64,
    /// One in this many lines is faulty; 0 for none.
    pub(crate) error_rate: usize,
    /// One in this many actions of clients and sources is to disconnect.
    pub(crate) disconnect_rate: usize,
    /// One in this many clients reads slowly or never; 0 for none.
    pub(crate) slow_reader_rate: usize,
    /// Whether sources send `SYNC`.
    pub(crate) syncs: bool,
}

impl Scenario {
    pub(crate) fn random(random: &mut Random) -> Scenario {
        let sources = *random.pick(&[1, 1, 1, 2, 3]);
        let config = random_config(random);
        let may_stop_anywhere = sources == 1;
        let capacity = Capacity {
            max_clients: *random.pick(&[1, 2, 5, 100, 100]),
            max_awaiting_id: *random.pick(&[1, 2, 64]),
        };
        let kernel_config = random_kernel_config(random, &config, &capacity);
        let batch = *random.pick(&[2, 10, 40, 300]);
        let users = *random.pick(&[1, 2, 4, 8]);
        Scenario {
            capacity,
            budgets: random_budgets(
                random,
                may_stop_anywhere,
                kernel_config.fault_rate,
                may_put_off_closes(&config, capacity),
            ),
            steps: *random.pick(&[20, 60, 150, 300]),
            sources,
            exceeds_window: sources == 1 && random.one_in(3),
            users: (1..=users).map(|user| if user == 7 { u64::MAX } else { user }).collect(),
            batch: batch.min(1 + kernel_config.max_buffer_bytes),
            kernel_config,
            error_rate: *random.pick(&[0, 4, 10, 40]),
            disconnect_rate: *random.pick(&[2, 5, 20]),
            slow_reader_rate: *random.pick(&[0, 2, 4]),
            syncs: random.one_in(3),
            config,
        }
    }
}

fn random_config(random: &mut Random) -> Config {
    let mut millis = |choices: &[u64]| Duration::from_millis(*random.pick(choices));
    let identify_timeout = millis(&[10, 100, 1000, 10_000]);
    let stall_timeout = millis(&[10, 100, 1000]);
    let drain_timeout = millis(&[0, 10, 100, 1000]);
    let gap_timeout = millis(&[0, 0, 1, 10, 100]);
    let resume_events = *random.pick(&[0, 0, 1, 3, 20, 50, 300, 100_000]);
    let client_queue_bytes = *random.pick(&[1, 12, 30, 100, 400, 4096, 1 << 20]);
    let total_queue_bytes = match resume_events {
        0 => client_queue_bytes * *random.pick(&[1, 2, 5, 1000]),
        // Always enough, because the bytes queued for a client that resumes are unknown to the model.
        _ => client_queue_bytes * 1000 + 10_000,
    };
    Config {
        first_sequence: *random.pick(&[1, 1, 1, 0, 120, 0xffff_ff00, u64::MAX - 100]),
        reorder_window: *random.pick(&[1, 2, 5, 30, 200, 1000]),
        gap_timeout: Some(gap_timeout).filter(|timeout| !timeout.is_zero()),
        on_source_disconnect: *random.pick(&[OnSourceDisconnect::Keep, OnSourceDisconnect::Reset]),
        max_clients_per_address: *random.pick(&[None, None, None, Some(2)]),
        max_sources: *random.pick(&[1, 2, 64]),
        max_line_bytes: *random.pick(&[64, 100, 256]),
        identify_timeout,
        client_queue_bytes,
        total_queue_bytes,
        slow_client: *random.pick(&[SlowClient::Pause, SlowClient::Disconnect]),
        stall_timeout,
        drain_timeout,
        resume_events,
        ..Config::default()
    }
}

/// Returns whether closes may be put off: if no client is over a limit. When the server rejects one is known only from
/// its close.
fn may_put_off_closes(config: &Config, capacity: Capacity) -> bool {
    config.max_clients_per_address.is_none() && capacity.max_clients == 100
}

/// Budgets that a few bytes exhaust. Applying may stop in the middle of a source only if it is the
/// only one; otherwise it would be undefined which source is read next.
fn random_budgets(
    random: &mut Random,
    may_stop_anywhere: bool,
    fault_rate: usize,
    may_put_off_closes: bool,
) -> Budgets {
    let default = Budgets::default();
    if random.one_in(2) {
        return default;
    }
    let source_bytes = *random.pick(&[1, 7, 50, 300]);
    let [events, queued_bytes, addressed] = match may_stop_anywhere && random.one_in(2) {
        true => {
            [*random.pick(&[1, 3, 20]), *random.pick(&[1, 100, 1000]), *random.pick(&[1, 10, 100])]
        }
        false => [default.events as u64, default.queued_bytes, default.addressed],
    };
    let mut budgets = Budgets {
        source_bytes,
        min_source_bytes: 1,
        total_source_bytes: source_bytes * 2,
        events: events as usize,
        queued_bytes,
        addressed,
        addressed_per_client: 0,
        queued_bytes_per_client: 0,
        accepts: *random.pick(&[1, 3, default.accepts]),
        index_steps: *random.pick(&[1, 3, 10]),
        discarded_bytes_per_client: *random.pick(&[1, 5, 50]),
        discarded_bytes: *random.pick(&[1, 10, 100]),
        batch_bytes: queued_bytes,
        resume_steps: *random.pick(&[1, 5, 50, default.resume_steps]),
        resume_bytes: *random.pick(&[1, 100, default.resume_bytes]),
        flush_writes: *random.pick(&[1, 2, 3, default.flush_writes]),
        flush_bytes: *random.pick(&[1, 100, default.flush_bytes]),
        // Without effect, because there is no log.
        in_flight_bytes: default.in_flight_bytes,
        unapplied: default.unapplied,
        prompt_batch_bytes: default.prompt_batch_bytes,
        ..default
    };
    // Small together with others, so that scripts of runs keep their meaning. Spurious readiness lists as many clients
    // in each turn as a small budget reads.
    if fault_rate == 0 {
        budgets.identifies = budgets.accepts.min(default.identifies);
    }
    budgets.freed_bytes = 1000 * budgets.index_steps;
    if may_put_off_closes {
        budgets.closes = budgets.flush_writes.min(default.closes);
    }
    budgets
}

/// Descriptors kept in reserve.
const RESERVE: usize = 16;

fn random_kernel_config(random: &mut Random, config: &Config, capacity: &Capacity) -> KernelConfig {
    KernelConfig {
        descriptors: config.max_sources + capacity.max_clients + capacity.max_awaiting_id + RESERVE,
        backlog: *random.pick(&[1, 3, 16]),
        max_buffer_bytes: *random.pick(&[1, 10, 60, 400, 5000]),
        fault_rate: *random.pick(&[0, 4, 20]),
        events_per_poll: *random.pick(&[1, 3, 1024]),
    }
}
