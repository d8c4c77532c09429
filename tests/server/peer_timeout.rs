//! Peers that vanish without closing their connection.

use std::fs::File;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;

use crate::support::{Client, Server, Source};

/// Starts a server in a network namespace, and runs `test` on a thread in the same one. Skips it
/// where the system does not allow that.
fn in_network_namespace(flags: &[&str], test: impl FnOnce(&Server) + Send) {
    let own_network = || {
        let mut unshare = Command::new("unshare");
        let script = "ip link set lo up && exec \"$0\" \"$@\"";
        unshare.args(["--net", "sh", "-c", script]);
        unshare
    };
    let output = own_network().arg("true").output();
    if !output.is_ok_and(|output| output.status.success()) {
        println!("skipped: no network of its own for the server");
        return;
    }
    let server = Server::start_under(own_network(), flags);
    let network = format!("/proc/{}/ns/net", server.process().0.as_raw_nonzero());
    let network = File::open(network).unwrap();
    thread::scope(|scope| {
        let test = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            test(&server);
        };
        scope.spawn(test).join().unwrap();
    });
}

/// Drops all packets from now on, without any notification.
fn disable_loopback() {
    assert!(Command::new("ip").args(["link", "set", "lo", "down"]).status().unwrap().success());
}

#[test]
fn peers_that_vanish_while_nothing_is_under_way_are_noticed() {
    in_network_namespace(&["--peer-timeout-ms", "1000"], |server| {
        let client = Client::connect(server, 7);
        let source = Source::connect(server);
        server.assert_stat_reaches("clients_connected", 1);
        server.assert_stat_reaches("sources_connected", 1);
        disable_loopback();
        server.logs(&["user 7", &client.address().to_string(), "io_error", "timed out"]);
        server.logs(&["source", &source.address().to_string(), "io_error", "timed out"]);
    });
}

#[test]
fn a_client_that_vanishes_while_bytes_are_under_way_is_noticed() {
    // The missing first event is skipped after the loopback device is down.
    let flags = ["--peer-timeout-ms", "3000", "--gap-timeout-ms", "1000", "--log-level", "debug"];
    in_network_namespace(&flags, |server| {
        let client = Client::connect(server, 7);
        let mut source = Source::connect(server);
        server.logs(&["user 7 connected"]);
        source.sends_lines(&["2|B"]);
        server.assert_stat_reaches("buffered_events", 1);
        disable_loopback();
        server.assert_stat_reaches("lost", 1);
        server.logs(&["user 7", &client.address().to_string(), "io_error", "timed out"]);
    });
}
