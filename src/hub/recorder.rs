//! The interface for recording accepted lines.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Records every accepted line in order of arrival. Implementations must not block, because they
/// run in the loop.
pub trait Recorder: Debug {
    /// Records a line, without its terminator.
    fn record(&mut self, line: &[u8]);

    /// Records the time at which the lines of this turn arrived. `is_idle` is whether the loop has
    /// no work left.
    fn end_turn(&mut self, now: Instant, is_idle: bool);

    /// Completes the record, within `timeout`.
    fn finish(self: Box<Self>, timeout: Duration);
}
