//! A sink for an engine that is measured alone.

use eventserver::engine::{Full, Recipients, Sink};
use eventserver::protocol::Line;

/// Counts the deliveries of each recipient, and keeps nothing. Recipients are numbered from 0.
pub(crate) struct CountingSink {
    /// Lines addressed to each recipient, alone or among several.
    addressed: Vec<u64>,
    /// Lines for all recipients.
    broadcasts: u64,
    /// Bytes of all lines, each counted once for any number of recipients.
    pub(crate) bytes: u64,
}

impl CountingSink {
    pub(crate) fn new(recipients: usize) -> CountingSink {
        CountingSink { addressed: vec![0; recipients], broadcasts: 0, bytes: 0 }
    }

    /// Returns the number of lines for one recipient so far.
    pub(crate) fn received(&self, recipient: usize) -> u64 {
        self.addressed[recipient] + self.broadcasts
    }

    /// Returns the number of lines for all recipients so far.
    pub(crate) fn deliveries(&self) -> u64 {
        (0..self.addressed.len()).map(|recipient| self.received(recipient)).sum()
    }
}

impl Sink for CountingSink {
    #[inline]
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Result<(), Full> {
        match audience {
            Recipients::One(recipient) => self.addressed[recipient.0 as usize] += 1,
            Recipients::Many(recipients) => {
                for &recipient in recipients {
                    self.addressed[recipient as usize] += 1;
                }
            }
            Recipients::All => self.broadcasts += 1,
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}
