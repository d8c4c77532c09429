//! Reading and disconnecting, common to both kinds of connection.

use std::io::{self, ErrorKind, Read};

use crate::hub::close_reason::CloseReason;

/// The end of a connection: the reason, and the error that caused it.
#[derive(Debug)]
pub(crate) struct Disconnect {
    pub(crate) reason: CloseReason,
    pub(crate) error: Option<io::Error>,
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
            Ok(0) => {
                ReadOutcome::Closed(Disconnect { reason: CloseReason::ClosedByPeer, error: None })
            }
            Ok(bytes) => ReadOutcome::Data(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => ReadOutcome::WouldBlock,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                ReadOutcome::Closed(Disconnect { reason: CloseReason::IoError, error: Some(error) })
            }
        };
    }
}
