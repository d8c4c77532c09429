//! The end of a run: nothing more may arrive, and the server must have finished with the sources
//! before another run begins.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use log::warn;
use mio::net::TcpStream;

use crate::client::connection::read_some;
use crate::sys::interrupt::sleep;

/// Time without unexpected bytes, before and after the sources close.
pub(crate) const SILENCE_PERIOD: Duration = Duration::from_millis(200);
/// Time within which a server closes a source that has ended. It has applied all of the source's
/// events by then; an earlier run might receive some of them.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between polls of a source that is about to end.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum unexpected bytes shown in an error.
const SHOWN_BYTES: usize = 64;

/// A connected client at the end of a run.
pub(crate) struct Served<'a> {
    pub(crate) user: u64,
    pub(crate) stream: &'a mut TcpStream,
}

/// Expects [`SILENCE_PERIOD`] without bytes, closes the sources, and waits until the server has
/// closed them too. All streams are non-blocking.
///
/// # Errors
///
/// The server writes to any connection, or closes one before its source is closed.
pub(crate) fn expect_silence(
    sources: &mut [&mut TcpStream],
    clients: &mut [Served<'_>],
) -> io::Result<()> {
    sleep(SILENCE_PERIOD)?;
    sources.iter_mut().try_for_each(|source| check_source(source))?;
    for Served { user, stream } in &mut *clients {
        match unexpected(stream)? {
            Some(End::Bytes(got)) => return Err(extra(*user, &got)),
            Some(End::Closed) => {
                let message = format!("user {user} was closed after its last event");
                return Err(io::Error::other(message));
            }
            None => {}
        }
    }
    close_sources(sources)?;
    for Served { user, stream } in clients {
        if let Some(End::Bytes(got)) = unexpected(stream)? {
            return Err(extra(*user, &got));
        }
    }
    Ok(())
}

/// Checks an open source: an event server never writes to one, and closes it only after an error.
///
/// # Errors
///
/// The server wrote to the source or closed it.
pub(crate) fn check_source(source: &mut TcpStream) -> io::Result<()> {
    match unexpected(source).map_err(|error| source_failed(&error.to_string()))? {
        Some(End::Bytes(got)) => Err(source_answered(&got)),
        Some(End::Closed) => Err(source_failed("the server closed it")),
        None => Ok(()),
    }
}

fn close_sources(sources: &mut [&mut TcpStream]) -> io::Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    for source in &mut *sources {
        source.shutdown(Shutdown::Write).map_err(|error| source_failed(&error.to_string()))?;
    }
    for source in sources {
        loop {
            match unexpected(source)? {
                Some(End::Bytes(got)) => return Err(source_answered(&got)),
                Some(End::Closed) => break,
                None if Instant::now() > deadline => {
                    warn_of_open_source();
                    return Ok(());
                }
                None => sleep(POLL_INTERVAL)?,
            }
        }
    }
    Ok(())
}

/// Keeping an ended source open breaks no rule, but makes the next run unpredictable.
pub(crate) fn warn_of_open_source() {
    warn!(
        "the server has not closed the event source within {END_TIMEOUT:?} of its end: it may still \
         be busy when another run begins"
    );
}

/// An unexpected result of a read.
enum End {
    Bytes(Vec<u8>),
    Closed,
}

fn unexpected(stream: &mut TcpStream) -> io::Result<Option<End>> {
    let mut bytes = [0; SHOWN_BYTES];
    Ok(read_some(stream, &mut bytes)?.map(|count| match count {
        0 => End::Closed,
        count => End::Bytes(bytes[..count].to_vec()),
    }))
}

/// Error for bytes after the last expected one.
pub(crate) fn extra(user: u64, got: &[u8]) -> io::Error {
    let got = got.escape_ascii();
    io::Error::other(format!("user {user} got `{got}` after the last expected event"))
}

/// Error for bytes that the server wrote to a source.
pub(crate) fn source_answered(got: &[u8]) -> io::Error {
    let got = got[..got.len().min(SHOWN_BYTES)].escape_ascii();
    source_failed(&format!("the server wrote `{got}` to it"))
}

/// Error of a source's connection, with the reason.
pub(crate) fn source_failed(why: &str) -> io::Error {
    io::Error::other(format!("the event source's connection: {why}"))
}
