//! The kernel's view of TCP connections on this host.

use std::fs;
use std::net::SocketAddr;

/// Returns the number of bytes that the process at `server` has not read from its connection with
/// `peer`. `None` if the connection does not end on this host, as far as is known.
pub(crate) fn unread_bytes(server: SocketAddr, peer: SocketAddr) -> Option<u64> {
    if !server.ip().is_loopback() {
        return None;
    }
    // A dual-stack listener has its IPv4 connections in the other table.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| read_row(line, server.port(), peer.port()))
    })
}

/// Reads the receive queue of a row: `NUMBER: LOCAL:PORT REMOTE:PORT STATE SENT:RECEIVED …`, in
/// hexadecimal. `None` if it is another connection. Of loopback connections, ports tell enough.
fn read_row(row: &str, local: u16, remote: u16) -> Option<u64> {
    let mut fields = row.split_whitespace().skip(1);
    let is_port = |address: &str, port: u16| {
        address
            .rsplit_once(':')
            .is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port))
    };
    if !is_port(fields.next()?, local) || !is_port(fields.next()?, remote) {
        return None;
    }
    let (_, unread) = fields.nth(1)?.split_once(':')?;
    u64::from_str_radix(unread, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_that_wait_are_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A host may be without IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let server = listener.local_addr().unwrap();
            let mut source = TcpStream::connect(server).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            let source_address = source.local_addr().unwrap();
            assert_eq!(unread_bytes(server, source_address), Some(0));
            source.write_all(b"12345").unwrap();
            assert_eq!(unread_bytes(server, source_address), Some(5));
            accepted.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(unread_bytes(server, source_address), Some(0));
        }
        let elsewhere = "192.0.2.1:9090".parse().unwrap();
        assert_eq!(unread_bytes(elsewhere, elsewhere), None);
    }
}
