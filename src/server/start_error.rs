//! What an operator can do about a listener that cannot be opened.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Displays the way out of an error of listening for `purpose`, on a line of its own. Empty for an error
/// that says enough.
pub(super) struct ListenHint<'a> {
    pub(super) purpose: &'static str,
    pub(super) address: SocketAddr,
    pub(super) error: &'a io::Error,
}

impl fmt::Display for ListenHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.address.port();
        let flag = match self.purpose {
            "events" => "--event-listen",
            "clients" => "--client-listen",
            _ => "--admin-listen",
        };
        match self.error.kind() {
            ErrorKind::AddrInUse => write!(
                f,
                "\nAnother process listens there; ss -ltnp 'sport = :{port}' shows which. Stop it, or \
                 choose another port with {flag}."
            ),
            ErrorKind::PermissionDenied if port < 1024 => {
                let program = std::env::current_exe().unwrap_or_else(|_| "eventserver".into());
                write!(
                    f,
                    "\nPorts below 1024 need a privilege. Choose another port with {flag}, let systemd \
                     open it (src/packaging), or grant it: sudo setcap cap_net_bind_service=+ep {}",
                    program.display()
                )
            }
            ErrorKind::AddrNotAvailable => write!(
                f,
                "\nNo interface has the address {}; ip address lists them. Choose another with {flag}.",
                self.address.ip()
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(purpose: &'static str, port: u16, kind: ErrorKind) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        ListenHint { purpose, address, error: &kind.into() }.to_string()
    }

    #[test]
    fn the_hint_names_the_flag_and_the_way_out() {
        let in_use = hint("events", 9090, ErrorKind::AddrInUse);
        assert!(in_use.contains("ss -ltnp 'sport = :9090'") && in_use.contains("--event-listen"));
        let denied = hint("clients", 99, ErrorKind::PermissionDenied);
        assert!(denied.contains("setcap") && denied.contains("--client-listen"), "{denied}");
        let unknown = hint("admin", 9091, ErrorKind::AddrNotAvailable);
        assert!(unknown.contains("127.0.0.1; ip address") && unknown.contains("--admin-listen"));
        assert_eq!(hint("events", 9090, ErrorKind::PermissionDenied), "");
        assert_eq!(hint("events", 9090, ErrorKind::OutOfMemory), "");
    }
}
