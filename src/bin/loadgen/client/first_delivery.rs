//! Detection of a server that reads the events and delivers none of them, because it awaits a later
//! sequence: it has received events before, and keeps its sequence when a source disconnects.
//!
//! Such a server drops every event as late, without an answer. Sending a probe before the run would
//! use up a sequence of a server that is new. So the run itself is observed: if the server has read
//! what was sent and a delivery is due, but nothing has arrived at any client for
//! [`PATIENCE`], the run ends at once instead of after its timeout.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sys::sockets;

/// Time that a server has for its first delivery.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum time between two checks that counts as waiting; clients are read in between.
const MAX_STEP: Duration = Duration::from_millis(200);
/// More bytes than socket buffers hold: the server has read the first of them.
const MAX_BUFFERED_BYTES: u64 = 64 * 1024 * 1024;

/// Waits for the first delivery of a run.
pub(crate) struct FirstDelivery {
    server: SocketAddr,
    /// Time that has been waited for a due delivery, and when it was last looked at; `None` before
    /// one is due.
    waited: Option<(Duration, Instant)>,
    has_arrived: bool,
}

impl FirstDelivery {
    /// Waits for a delivery of the server that sources reach at this address.
    pub(crate) fn new(server: SocketAddr) -> FirstDelivery {
        FirstDelivery { server, waited: None, has_arrived: false }
    }

    /// Notes that something has arrived at a client, or that the server has said what it awaits.
    pub(crate) fn arrived(&mut self) {
        self.has_arrived = true;
    }

    /// Checks a run in which at least one delivery is due, and `sent` bytes have been written after
    /// the event that it is due for. `source` returns the local address of the source. Call it
    /// often.
    ///
    /// # Errors
    ///
    /// The server has read the events and delivered none of them.
    pub(crate) fn check(
        &mut self,
        sent: u64,
        source: impl FnOnce() -> io::Result<SocketAddr>,
    ) -> io::Result<()> {
        if self.has_arrived {
            return Ok(());
        }
        let now = Instant::now();
        let (waited, last) = self.waited.unwrap_or((Duration::ZERO, now));
        // A suspension of this program is not the server's.
        let waited = waited + (now - last).min(MAX_STEP);
        self.waited = Some((waited, now));
        if waited < PATIENCE {
            return Ok(());
        }
        let is_read =
            sent > MAX_BUFFERED_BYTES || sockets::unread_bytes(self.server, source()?) == Some(0);
        if !is_read {
            // The kernel's table is not read at every call.
            self.waited = Some((Duration::ZERO, now));
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the server at {} has read the events but delivered none of them for {} s: it awaits \
             another sequence, probably because it has received events before. Restart it, or run it \
             with --on-source-disconnect reset. If it is new, --event-port and --client-port may be swapped",
            self.server,
            PATIENCE.as_secs()
        )))
    }
}
