//! `loadgen compare`: its statuses, and what it prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{loadgen, outcome};

/// Results in files of a directory.
struct Results {
    directory: TempDir,
}

impl Results {
    fn new() -> Results {
        Results { directory: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, document: &Value) {
        std::fs::write(self.path(name), document.to_string()).unwrap();
    }

    /// Runs `compare` in the directory; returns its status and output.
    fn compare(&self, arguments: &str) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .arg("compare")
            .args(arguments.split(' '))
            .current_dir(self.directory.path())
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), outcome(&output).1)
    }
}

/// A result of `verify` with one run per rate.
fn result(rates: &[f64]) -> Value {
    let run = |&rate: &f64| {
        json!({ "events": 1000, "eventsPerSecond": rate, "serverPeakBytes": 5_000_000,
                "seconds": 1000.0 / rate })
    };
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[(sorted.len() - 1) / 2];
    let runs: Vec<Value> = if rates.len() > 1 { rates.iter().map(run).collect() } else { vec![] };
    json!({
        "schema": 1, "kind": "verify", "command": ["loadgen", "verify"], "description": "a run",
        "date": "2026-01-31T12:00:00Z", "version": "0.1.0", "commit": "abc1234",
        "machine": { "cpu": "a CPU", "cores": 2, "kernel": "6.1", "memoryBytes": 1 },
        "settings": { "mix": "even", "server": { "command": ["eventserver"] } },
        "ok": true, "verdict": "passed", "reason": "All is well.", "faults": [],
        "figures": run(&middle), "runs": runs, "series": [],
    })
}

/// Returns the line of a figure.
fn row<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line.trim_start().starts_with(name)).unwrap()
}

#[test]
fn the_status_tells_whether_something_is_worse() {
    let results = Results::new();
    results.write("100.json", &result(&[100.0]));
    results.write("95.json", &result(&[95.0]));
    results.write("80.json", &result(&[80.0]));
    for (arguments, status, change) in [
        ("100.json 100.json", 0, "same"),
        ("100.json 95.json", 0, "same"),
        ("100.json 95.json --tolerance 4", 1, "WORSE"),
        ("95.json 100.json --tolerance 4", 0, "better"),
        ("100.json 80.json", 1, "WORSE"),
        ("80.json 100.json", 0, "better"),
        ("100.json 80.json --tolerance 30", 0, "same"),
        ("100.json 80.json --figure serverPeakBytes", 0, ""),
    ] {
        let (found, text) = results.compare(arguments);
        assert_eq!(found, Some(status), "{arguments}");
        if change.is_empty() {
            assert!(!text.contains("eventsPerSecond"), "{text}");
        } else {
            assert!(row(&text, "eventsPerSecond").ends_with(change), "{text}");
        }
    }
}

#[test]
fn more_memory_and_latency_are_worse() {
    let results = Results::new();
    let mut more = result(&[100.0]);
    more["figures"]["serverPeakBytes"] = json!(9_000_000);
    results.write("a.json", &result(&[100.0]));
    results.write("b.json", &more);
    let (status, text) = results.compare("a.json b.json");
    assert_eq!(status, Some(1));
    assert!(row(&text, "serverPeakBytes").contains("5.00 MB"), "{text}");
    assert!(row(&text, "serverPeakBytes").ends_with("1.80 WORSE"), "{text}");
}

#[test]
fn several_runs_are_medians_with_their_spread() {
    let results = Results::new();
    results.write("runs.json", &result(&[90.0, 100.0, 110.0]));
    results.write("array.json", &json!([result(&[90.0]), result(&[100.0]), result(&[110.0])]));
    for (name, rate) in [("1.json", 90.0), ("2.json", 110.0), ("3.json", 100.0)] {
        results.write(name, &result(&[rate]));
    }
    let one_after_another: String =
        [90.0, 100.0, 110.0].iter().map(|&rate| format!("{}\n", result(&[rate]))).collect();
    std::fs::write(results.path("lines.json"), one_after_another).unwrap();
    for side in ["runs.json", "array.json", "lines.json", "1.json 2.json 3.json"] {
        let (status, text) = results.compare(&format!("{side} vs {side}"));
        assert_eq!(status, Some(0), "{side}");
        assert_eq!(row(&text, "eventsPerSecond").matches("100/s ±10 %").count(), 2, "{text}");
        assert!(text.contains("3 runs"), "{text}");
    }
}

#[test]
fn differing_settings_are_told() {
    let results = Results::new();
    let mut other = result(&[100.0]);
    other["settings"]["mix"] = json!("broadcast");
    results.write("a.json", &result(&[100.0]));
    results.write("b.json", &other);
    let (status, text) = results.compare("a.json b.json");
    assert_eq!(status, Some(0));
    assert!(text.contains("mix: even → broadcast"), "{text}");
}

#[test]
fn a_failed_run_is_worse_than_one_that_passed() {
    let results = Results::new();
    let mut failed = result(&[100.0]);
    (failed["ok"], failed["verdict"]) = (json!(false), json!("failed"));
    failed["reason"] = json!("the memory grew");
    results.write("a.json", &result(&[100.0]));
    results.write("b.json", &failed);
    let (status, text) = results.compare("a.json b.json");
    assert_eq!(status, Some(1));
    assert!(text.contains("B: b.json: failed: the memory grew"), "{text}");
    assert_eq!(results.compare("b.json b.json").0, Some(0));
}

#[test]
fn results_that_cannot_be_compared_are_named_with_status_2() {
    let results = Results::new();
    results.write("a.json", &result(&[100.0]));
    let with = |key: &str, value: Value| {
        let mut document = result(&[100.0]);
        document[key] = value;
        document
    };
    results.write("latency.json", &with("kind", json!("latency")));
    results.write("schema.json", &with("schema", json!(2)));
    results.write("empty.json", &with("figures", Value::Null));
    results.write("verdict.json", &with("verdict", json!("unheard of")));
    results.write("other.json", &json!({ "command": "verify" }));
    results.write("mixed.json", &json!([result(&[100.0]), with("kind", json!("soak"))]));
    std::fs::write(results.path("text.json"), "no JSON").unwrap();
    std::fs::write(results.path("nothing.json"), "").unwrap();
    for (arguments, words) in [
        ("a.json latency.json", "A holds results of `verify`, B of `latency`"),
        ("a.json schema.json", "schema.json: its schema is 2; this program reads schema 1"),
        ("a.json empty.json", "empty.json has no figures"),
        ("a.json verdict.json", "verdict.json: this is not a result"),
        ("a.json other.json", "other.json: this is not a result of `loadgen --json`"),
        ("a.json text.json", "text.json: this is not JSON"),
        ("a.json nothing.json", "nothing.json: it holds no result"),
        ("a.json mixed.json", "mixed.json holds a result of `soak`"),
        ("a.json missing.json", "missing.json: No such file"),
        ("a.json", "name two files"),
        ("a.json a.json a.json", "`vs`"),
        ("a.json vs", "both sides of `vs`"),
        ("a.json a.json --figure nothing", "no figure contains `nothing`"),
        ("a.json a.json --tolerance -1", "--tolerance"),
    ] {
        let (status, text) = results.compare(arguments);
        assert_eq!(status, Some(2), "{arguments}: {text}");
        assert!(text.contains(words), "{arguments}: {text}");
    }
}

#[test]
fn real_results_fit_a_terminal() {
    let results = Results::new();
    let file = |name: &str| results.path(name);
    let measure = |name: &str, arguments: &str| {
        let arguments = format!("{arguments} --json {}", file(name).display());
        assert!(loadgen(&arguments).output().unwrap().status.success(), "{arguments}");
    };
    let long =
        "a-name-of-a-file-that-is-much-too-long-for-a-line-of-eighty-columns-on-a-terminal.json";
    measure(
        long,
        "pinned --runs 2 --total-events 2000 --mix even --mix 123456:123456:1:100000:100000",
    );
    measure(
        "other.json",
        "pinned --runs 3 --total-events 4000 --mix even --server-arg --busy-poll",
    );
    for files in [format!("{long} {long}"), format!("{long} other.json")] {
        let (status, text) = results.compare(&files);
        assert!(matches!(status, Some(0 | 1)));
        assert!(row(&text, "eventsPerSecond").contains("/s"));
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    assert!(Path::new(&file(long)).exists());
}
