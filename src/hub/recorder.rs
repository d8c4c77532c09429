//! A record of the accepted lines.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Records every accepted line in the order of arrival. It never blocks: who writes the lines does so
/// elsewhere.
pub trait Recorder: Debug {
    /// Records a line, without its terminator.
    fn record(&mut self, line: &[u8]);

    /// Records when the lines of this turn came. `is_idle`: the loop has nothing else to do.
    fn end_turn(&mut self, now: Instant, is_idle: bool);

    /// Completes the record, in no more time than `timeout`.
    fn finish(self: Box<Self>, timeout: Duration);
}
