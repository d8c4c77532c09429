//! Reading and disconnecting, common to both kinds of connection.

use std::io::{self, ErrorKind, Read};

use crate::hub::close_reason::CloseReason;
use crate::hub::log_limiter::Escaped;

/// The end of a connection: the reason, and the error that caused it.
#[derive(Debug)]
pub(crate) struct Disconnect {
    pub(crate) reason: CloseReason,
    pub(crate) error: Option<io::Error>,
    /// The line of the peer that is the reason, escaped and truncated.
    pub(crate) input: Option<Box<str>>,
    /// What is wrong with that line, where the reason does not say it.
    pub(crate) hint: Option<Box<str>>,
}

impl From<CloseReason> for Disconnect {
    fn from(reason: CloseReason) -> Disconnect {
        Disconnect { reason, error: None, input: None, hint: None }
    }
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Disconnect {
        Disconnect { reason: CloseReason::IoError, error: Some(error), input: None, hint: None }
    }
}

impl Disconnect {
    /// Returns an end whose reason is this line.
    pub(crate) fn for_line(reason: CloseReason, line: &[u8]) -> Disconnect {
        let input = Escaped(line).to_string().into_boxed_str();
        Disconnect { reason, error: None, input: Some(input), hint: None }
    }

    /// Says what is wrong with the line.
    pub(crate) fn because(self, hint: String) -> Disconnect {
        Disconnect { hint: Some(hint.into_boxed_str()), ..self }
    }

    /// Returns whether the peer has reset the connection.
    pub(crate) fn is_reset(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }
}

/// The result of a read.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// The number of bytes read.
    Data(usize),
    /// No bytes are available now.
    WouldBlock,
    /// The connection is closed for reading.
    Closed(Disconnect),
}

/// Reads once; retries after an interruption.
pub(crate) fn try_read(stream: &mut impl Read, buffer: &mut [u8]) -> ReadOutcome {
    loop {
        return match stream.read(buffer) {
            Ok(0) => ReadOutcome::Closed(CloseReason::ClosedByPeer.into()),
            Ok(bytes) => ReadOutcome::Data(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => ReadOutcome::WouldBlock,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => ReadOutcome::Closed(error.into()),
        };
    }
}

/// The result of discarding input.
#[derive(Debug)]
pub(crate) enum DiscardOutcome {
    /// No bytes are available now.
    Drained,
    /// There may be more.
    BudgetExhausted,
    /// The connection is closed for reading.
    Closed(Disconnect),
}

/// Reads and discards up to `share` bytes, at most the remaining `budget`.
pub(crate) fn discard(stream: &mut impl Read, share: usize, budget: &mut usize) -> DiscardOutcome {
    let mut scratch = [0; 4096];
    let mut left = share.min(*budget);
    while left > 0 {
        match try_read(stream, &mut scratch) {
            ReadOutcome::Data(bytes) => {
                left = left.saturating_sub(bytes);
                *budget = budget.saturating_sub(bytes);
            }
            ReadOutcome::WouldBlock => return DiscardOutcome::Drained,
            ReadOutcome::Closed(end) => return DiscardOutcome::Closed(end),
        }
    }
    DiscardOutcome::BudgetExhausted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::test_stream::TestStream;

    #[test]
    fn no_more_than_share_and_budget_is_discarded() {
        let mut stream = TestStream::with_input(&[b'x'; 10_000]);
        let mut budget = 6000;
        assert!(matches!(discard(&mut stream, 4096, &mut budget), DiscardOutcome::BudgetExhausted));
        assert_eq!((stream.input.len(), budget), (5904, 1904));
        assert!(matches!(discard(&mut stream, 4096, &mut budget), DiscardOutcome::BudgetExhausted));
        assert_eq!((stream.input.len(), budget), (1808, 0));
        assert!(matches!(discard(&mut stream, 4096, &mut budget), DiscardOutcome::BudgetExhausted));
        assert_eq!(stream.input.len(), 1808, "nothing is read without a budget");
    }

    #[test]
    fn the_end_is_found_after_the_input() {
        let mut stream = TestStream::with_input(b"ignored");
        let mut budget = 100;
        assert!(matches!(discard(&mut stream, 50, &mut budget), DiscardOutcome::Drained));
        stream.is_closed_by_peer = true;
        let DiscardOutcome::Closed(end) = discard(&mut stream, 50, &mut budget) else { panic!() };
        assert_eq!((end.reason, end.is_reset()), (CloseReason::ClosedByPeer, false));
    }
}
