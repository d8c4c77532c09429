//! Socket activation: listeners that the service manager has opened and keeps open, so that connections
//! wait in their backlog during a restart instead of being refused.

use std::env;
use std::net::TcpListener;
use std::process;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::hub::BACKLOG;

/// The names of the listeners, as `FileDescriptorName` of a socket unit gives them.
const EVENTS: &str = "events";
const CLIENTS: &str = "clients";
const ADMIN: &str = "admin";

/// The listeners that the service manager has passed to this process.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    /// The listener for event sources.
    pub events: Option<TcpListener>,
    /// The listener for user clients.
    pub clients: Option<TcpListener>,
    /// The listener for operators' HTTP.
    pub admin: Option<TcpListener>,
}

/// The error of a socket that the service manager has passed, and that the server cannot use.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("socket activation: {0}")]
pub struct ActivationError(String);

impl InheritedListeners {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_none() && self.clients.is_none() && self.admin.is_none()
    }

    /// Takes the listeners that `LISTEN_FDS` and `LISTEN_FDNAMES` describe, if `LISTEN_PID` is this process.
    /// Must be called once, before any thread starts, because it changes the environment.
    ///
    /// # Errors
    ///
    /// A socket has another name, a name appears twice, or a socket is no TCP listener.
    pub fn take() -> Result<InheritedListeners, ActivationError> {
        let variable = |name| env::var(name).unwrap_or_default();
        // Variables for another process may be inherited.
        if variable("LISTEN_PID") != process::id().to_string() {
            return Ok(InheritedListeners::default());
        }
        let names = parse_names(&variable("LISTEN_FDS"), &variable("LISTEN_FDNAMES"))?;
        let mut inherited = InheritedListeners::default();
        let mut sockets = ListenFd::from_env();
        for (index, name) in names.iter().enumerate() {
            let socket = sockets.take_tcp_listener(index).ok().flatten();
            let listener =
                socket.filter(|socket| SockRef::from(socket).is_listener().unwrap_or(false));
            let listener = listener
                .ok_or_else(|| ActivationError(format!("socket {name:?} is no TCP listener")))?;
            *inherited.named(name)? = Some(prepared(name, listener)?);
        }
        Ok(inherited)
    }

    /// Returns the place of the listener with this name.
    fn named(&mut self, name: &str) -> Result<&mut Option<TcpListener>, ActivationError> {
        let listener = match name {
            EVENTS => &mut self.events,
            CLIENTS => &mut self.clients,
            ADMIN => &mut self.admin,
            _ => {
                return Err(ActivationError(format!(
                    "socket {name:?} has no known name: give it FileDescriptorName={EVENTS}, {CLIENTS} \
                     or {ADMIN}"
                )));
            }
        };
        match listener {
            None => Ok(listener),
            Some(_) => Err(ActivationError(format!("two sockets are called {name:?}"))),
        }
    }
}

/// Returns the names of the sockets.
fn parse_names(count: &str, names: &str) -> Result<Vec<String>, ActivationError> {
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    match count.parse() {
        Ok(0) => Ok(Vec::new()),
        Ok(count) if names.len() == count => Ok(names),
        _ => Err(ActivationError(format!(
            "LISTEN_FDS={count:?} does not count the names of LISTEN_FDNAMES={:?}: give each socket \
             FileDescriptorName={EVENTS}, {CLIENTS} or {ADMIN}",
            names.join(":")
        ))),
    }
}

/// Sets the options that the server's own listeners have.
fn prepared(name: &str, listener: TcpListener) -> Result<TcpListener, ActivationError> {
    let options = listener
        .set_nonblocking(true)
        .and_then(|()| SockRef::from(&listener).listen(BACKLOG))
        .map(|()| listener);
    options.map_err(|error| ActivationError(format!("socket {name:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name() {
        assert_eq!(parse_names("2", "events:clients").unwrap(), ["events", "clients"]);
        assert_eq!(parse_names("1", "x").unwrap(), ["x"]);
        assert!(parse_names("0", "").unwrap().is_empty());
        for (count, names) in [("1", "a:b"), ("3", "a:b"), ("", ""), ("-1", "a"), ("many", "a")] {
            let error = parse_names(count, names).unwrap_err().to_string();
            assert!(error.contains(&format!("LISTEN_FDS={count:?}")), "{error}");
        }
    }

    #[test]
    fn a_name_is_known_and_given_once() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let mut inherited = InheritedListeners::default();
        for name in [EVENTS, CLIENTS, ADMIN] {
            *inherited.named(name).unwrap() = Some(listener());
            let error = inherited.named(name).unwrap_err().to_string();
            assert_eq!(error, format!("socket activation: two sockets are called {name:?}"));
        }
        let error = inherited.named("eventserver.socket").unwrap_err().to_string();
        assert!(
            error
                .contains("has no known name: give it FileDescriptorName=events, clients or admin")
        );
    }
}
