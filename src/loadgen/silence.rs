//! The end of a run: all that was due has arrived, so nothing more may come, and the server must be
//! done with the run's sources before another run begins.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use log::warn;
use mio::net::TcpStream;

use super::connect::read_some;
use super::interrupt::sleep;

/// The time to listen for unexpected bytes, before and after the sources close.
pub(crate) const GRACE: Duration = Duration::from_millis(200);
/// A server that is done with a source closes it within this time. It has applied all of the
/// source's events by then: a run that begins earlier may receive some of them.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two polls of a source that is about to end.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of what came that are shown.
const SHOWN_BYTES: usize = 64;

/// A client at the end of its run.
pub(crate) struct Served<'a> {
    pub(crate) user: u64,
    pub(crate) stream: &'a mut TcpStream,
}

/// Listens for [`GRACE`], closes the sources, and listens until the server has closed them too. All
/// streams are non-blocking.
///
/// # Errors
///
/// The server writes something to anybody, or closes a connection before its source is closed.
pub(crate) fn expect_silence(
    sources: &mut [&mut TcpStream],
    clients: &mut [Served<'_>],
) -> io::Result<()> {
    sleep(GRACE)?;
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

/// Checks a source that is open: an event server never answers one, and closes it only on an error.
///
/// # Errors
///
/// Something came, or the server closed it.
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

/// A server that keeps a source which has ended breaks no rule, but what it does next is unknown.
pub(crate) fn warn_of_open_source() {
    warn!(
        "the server has not closed the event source within {END_TIMEOUT:?} of its end: it may still \
         be busy when another run begins"
    );
}

/// Something unexpected on a connection.
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

/// Bytes after the last expected one.
pub(crate) fn extra(user: u64, got: &[u8]) -> io::Error {
    let got = got.escape_ascii();
    io::Error::other(format!("user {user} got `{got}` where nothing more was due"))
}

/// Bytes from the server to a source.
pub(crate) fn source_answered(got: &[u8]) -> io::Error {
    let got = got[..got.len().min(SHOWN_BYTES)].escape_ascii();
    source_failed(&format!("the server wrote `{got}` to it"))
}

/// A source's connection that cannot go on, and why.
pub(crate) fn source_failed(why: &str) -> io::Error {
    io::Error::other(format!("the event source's connection: {why}"))
}
