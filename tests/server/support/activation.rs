//! Sockets that a service manager keeps open.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};

/// A shell that executes a program with these sockets and names, as a service manager does.
pub(crate) fn activation(sockets: &[&TcpListener], names: &str, pid: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("LISTEN_PID={pid} exec \"$0\" \"$@\"")])
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names);
    let mapping = |(index, socket): (usize, &&TcpListener)| FdMapping {
        parent_fd: OwnedFd::from(socket.try_clone().unwrap()),
        child_fd: 3 + index as i32,
    };
    shell.fd_mappings(sockets.iter().enumerate().map(mapping).collect()).unwrap();
    shell
}

pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
