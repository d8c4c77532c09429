//! Figures of a running server from its admin port, and `loadgen top`.

use super::running_server::RunningServer;
use super::{loadgen, outcome, run};

const ADMIN: &str = "--admin-listen 127.0.0.1:0";

/// Runs a command against a server that is only known by its ports. Returns its result.
fn result_of(command: &str, flags: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("r.json");
    let server = RunningServer::start(ADMIN);
    let (right, text) = run(&format!(
        "{command} {} --admin {} {flags} --json {}",
        server.ports,
        server.admin,
        json.display()
    ));
    assert!(right, "{text}");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

#[test]
fn soak_takes_all_figures_from_the_admin_port() {
    let result = result_of("soak", "--seconds 2 --every 0.5 --clients 10 --visits 50");
    let last = result["series"].as_array().unwrap().last().unwrap();
    for figure in ["clients", "sources", "memoryBytes", "descriptors", "serverBusyPercent"] {
        assert!(last[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {last}");
    }
}

#[test]
fn other_commands_report_cpu_time_and_memory_of_a_server_elsewhere() {
    let result = result_of("verify", "--total-events 20000");
    for figure in ["serverCpuSeconds", "serverPeakBytes"] {
        let value = &result["figures"][figure];
        assert!(value.as_f64().is_some_and(|value| value > 0.0), "{figure}: {result}");
    }
}

#[test]
fn a_port_that_is_not_for_operators_is_named() {
    let server = RunningServer::start(ADMIN);
    let (_, clients) = server.addresses();
    let output = loadgen(&format!("verify {} --admin {clients}", server.ports)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("http://{clients}/status: the answer is not HTTP")), "{told}");
}

#[test]
fn top_prints_a_line_at_each_look() {
    let server = RunningServer::start(ADMIN);
    let arguments = format!("top --admin {} --every 0.1 --times 3", server.admin);
    let output = loadgen(&arguments).output().unwrap();
    let (right, text) = outcome(&output);
    assert!(right, "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("running ")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[2].contains("0 clients") && !text.contains('\x1b'), "{text}");
}

#[test]
fn top_without_a_server_is_an_error() {
    let server = RunningServer::start(ADMIN);
    let arguments = format!("top --admin {}", server.admin);
    drop(server);
    let output = loadgen(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("nothing listens at") && told.contains("--admin-listen"), "{told}");
}
