//! Servers that are cut off from the engine.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::node::Node;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::verification::Verification;
use crate::{are_in_one_state, commit, follows, send, start_servers};

const EVENTS: u64 = 4_000_000;

#[test]
#[ignore = "needs redis-server"]
fn a_server_whose_connections_are_cut_or_stall() {
    let redis = Redis::start_durable();
    let routes = [Proxy::to(redis.port()), Proxy::to(redis.port()), Proxy::to(redis.port())];
    let mut nodes = Vec::new();
    for route in &routes {
        nodes.extend(start_servers(1, &route.url()));
    }
    let nodes: Vec<&Node> = nodes.iter().collect();
    let mut verification = Verification::start(&nodes, EVENTS);
    for (number, route) in routes.iter().chain(&routes).enumerate() {
        thread::sleep(Duration::from_millis(200));
        assert!(verification.is_running());
        if number.is_multiple_of(2) {
            route.stall();
            // Longer than a server waits for an answer.
            thread::sleep(Duration::from_secs(3));
        } else {
            route.cut();
            thread::sleep(Duration::from_millis(500));
        }
        route.heal();
    }
    verification.passes();
    are_in_one_state(&nodes);
}

#[test]
#[ignore = "needs redis-server"]
fn what_a_cut_off_server_has_taken_is_not_committed_twice() {
    let redis = Redis::start_durable();
    let route = Proxy::to(redis.port());
    let nodes =
        [start_servers(1, &route.url()).remove(0), start_servers(1, &redis.to_string()).remove(0)];
    commit(&nodes[0], &follows(1..101), 101);
    nodes[1].awaits(101);
    route.stall();
    // The stalled append may arrive later than what the other one commits in its place.
    let source = send(&nodes[0], &follows(101..151));
    nodes[0].is_unready_because_of("stream unreachable");
    commit(&nodes[1], &follows(101..201), 201);
    route.heal();
    nodes[0].awaits(201);
    nodes[0].is_ready();
    drop(source);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}

/// A network of the test's own, in which the test runs, and another one for one server. Two links lead there: one
/// for clients, and one for the engine.
struct Networks {
    _near: Namespace,
    far: Namespace,
}

const NEAR: &str = "10.9.1.1";
const FAR: &str = "10.9.0.2";

impl Networks {
    /// Moves this thread to a network of its own. Returns `None` where the system does not allow that.
    fn enter() -> Option<Networks> {
        let entered = Namespace::new().and_then(|near| {
            let network = File::open(near.path()).ok()?;
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).ok().map(|()| near)
        });
        let Some(near) = entered else {
            println!("skipped: no network of its own for the test");
            return None;
        };
        let far = Namespace::new().unwrap();
        let networks = Networks { _near: near, far };
        let pid = networks.far.holder.id();
        ip("link set lo up");
        for link in ["clients", "engine"] {
            ip(&format!("link add {link} type veth peer name far-{link} netns {pid}"));
            ip(&format!("link set {link} up"));
        }
        ip("addr add 10.9.0.1/24 dev clients");
        ip(&format!("addr add {NEAR}/24 dev engine"));
        networks.ip_far("link set lo up");
        networks.ip_far(&format!("addr add {FAR}/24 dev far-clients"));
        networks.ip_far("addr add 10.9.1.2/24 dev far-engine");
        networks.ip_far("link set far-clients up");
        networks.ip_far("link set far-engine up");
        Some(networks)
    }

    /// Returns a command that runs a program in the other network.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.far.path())).arg(program);
        command
    }

    fn ip_far(&self, words: &str) {
        let status = self.command("ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "ip {words}");
    }
}

/// A network namespace, which lasts as long as a process in it.
struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Returns `None` where the system does not allow that.
    fn new() -> Option<Namespace> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sleep", "600"]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut namespace = Namespace { holder: unshare.spawn().unwrap() };
        // It has the name of its parent first, then of `unshare`.
        let name = format!("/proc/{}/comm", namespace.holder.id());
        crate::wait_until("the process is in its namespace or gone", || {
            let is_there = fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n");
            (is_there || namespace.holder.try_wait().unwrap().is_some()).then_some(())
        });
        let network = fs::read_link(namespace.path()).ok()?;
        (network != fs::read_link("/proc/thread-self/ns/net").unwrap()).then_some(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_behind_a_network_that_drops_everything() {
    // The test's processes are started by this thread, so that they are in its network.
    let Some(networks) = Networks::enter() else { return };
    let redis = Redis::start(&["appendonly yes", "protected-mode no", "bind 0.0.0.0"]);
    let near = start_servers(2, &format!("redis://{NEAR}:{}", redis.port()));
    let flags = crate::stream_flags(&format!("redis://{NEAR}:{}", redis.port()));
    let server = || networks.command(env!("CARGO_BIN_EXE_eventserver"));
    let far = Node::start_at(FAR, server, &flags.each_ref().map(String::as_str));
    let nodes = [&near[0], &near[1], &far];
    let mut verification = Verification::start(&nodes, EVENTS);
    for seconds in [1, 4] {
        thread::sleep(Duration::from_millis(500));
        assert!(verification.is_running());
        ip("link set engine down");
        thread::sleep(Duration::from_secs(seconds));
        ip("link set engine up");
    }
    verification.passes();
    are_in_one_state(&nodes);
}
