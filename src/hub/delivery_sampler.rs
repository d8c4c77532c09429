//! Samples of the time that an event takes from its source to its recipients.

use std::time::Instant;

use crate::protocol::Sequence;

/// Follows one event at a time: from the read of its line to the end of the flush after it was applied. Costs
/// a few nanoseconds per turn, and nothing per event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliverySampler {
    /// The event that is followed, and when it was read.
    sample: Option<(Sequence, Instant)>,
    /// When the event that was delivered last had been read.
    delivered: Option<Instant>,
}

impl DeliverySampler {
    /// Returns whether the next event may be followed.
    pub(super) fn is_idle(&self) -> bool {
        self.sample.is_none()
    }

    /// Follows an event that was read at this time. Ignores one that is late, or further ahead than
    /// `window`.
    pub(super) fn start(
        &mut self,
        sequence: Sequence,
        read_at: Instant,
        awaited: u64,
        window: u32,
    ) {
        let is_expected = sequence
            .get()
            .checked_sub(awaited)
            .is_some_and(|distance| distance < u64::from(window));
        if is_expected {
            self.sample = Some((sequence, read_at));
        }
    }

    /// Records the end of a flush, after which `awaited` is the next sequence to apply.
    pub(super) fn on_flushed(&mut self, awaited: u64) {
        if let Some((_, read_at)) = self.sample.take_if(|(sequence, _)| sequence.get() < awaited) {
            self.delivered = Some(read_at);
        }
    }

    /// Forgets the event, because the stream was reset.
    pub(super) fn reset(&mut self) {
        self.sample = None;
    }

    /// Returns and forgets when the delivered event had been read.
    pub(super) fn take_delivered(&mut self) -> Option<Instant> {
        self.delivered.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn an_event_is_followed_until_it_is_applied_and_flushed() {
        let now = Instant::now();
        let mut sampler = DeliverySampler::default();
        sampler.start(sequence(7), now, 5, 10);
        assert!(!sampler.is_idle());
        sampler.on_flushed(7);
        assert_eq!(sampler.take_delivered(), None);
        sampler.on_flushed(8);
        assert_eq!(sampler.take_delivered(), Some(now));
        assert!(sampler.is_idle() && sampler.take_delivered().is_none());
    }

    #[test]
    fn an_event_that_is_not_applied_is_not_followed() {
        let now = Instant::now();
        let mut sampler = DeliverySampler::default();
        for number in [4, 15] {
            sampler.start(sequence(number), now, 5, 10);
            assert!(sampler.is_idle(), "{number}");
        }
        sampler.start(sequence(14), now, 5, 10);
        sampler.reset();
        assert!(sampler.is_idle());
    }
}
