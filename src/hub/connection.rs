//! What connections of both kinds have in common: how they are read, and how they end.

use std::io::{self, ErrorKind, Read};

use crate::hub::close_reason::CloseReason;

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Disconnect {
    pub(crate) reason: CloseReason,
    pub(crate) error: Option<io::Error>,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// So many bytes.
    Data(usize),
    /// Nothing for now.
    WouldBlock,
    /// Nothing ever again.
    Closed(Disconnect),
}

/// Reads once, and again only if interrupted.
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
