//! Several servers over one stream in a real Redis.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::support::{
    Client, DEADLINE, INTERVAL, Server, Source, command_on_free_ports, run_to_exit,
};

/// A Redis server on a free port, without files.
struct Redis {
    child: Child,
    url: String,
}

impl Redis {
    fn start() -> Redis {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let child = redis.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < DEADLINE, "redis-server does not listen");
            thread::sleep(INTERVAL);
        }
        Redis { child, url: format!("redis://127.0.0.1:{port}/0?stream=events") }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs redis-server"]
fn two_servers_share_a_stream_and_a_third_starts_from_it() {
    let redis = Redis::start();
    let flags = ["--stream", &redis.url];
    let (status, log) = run_to_exit(command_on_free_ports(&flags));
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("--stream-create"), "{log}");
    let first = Server::start(&[&flags[..], &["--stream-create"]].concat());
    let second = Server::start(&flags);
    let mut one = Client::connect(&first, 1);
    let mut two = Client::connect(&second, 2);
    // A server knows nothing of the sources of another.
    for server in [&first, &second] {
        server.assert_stat_reaches("clients_connected", 1);
    }
    let mut odd = Source::connect(&first);
    let mut even = Source::connect(&second);
    odd.sends_lines(&["1|F|1|2", "3|B"]);
    even.sends_lines(&["2|S|2", "4|P|2|1"]);
    one.receives(&["2|S|2", "3|B", "4|P|2|1"]);
    two.receives(&["1|F|1|2", "3|B"]);
    let third = Server::start(&flags);
    let mut three = Client::connect(&third, 1);
    third.assert_stat_reaches("clients_connected", 1);
    even.sends_lines(&["5|S|2"]);
    one.receives(&["5|S|2"]);
    three.receives(&["5|S|2"]);
}
