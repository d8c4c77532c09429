//! Command line and configuration of the real program: its output and its exit status.
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// Output and exit status of the program.
#[derive(Debug, PartialEq, Eq)]
struct CommandOutput {
    status: Option<i32>,
    out: String,
    err: String,
}

fn eventserver<A: AsRef<OsStr>>(arguments: &[A]) -> CommandOutput {
    eventserver_in(&[], arguments)
}

/// Runs the program with these environment variables.
fn eventserver_in<A: AsRef<OsStr>>(variables: &[(&str, &str)], arguments: &[A]) -> CommandOutput {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_eventserver"))
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    CommandOutput {
        status: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs with invalid flags or configuration, and returns the error message.
fn usage_error<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let output = eventserver(arguments);
    assert_eq!((output.status, output.out.as_str()), (Some(2), ""), "{output:?}");
    output.err
}

/// Runs `--check-config` with these flags, and returns the printed settings.
fn check_config(flags: &[&str]) -> Value {
    let output = eventserver(&[flags, &["--check-config"]].concat());
    assert_eq!((output.status, output.err.as_str()), (Some(0), ""));
    serde_json::from_str(&output.out).unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn name(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn help_goes_to_standard_output() {
    let output = eventserver(&["--help"]);
    assert_eq!((output.status, output.err.as_str()), (Some(0), ""));
    assert!(output.out.starts_with("Usage: eventserver [--config FILE] "), "{}", output.out);
    assert!(output.out.contains("--event-listen"), "{}", output.out);
}

#[test]
fn version_goes_to_standard_output() {
    for flag in ["--version", "-V"] {
        let out = format!("eventserver {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            eventserver(&[flag]),
            CommandOutput { status: Some(0), out, err: String::new() }
        );
    }
}

#[test]
fn check_config_prints_the_defaults_in_the_order_of_the_table() {
    let out = r#"{
  "eventListenerPort": 9090,
  "eventListenerAddress": "127.0.0.1",
  "clientListenerPort": 9099,
  "clientListenerAddress": "127.0.0.1",
  "firstSequence": 1,
  "reorderWindow": 262144,
  "gapTimeoutMs": 0,
  "onSourceDisconnect": "keep",
  "maxSources": 64,
  "maxLineBytes": 256,
  "identifyTimeoutMs": 10000,
  "peerTimeoutMs": 60000,
  "clientQueueBytes": 4194304,
  "totalQueueBytes": 536870912,
  "slowClient": "pause",
  "stallTimeoutMs": 30000,
  "drainTimeoutMs": 5000,
  "busyPoll": false,
  "logLevel": "info",
  "logFormat": "text",
  "sync": "always",
  "journalRetainBytes": 268435456,
  "streamCreate": false,
  "streamMaxBytes": 1073741824,
  "resumeEvents": 0
}
"#
    .to_owned();
    assert_eq!(
        eventserver(&["--check-config"]),
        CommandOutput { status: Some(0), out, err: String::new() }
    );
}

#[test]
fn what_check_config_prints_reads_back_the_same() {
    let listeners = ["--event-listen", "[::]:1", "--client-listen", "0.0.0.0:0"];
    let limits = ["--max-clients", "5", "--max-clients-per-address", "4"];
    let others = ["--capture", "lines of \"today\".txt", "--log-level", "trace", "--busy-poll"];
    let flags = [&listeners[..], &limits[..], &others[..], &["--check-config"]].concat();
    let first = eventserver(&flags);
    assert_eq!((first.status, first.err.as_str()), (Some(0), ""));
    let printed = file(&first.out);
    assert_eq!(eventserver(&["--config", name(&printed), "--check-config"]), first);
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let file = file(
        r#"{"eventListenerPort": 7, "eventListenerAddress": "::1", "maxSources": 3,
            "gapTimeoutMs": 100, "slowClient": "disconnect", "busyPoll": true}"#,
    );
    let config = ["--config", name(&file)];
    let settings = check_config(&config);
    assert_eq!(settings["eventListenerPort"], 7);
    assert_eq!(settings["eventListenerAddress"], "::1");
    assert_eq!(settings["maxSources"], 3);
    assert_eq!(settings["firstSequence"], 1);

    // A flag wins before or after the file; one for a listener replaces both port and address.
    let flags = ["--max-sources", "4", "--event-listen", "8", "--slow-client", "pause"];
    for arguments in [[&config[..], &flags[..]].concat(), [&flags[..], &config[..]].concat()] {
        let settings = check_config(&arguments);
        assert_eq!(settings["eventListenerPort"], 8);
        assert_eq!(settings["eventListenerAddress"], "127.0.0.1");
        assert_eq!(settings["maxSources"], 4);
        assert_eq!(settings["slowClient"], "pause");
        assert_eq!(settings["gapTimeoutMs"], 100);
        assert_eq!(settings["busyPoll"], json!(true));
    }
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let file = file(r#"{"maxSources": 3, "gapTimeoutMs": 100, "reorderWindow": 7}"#);
    let variables = [
        ("EVENTSERVER_CONFIG", name(&file)),
        ("EVENTSERVER_MAX_SOURCES", "4"),
        ("EVENTSERVER_GAP_TIMEOUT_MS", "2s"),
    ];
    let output = eventserver_in(&variables, &["--max-sources=5", "--check-config"]);
    assert_eq!((output.status, output.err.as_str()), (Some(0), ""));
    let settings: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(settings["maxSources"], 5);
    assert_eq!(settings["gapTimeoutMs"], 2000);
    assert_eq!(settings["reorderWindow"], 7);

    let output = eventserver_in(&variables, &["--config", "/nowhere", "--check-config"]);
    assert!(output.err.starts_with("eventserver: cannot read /nowhere: "), "{output:?}");
}

#[test]
fn a_wrong_value_of_a_variable_is_refused_by_the_variables_name() {
    let output = eventserver_in(&[("EVENTSERVER_MAX_SOURCES", "0")], &["--max-sources=5"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (
            Some(2),
            "eventserver: EVENTSERVER_MAX_SOURCES=0: must be a whole number from 1 to 1024\n"
        )
    );
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let variables = [("EVENTSERVER_MAX_SOURCE", "5"), ("EVENTSERVER_SERVICE_HOST", "10.0.0.1")];
    let output = eventserver_in(&variables, &["--check-config"]);
    assert_eq!(
        (output.status, output.err.as_str()),
        (
            Some(0),
            "eventserver: environment variable EVENTSERVER_MAX_SOURCE is no setting; did you mean \
             EVENTSERVER_MAX_SOURCES?\n"
        )
    );
}

#[test]
fn a_file_of_two_ports_is_a_complete_one() {
    let file = file(r#"{"eventListenerPort": 9190, "clientListenerPort": 9199}"#);
    let settings = check_config(&["--config", name(&file)]);
    assert_eq!(settings["eventListenerPort"], 9190);
    assert_eq!(settings["clientListenerPort"], 9199);
    assert_eq!(settings["clientListenerAddress"], "127.0.0.1");
}

#[test]
fn wrong_flags_are_refused_with_the_usage() {
    assert_eq!(
        usage_error(&["--max-source", "5"]),
        "eventserver: unknown argument --max-source; did you mean --max-sources?\n\
         Usage: eventserver [--config FILE] [--FLAG VALUE]...\n\
         eventserver --help lists the flags.\n"
    );
    for arguments in
        [&["9090"][..], &["--config"], &["--check-config", "yes"], &["-v"], &[""], &["--version=1"]]
    {
        let err = usage_error(arguments);
        assert!(err.starts_with("eventserver: ") && err.contains("\nUsage: eventserver "), "{err}");
    }
}

#[test]
fn a_wrong_value_of_a_flag_is_refused_by_the_flags_name() {
    assert_eq!(
        usage_error(&["--reorder-window", "0"]),
        "eventserver: --reorder-window 0: must be a whole number from 1 to 67108864\n"
    );
    assert_eq!(
        usage_error(&["--slow-client", "wait", "--check-config"]),
        "eventserver: --slow-client wait: must be one of pause, disconnect\n"
    );
}

#[test]
fn a_wrong_value_in_the_file_is_refused_even_where_a_flag_would_win() {
    let file = file(r#"{"maxSources": 0}"#);
    let name = name(&file);
    assert_eq!(
        usage_error(&["--config", name, "--max-sources", "5"]),
        format!("eventserver: {name}: \"maxSources\": 0: must be a whole number from 1 to 1024\n")
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_one_it_resembles() {
    let file = file(r#"{"reorder_window": 5}"#);
    let name = name(&file);
    assert_eq!(
        usage_error(&["--config", name]),
        format!(
            "eventserver: {name}: \"reorder_window\": 5: unknown key; did you mean reorderWindow?\n"
        )
    );
}

#[test]
fn a_file_that_is_not_json_is_refused_with_line_and_column() {
    let file = file("{\n  eventListenerPort: 9090\n}\n");
    let name = name(&file);
    assert_eq!(
        usage_error(&["--config", name]),
        format!("eventserver: {name}: not JSON: key must be a string at line 2 column 3\n")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_the_reason() {
    assert_eq!(
        usage_error(&["--config", "/nowhere/events.json"]),
        "eventserver: cannot read /nowhere/events.json: No such file or directory (os error 2)\n"
    );
    assert!(usage_error(&["--config", "/"]).starts_with("eventserver: cannot read /: "));
}

#[test]
fn a_file_without_text_is_refused_with_what_to_do() {
    let empty = file("");
    assert_eq!(
        usage_error(&["--config", name(&empty)]),
        format!(
            "eventserver: {} is empty: write at least {{}}, or start from what eventserver \
             --check-config prints\n",
            name(&empty)
        )
    );
    let mut utf16 = NamedTempFile::new().unwrap();
    utf16.write_all(b"\xff\xfe{\0}\0").unwrap();
    let err = usage_error(&["--config", name(&utf16)]);
    assert!(
        err.ends_with("not UTF-8: it begins like a file in UTF-16; save it as UTF-8\n"),
        "{err}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_endless_file_is_refused() {
    let err = usage_error(&["--config", "/dev/zero"]);
    assert!(err.contains("it has more than 1 MiB, so it is no configuration file"), "{err}");
}

/// Runs a program on a text, if it is installed. Returns whether it succeeds, and what it writes.
fn fed_to(program: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let file = file(text);
    let output = Command::new(program).args(arguments).arg(file.path()).output().ok()?;
    let written = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(written).unwrap()))
}

#[test]
fn the_manual_page_renders_without_warnings() {
    let page = eventserver(&["--print", "man"]).out;
    let warnings = ["-man", "-Tascii", "-ww", "-z"];
    if let Some((success, written)) = fed_to("groff", &warnings, &page) {
        assert!(success && written.is_empty(), "{written}");
    }
}

#[test]
fn completions_are_valid_and_complete_in_bash() {
    for shell in ["bash", "zsh", "fish"] {
        let completions = eventserver(&["--print", &format!("completions-{shell}")]).out;
        if let Some((success, written)) = fed_to(shell, &["-n"], &completions) {
            assert!(success && written.is_empty(), "{shell}: {written}");
        }
    }
    let completions = eventserver(&["--print", "completions-bash"]).out;
    let complete = |words: &str| {
        let script = format!(
            "{completions}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _eventserver; echo \"${{COMPREPLY[*]}}\""
        );
        fed_to("bash", &[], &script).map(|(_, written)| written.trim_end().to_owned())
    };
    for (words, expected) in [
        ("eventserver --slow", "--slow-client"),
        ("eventserver --slow-client ''", "pause disconnect"),
        ("eventserver --slow-client = d", "disconnect"),
        ("eventserver --max-sources ''", ""),
        ("eventserver --print completions-z", "completions-zsh"),
        ("eventserver jour", "journal"),
        ("eventserver --admin-listen jour", ""),
        ("eventserver journal ''", "verify dump repair --help"),
        ("eventserver journal rep", "repair"),
        ("eventserver journal verify src/jour", "src/journal"),
        ("eventserver journal repair --d", "--dry-run"),
        ("eventserver journal dump --d", ""),
    ] {
        if let Some(completed) = complete(words) {
            assert_eq!(completed, expected, "{words}");
        }
    }
}

#[test]
fn fish_completes_the_commands_of_a_journal() {
    let completions = eventserver(&["--print", "completions-fish"]).out;
    for (line, expected) in [
        ("jour", "journal"),
        ("journal ver", "verify"),
        ("journal repair --d", "--dry-run"),
        ("journal dump src/jour", "src/journal/"),
        ("journal dump --slow", ""),
        ("--slow-client d", "disconnect"),
    ] {
        let script = format!("{completions}\ncomplete -C 'eventserver {line}'");
        if let Some((_, written)) = fed_to("fish", &["--no-config"], &script) {
            let first = written.lines().next().and_then(|line| line.split('\t').next());
            assert_eq!(first.unwrap_or_default(), expected, "{line}: {written}");
        }
    }
}

#[test]
fn completions_manual_and_help_name_the_commands_of_a_journal() {
    let listed = eventserver(&["journal", "--help"]).out;
    let commands = listed.split("Commands:").nth(1).unwrap().lines().skip(1);
    let names: Vec<&str> = commands
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|it| !it.is_empty()))
        .collect();
    assert_eq!(names, ["verify", "dump", "repair"], "{listed}");
    for printed in ["man", "completions-bash", "completions-zsh", "completions-fish"] {
        let text = eventserver(&["--print", printed]).out;
        for name in names.iter().chain(&["dry"]) {
            assert!(text.contains(name), "{name} in {printed}");
        }
    }
}

#[test]
fn the_readme_lists_every_flag() {
    let help = eventserver(&["--help"]).out;
    let readme = include_str!("../README.md");
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags: Vec<&str> = flags
        .filter_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-').next())
        .collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags.into_iter().filter(|flag| *flag != "FLAG") {
        assert!(readme.contains(&format!("`--{flag}")), "--{flag}");
    }
}

#[test]
fn limits_are_compared_after_file_and_flags_are_merged() {
    let file = file(r#"{"clientQueueBytes": 1073741824}"#);
    let config = ["--config", name(&file)];
    let err = usage_error(&config);
    assert!(err.contains("536870912 bytes (default)"), "{err}");
    assert!(err.contains(&format!("({}: \"clientQueueBytes\")", name(&file))), "{err}");

    let settings = check_config(&[&config[..], &["--total-queue-bytes", "1073741824"]].concat());
    assert_eq!(settings["clientQueueBytes"], settings["totalQueueBytes"]);
}

#[test]
fn both_listeners_on_one_address_are_refused() {
    assert_eq!(
        usage_error(&["--client-listen", "127.0.0.1:9090"]),
        "eventserver: events (default) and clients (--client-listen) cannot both listen on \
         127.0.0.1:9090: give one of them another port\n"
    );
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let err = usage_error(&[OsStr::from_bytes(b"--capture"), OsStr::from_bytes(b"\xff.txt")]);
    assert_eq!(err, "eventserver: the argument \"\\xFF.txt\" is not UTF-8\n");
}

#[cfg(target_os = "linux")]
#[test]
fn outputs_that_cannot_be_written_change_no_exit_status() {
    for (argument, status) in [("--help", 0), ("--check-config", 0), ("--foo", 2)] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_eventserver"))
            .arg(argument)
            .stdout(full.try_clone().unwrap())
            .stderr(full)
            .status();
        assert_eq!(output.unwrap().code(), Some(status), "{argument}");
    }
}

#[test]
fn the_help_of_the_journals_tool_goes_to_standard_output() {
    for arguments in [
        &["journal", "--help"][..],
        &["journal", "-h"],
        &["journal", "verify", "--help"],
        &["journal", "dump", "--help"],
        &["journal", "repair", "-h"],
    ] {
        let output = eventserver(arguments);
        assert_eq!((output.status, output.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(output.out.starts_with("Usage: eventserver journal "), "{}", output.out);
    }
    assert!(eventserver(&["--help"]).out.contains("journal verify DIR"));
    assert!(eventserver(&["--print", "man"]).out.contains("journal verify"));
}

#[test]
fn wrong_arguments_of_the_journals_tool_are_refused() {
    for arguments in [
        &["journal"][..],
        &["journal", "frobnicate"],
        &["journal", "verify"],
        &["journal", "verify", "one", "two"],
        &["journal", "dump", "--fast", "one"],
    ] {
        let err = usage_error(arguments);
        assert!(err.contains("eventserver journal --help explains the commands"), "{err}");
    }
}

#[test]
fn a_directory_without_a_journal_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for tool in ["verify", "dump", "repair"] {
        for (path, why) in [
            (folder.path(), "there is no journal in this directory"),
            (&missing, "No such file or directory"),
        ] {
            let output = eventserver(&[OsStr::new("journal"), OsStr::new(tool), path.as_os_str()]);
            assert_eq!((output.status, output.out.as_str()), (Some(1), ""), "{output:?}");
            let said = format!("eventserver: {}: {why}", path.display());
            assert!(output.err.starts_with(&said), "{}", output.err);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is created");
}
