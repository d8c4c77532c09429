//! Addresses of a server as people write them: `9090`, `:9090`, `localhost:9090`, `[::1]:9090`.

use std::str::FromStr;

use crate::ranges;

/// A port, and the host if one was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

impl Address {
    /// A port of the default host.
    pub(crate) fn of_port(port: u16) -> Address {
        Address { host: None, port }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", text),
        };
        let expected = |why: String| format!("{why}, or HOST:PORT");
        let port = ranges::port(port).map_err(expected)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => {
                return Err(format!("an IPv6 address needs brackets: [{host}]:{port}"));
            }
            None => host,
        };
        Ok(Address { host: (!host.is_empty()).then(|| host.to_owned()), port })
    }
}

/// One of several servers: `HOST:EVENT:CLIENT`, and `:ADMIN` after it where it has such a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) host: String,
    /// Ports for event sources, for clients, and for operators.
    pub(crate) events: u16,
    pub(crate) clients: u16,
    pub(crate) admin: Option<u16>,
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerAddress, String> {
        let text = text.trim();
        let in_brackets = text.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
        let (host, ports) = in_brackets.or_else(|| text.split_once(':')).unwrap_or(("", ""));
        let ports: Vec<u16> =
            ports.split(':').map(ranges::port).collect::<Result<_, _>>().map_err(|why| {
                format!("{why}, for each port of HOST:EVENT:CLIENT or HOST:EVENT:CLIENT:ADMIN")
            })?;
        let (events, clients, admin) = match ports[..] {
            [events, clients] => (events, clients, None),
            [events, clients, admin] => (events, clients, Some(admin)),
            _ => return Err("expected HOST:EVENT:CLIENT or HOST:EVENT:CLIENT:ADMIN".to_owned()),
        };
        if host.is_empty() {
            return Err(
                "a host is missing: HOST:EVENT:CLIENT or HOST:EVENT:CLIENT:ADMIN".to_owned()
            );
        }
        Ok(ServerAddress { host: host.to_owned(), events, clients, admin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_two_or_three_ports() {
        let server = |host: &str, events, clients, admin| {
            Ok(ServerAddress { host: host.to_owned(), events, clients, admin })
        };
        assert_eq!("box:1:2".parse(), server("box", 1, 2, None));
        assert_eq!("127.0.0.1:1:2:3".parse(), server("127.0.0.1", 1, 2, Some(3)));
        assert_eq!("[::1]:1:2:3".parse(), server("::1", 1, 2, Some(3)));
        for text in
            ["", "box", "box:1", "box:1:2:3:4", ":1:2", "::1:1:2", "box:0:1", "1:2", "box:1:2:"]
        {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }

    fn address(host: Option<&str>, port: u16) -> Result<Address, String> {
        Ok(Address { host: host.map(str::to_owned), port })
    }

    #[test]
    fn a_host_is_optional() {
        assert_eq!("9090".parse(), address(None, 9090));
        assert_eq!(":9090".parse(), address(None, 9090));
        assert_eq!("localhost:9090".parse(), address(Some("localhost"), 9090));
        assert_eq!("127.0.0.1:1".parse(), address(Some("127.0.0.1"), 1));
        assert_eq!("[::1]:9090".parse(), address(Some("::1"), 9090));
    }

    #[test]
    fn errors_tell_the_range() {
        for text in ["", ":", "localhost", "localhost:", "localhost:0", "65536", "a:b", "1k"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains("from 1 to 65535, or HOST:PORT"), "{text}: {error}");
        }
        assert!("::1:9090".parse::<Address>().unwrap_err().contains("[::1]:9090"));
    }
}
