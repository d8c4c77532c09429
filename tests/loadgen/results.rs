//! Results in files: every command writes the same document and a report, whether it passes or not.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::faulty_server::{self, InjectedBug, Ports};
use super::{loadgen, outcome, some_at_a_time};

/// Keys of every document, with the types that they may have.
const KEYS: [(&str, &str); 16] = [
    ("schema", "number"),
    ("kind", "string"),
    ("command", "array"),
    ("description", "string"),
    ("date", "string"),
    ("version", "string"),
    ("commit", "string or null"),
    ("machine", "object"),
    ("settings", "object"),
    ("ok", "boolean"),
    ("verdict", "string"),
    ("reason", "string"),
    ("faults", "array"),
    ("figures", "object or null"),
    ("runs", "array"),
    ("series", "array"),
];

/// Endings of the names of figures with a unit.
const UNITS: [&str; 11] = [
    "PerSecond",
    "Seconds",
    "seconds",
    "Ms",
    "Us",
    "Bytes",
    "Percent",
    "Ratio",
    "ratio",
    "PerClient",
    "PerHour",
];
/// Names of counts.
const COUNTS: [&str; 15] = [
    "events",
    "deliveries",
    "visits",
    "takeovers",
    "count",
    "clients",
    "sources",
    "descriptors",
    "holds",
    "restarts",
    "killedStarts",
    "lastUsers",
    "lastStatusUpdates",
    "sourceReconnects",
    "clientReconnects",
];

/// A short run of each kind that passes, with a verdict that it may have instead on a busy machine.
const RUNS: [(&str, &str, &str); 17] = [
    ("verify", "verify --spawn --total-events 20000", "passed"),
    ("verify", "verify --spawn --total-events 20000 --sync", "passed"),
    (
        "verify-restarts",
        "verify --spawn --restarts 1 --restart-every 50ms --data-dir {folder}",
        "passed",
    ),
    ("verify", "verify --spawn --total-events 20000 --reconnect-every 1ms", "passed"),
    (
        "verify-restarts",
        "verify --spawn --restarts 2 --restart-every 50ms --reconnect-every 1ms --data-dir {folder}",
        "passed",
    ),
    ("latency", "latency --spawn --clients 5 --rate 1000 --duration 0.2", "passed"),
    (
        "latency",
        "latency --spawn --relay --runs 3 --clients 5 --rate 1000 --duration 0.1",
        "passed",
    ),
    (
        "find-knee",
        "latency --spawn --find-knee --rate 1000000 --p99-us 60000000 --clients 5 --duration 0.05",
        "inconclusive",
    ),
    (
        "find-knee",
        "latency --spawn --find-knee --p99-us 0.001 --clients 5 --duration 0.1",
        "inconclusive",
    ),
    ("replay", "replay tests/data/verification-20k.events.gz --spawn --users 20", "passed"),
    ("fairness", "fairness --spawn --clients 10 --duration 0.3 --bound-ms 10000", "inconclusive"),
    ("soak", "soak --spawn --seconds 1 --every 0.2 --clients 5 --visits 20 --rate 2000", "passed"),
    ("idle", "idle --spawn --relay --clients 100", "passed"),
    ("limit", "limit --total-events 20000", "passed"),
    ("relay", "limit --relay --concurrency-level 5 --rate 1000 --duration 0.1", "passed"),
    ("pinned", "pinned --runs 2 --total-events 20000 --mix even --mix 3:1:1:3:6", "passed"),
    ("pinned", "pinned --runs 1 --total-events 20000 --mix private", "passed"),
];

/// Runs a command; returns its status, and what it has written.
fn results_of(arguments: &str) -> (Option<i32>, Value, String) {
    let directory = TempDir::new().unwrap();
    let (json, report) = (directory.path().join("r.json"), directory.path().join("r.html"));
    let folder = directory.path().join("folder").display().to_string();
    let arguments = arguments.replace("{folder}", &folder);
    let arguments = format!("{arguments} --json {} --report {}", json.display(), report.display());
    let output = loadgen(&arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    outcome(&output);
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    (output.status.code(), serde_json::from_str(&read(&json)).unwrap(), read(&report))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Asserts that a document follows the schema.
fn assert_follows_schema(document: &Value) {
    let fields = document.as_object().unwrap();
    for (key, types) in KEYS {
        let found = fields.get(key).unwrap_or_else(|| panic!("`{key}` is missing"));
        assert!(types.split(" or ").any(|name| name == type_of(found)), "`{key}` is {found}");
    }
    assert_eq!(fields.len(), KEYS.len(), "undocumented keys: {:?}", fields.keys());
    assert_eq!(document["schema"], 1);
    assert_eq!(document["command"][0], "loadgen");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["ok"], document["verdict"] == "passed");
    assert!(document["date"].as_str().unwrap().ends_with('Z'));
    assert!(!document["reason"].as_str().unwrap().is_empty());
    for key in ["cpu", "cores", "kernel", "memoryBytes"] {
        assert!(document["machine"].get(key).is_some(), "machine.{key}");
    }
    assert!(document["settings"]["server"].is_object());
    let series = document["series"].as_array().unwrap();
    let runs = document["runs"].as_array().unwrap();
    for figures in series.iter().chain(runs).chain([&document["figures"]]) {
        assert_figures_have_units("", figures);
    }
    // A run has the figures of the medians.
    for run in runs {
        assert_eq!(
            run.as_object().unwrap().keys().collect::<Vec<_>>(),
            document["figures"].as_object().unwrap().keys().collect::<Vec<_>>()
        );
    }
}

fn assert_figures_have_units(path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                assert_figures_have_units(&format!("{path}.{key}"), value);
            }
        }
        Value::Null => {}
        Value::Number(_) | Value::Bool(_) => {
            let has_unit =
                path.split('.').any(|name| UNITS.iter().any(|unit| name.ends_with(unit)));
            let is_count = COUNTS.iter().any(|count| path.ends_with(&format!(".{count}")));
            assert!(has_unit || is_count, "{path} has no unit");
        }
        other => panic!("{path} is neither a number nor an object: {other}"),
    }
}

/// Asserts that a report begins with the verdict and its reason, and contains nothing from elsewhere.
fn assert_reports(page: &str, document: &Value, must_have_chart: bool) {
    let verdict = document["verdict"].as_str().unwrap();
    let (head, body) = page.split_once("<h1>").unwrap();
    let class = format!("<section class=\"verdict {verdict}\">");
    let before = body.find(&class).unwrap_or_else(|| panic!("no {class}"));
    assert!(body[..before].len() < 40, "the verdict is not first");
    assert!(head.to_lowercase().contains(&format!("<title>{verdict}:")), "{verdict}");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
    assert!(!page.contains("NaN"));
    if must_have_chart {
        assert_eq!(
            page.matches("<svg class=\"wide\"").count(),
            page.matches("<svg class=\"narrow\"").count()
        );
        assert!(page.contains("<svg class=\"narrow\""), "no chart");
        assert!(page.contains("<table>"), "no table");
    }
    for origin in ["Date", "Version", "Command", "Server", "Machine", "Settings"] {
        assert!(page.contains(&format!("<dt>{origin}<dd>")), "{origin}");
    }
}

#[test]
fn every_command_writes_the_same_document() {
    some_at_a_time(&RUNS, |&(kind, arguments, verdict)| {
        println!("{arguments}");
        let (status, document, page) = results_of(arguments);
        let found = document["verdict"].as_str().unwrap();
        assert!(found == "passed" || found == verdict, "{arguments}: {found}");
        assert_eq!(status, Some(if found == "passed" { 0 } else { 3 }), "{arguments}");
        assert_eq!(document["kind"], kind);
        assert_follows_schema(&document);
        assert!(document["figures"].is_object() || found == "inconclusive", "{arguments}");
        assert_reports(&page, &document, true);
    });
}

#[test]
fn a_fault_comes_first_in_document_and_report() {
    let Ports { events, clients } = faulty_server::start(20, Some(5000), InjectedBug::Swap);
    let (status, document, page) = results_of(&format!(
        "verify --event-port {events} --client-port {clients} --total-events 5000 --timeout 1000 \
         --concurrency-level 20 --number-of-users 40 --mix 3:1:1:3:6"
    ));
    assert_eq!(status, Some(1));
    assert_follows_schema(&document);
    assert_eq!(document["verdict"], "failed");
    assert_eq!(document["reason"], document["faults"][0]);
    assert!(document["reason"].as_str().unwrap().contains("instead of `"));
    assert!(document["figures"].is_null());
    assert_reports(&page, &document, false);
    assert!(page.contains("<strong>Failed</strong><p>user "));
}

#[test]
fn a_run_that_cannot_be_completed_is_a_result_too() {
    for command in ["verify --total-events 10", "latency", "idle --clients 5", "fairness", "soak"] {
        // Port 1 of the loopback interface has no listener.
        let (status, document, page) = results_of(&format!("{command} --event-port 1"));
        assert_eq!(status, Some(1), "{command}");
        assert_follows_schema(&document);
        assert_eq!(document["verdict"], "failed", "{command}");
        assert_eq!(document["faults"].as_array().unwrap().len(), 1, "{command}");
        assert_reports(&page, &document, false);
    }
}

#[test]
fn a_broken_bound_fails_or_is_beyond_the_measurement() {
    let (status, document, page) =
        results_of("fairness --spawn --mix broadcast --clients 2 --duration 0.1 --bound-ms 0.001");
    assert!(matches!(status, Some(1 | 3)));
    assert!(document["reason"].as_str().unwrap().contains("The longest wait was "));
    assert_follows_schema(&document);
    assert_reports(&page, &document, true);
}

#[test]
fn what_a_server_sends_and_an_argument_names_is_escaped() {
    let hostile = "<script>alert(1)</script>";
    let Ports { events, clients } = faulty_server::start_answering("<script>\"&'</script>\r\n", 0);
    let directory = TempDir::new().unwrap();
    let report = directory.path().join(format!("{}.html", hostile.replace('/', "|")));
    let arguments = format!(
        "verify --event-port {events} --client-port {clients} --concurrency-level 1 \
         --total-events 10 --mix broadcast --timeout 500 --report {}",
        report.display()
    );
    let output = loadgen(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", outcome(&output).1);
    let page = std::fs::read_to_string(report).unwrap();
    assert!(!page.contains("<script"));
    // What was received, and the command line.
    assert!(page.matches("&lt;script&gt;").count() >= 3, "{page}");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_before_the_run() {
    for flag in ["--json", "--report"] {
        // The run would take hours.
        let output =
            loadgen(&format!("verify --spawn --total-events 1000000000000 {flag} /nowhere/file"))
                .output()
                .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(outcome(&output).1.contains("/nowhere/file: "));
    }
}

#[test]
fn a_result_that_is_there_is_replaced_as_a_whole() {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("r.json");
    std::fs::write(&json, "x".repeat(1 << 20)).unwrap();
    let arguments = format!("verify --spawn --total-events 1000 --json {}", json.display());
    assert!(loadgen(&arguments).output().unwrap().status.success());
    let document: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_follows_schema(&document);
}
