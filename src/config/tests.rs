//! Tests of the table against a second list of its expected contents, and of every error.

use proptest::option;
use proptest::prelude::*;

use super::*;

/// The integer settings: flag, key, minimum, maximum, default (`None`: omitted).
const NUMBERS: [(&str, &str, u64, u64, Option<u64>); 14] = [
    ("--first-sequence", "firstSequence", 0, 18_446_744_073_709_551_614, Some(1)),
    ("--reorder-window", "reorderWindow", 1, 67_108_864, Some(262_144)),
    ("--gap-timeout-ms", "gapTimeoutMs", 0, 86_400_000, Some(0)),
    ("--max-sources", "maxSources", 1, 1024, Some(64)),
    ("--max-clients", "maxClients", 1, 16_777_216, None),
    ("--max-clients-per-address", "maxClientsPerAddress", 1, 16_777_216, None),
    ("--max-line-bytes", "maxLineBytes", 64, 65_536, Some(256)),
    ("--identify-timeout-ms", "identifyTimeoutMs", 10, 3_600_000, Some(10_000)),
    ("--client-queue-bytes", "clientQueueBytes", 4096, 4_294_967_296, Some(4_194_304)),
    ("--total-queue-bytes", "totalQueueBytes", 4096, 1_099_511_627_776, Some(536_870_912)),
    ("--client-send-buffer-bytes", "clientSendBufferBytes", 4096, 1_073_741_824, None),
    ("--peer-timeout-ms", "peerTimeoutMs", 1000, 3_600_000, Some(60_000)),
    ("--stall-timeout-ms", "stallTimeoutMs", 10, 3_600_000, Some(30_000)),
    ("--drain-timeout-ms", "drainTimeoutMs", 0, 3_600_000, Some(5000)),
];

/// The settings with named values: flag, key, names, default.
const CHOICES: [(&str, &str, &[&str], &str); 4] = [
    ("--on-source-disconnect", "onSourceDisconnect", &["keep", "reset"], "keep"),
    ("--slow-client", "slowClient", &["pause", "disconnect"], "pause"),
    ("--log-level", "logLevel", &["off", "error", "warn", "info", "debug", "trace"], "info"),
    ("--log-format", "logFormat", &["text", "json"], "text"),
];

/// The settings in bytes and in milliseconds: flag and key.
const SIZES: [(&str, &str); 4] = [
    ("--max-line-bytes", "maxLineBytes"),
    ("--client-queue-bytes", "clientQueueBytes"),
    ("--total-queue-bytes", "totalQueueBytes"),
    ("--client-send-buffer-bytes", "clientSendBufferBytes"),
];
const TIMES: [(&str, &str); 5] = [
    ("--gap-timeout-ms", "gapTimeoutMs"),
    ("--identify-timeout-ms", "identifyTimeoutMs"),
    ("--peer-timeout-ms", "peerTimeoutMs"),
    ("--stall-timeout-ms", "stallTimeoutMs"),
    ("--drain-timeout-ms", "drainTimeoutMs"),
];

fn read(text: &str) -> Result<Config, String> {
    Config::from_json("conf.json", text).map_err(|error| error.to_string())
}

fn run_with(arguments: &[&str]) -> Result<Config, String> {
    run_in(&[], arguments)
}

/// Parses arguments in an environment of these variables, without their prefix.
fn run_in(variables: &[(&str, &str)], arguments: &[&str]) -> Result<Config, String> {
    let name = |name: &str| format!("EVENTSERVER_{name}").into();
    let environment =
        Environment::new(variables.iter().map(|&(key, value)| (name(key), value.into())));
    match Invocation::parse(arguments, &environment) {
        Ok(Invocation::Run { config, source }) => {
            assert_eq!(source.read().unwrap(), *config, "read again");
            Ok(*config)
        }
        Ok(Invocation::Print(text)) => panic!("prints {text}"),
        Err(error) => Err(error.to_string()),
    }
}

fn printed_by(arguments: &[&str]) -> String {
    match Invocation::parse(arguments, &Environment::default()).unwrap() {
        Invocation::Print(text) => text,
        Invocation::Run { .. } => panic!("serves"),
    }
}

/// Returns the variable of a flag, without its prefix.
fn variable_of(flag: &str) -> String {
    flag.trim_start_matches('-').replace('-', "_").to_uppercase()
}

/// Returns a file with `entry` and a limit that is consistent with it.
fn with_consistent_limits(entry: &str) -> String {
    if entry.contains("totalQueueBytes") {
        format!(r#"{{{entry}, "clientQueueBytes": 4096}}"#)
    } else {
        format!(r#"{{{entry}, "totalQueueBytes": 1099511627776}}"#)
    }
}

#[test]
fn an_empty_file_object_and_no_flags_give_the_defaults() {
    assert_eq!(read("{}").unwrap(), Config::default());
    assert_eq!(run_with(&[]).unwrap(), Config::default());
}

#[test]
fn every_number_is_accepted_at_its_bounds_from_file_and_flag() {
    for (flag, key, min, max, default) in NUMBERS {
        let by_default = Config::default().to_json().get(key).cloned();
        assert_eq!(by_default, default.map(Value::from), "{key}");
        for number in [min, max] {
            let config = read(&with_consistent_limits(&format!("{key:?}: {number}"))).unwrap();
            assert_eq!(config.to_json()[key], Value::from(number), "{key}");

            let limits = if key == "totalQueueBytes" {
                ["--client-queue-bytes", "4096"]
            } else {
                ["--total-queue-bytes", "1099511627776"]
            };
            let config = run_with(&[&[flag, number.to_string().as_str()], &limits[..]].concat());
            assert_eq!(config.unwrap().to_json()[key], Value::from(number), "{flag}");

            let (variable, text) = (variable_of(flag), number.to_string());
            let config = run_in(&[(&variable, &text)], &limits);
            assert_eq!(config.unwrap().to_json()[key], Value::from(number), "{variable}");

            let config = read(&with_consistent_limits(&format!("{key:?}: \"{number}\""))).unwrap();
            assert_eq!(config.to_json()[key], Value::from(number), "{key} as a string");
        }
    }
}

#[test]
fn every_number_out_of_bounds_is_rejected_with_its_origin_and_range() {
    for (flag, key, min, max, _) in NUMBERS {
        let range = format!("must be a whole number from {min} to {max}");
        let below = i128::from(min) - 1;
        let above = i128::from(max) + 1;
        for number in [below, above] {
            let error = read(&format!("{{{key:?}: {number}}}")).unwrap_err();
            assert!(
                error.starts_with(&format!("conf.json: {key:?}: {number}: {range}")),
                "{error}"
            );
            let error = run_with(&[flag, &number.to_string()]).unwrap_err();
            assert!(error.starts_with(&format!("{flag} {number}: {range}")), "{error}");
        }
        for value in ["1.00001", "\"\"", "\"many\"", "true", "null", "[64]", "1e30"] {
            let error = read(&format!("{{{key:?}: {value}}}")).unwrap_err();
            assert!(error.starts_with(&format!("conf.json: {key:?}: ")), "{error}");
            assert!(error.contains(&range), "{error}");
        }
        for value in ["", "many", "1.00001", "99999999999999999999999", "64 ", "64x"] {
            let error = run_with(&[flag, value]).unwrap_err();
            assert!(error.starts_with(&format!("{flag} {value}: {range}")), "{error}");
        }
        let variable = variable_of(flag);
        let error = run_in(&[(&variable, "many")], &[]).unwrap_err();
        assert!(error.starts_with(&format!("EVENTSERVER_{variable}=many: {range}")), "{error}");
    }
}

#[test]
fn sizes_and_times_take_units_from_flag_variable_and_file() {
    let sizes = SIZES.map(|names| (names, "8KiB", 8192));
    let times = TIMES.map(|names| (names, "2.5s", 2500));
    for ((flag, key), text, number) in sizes.into_iter().chain(times) {
        let equal_limits = ["--client-queue-bytes=4k", "--total-queue-bytes=4k"];
        let limits: Vec<&str> =
            equal_limits.into_iter().filter(|it| !it.starts_with(flag)).collect();
        // The total limit is at least the limit per client.
        let limits = if flag == "--client-queue-bytes" { &[][..] } else { &limits };
        let config = run_with(&[&[flag, text], limits].concat()).unwrap();
        assert_eq!(config.to_json()[key], Value::from(number), "{flag}");
        let config = run_in(&[(&variable_of(flag), text)], limits).unwrap();
        assert_eq!(config.to_json()[key], Value::from(number), "{flag}");
        let file = read(&with_consistent_limits(&format!("{key:?}: {text:?}"))).unwrap();
        assert_eq!(file.to_json()[key], Value::from(number), "{key}");
        let error = run_with(&[flag, "5x"]).unwrap_err();
        assert!(error.contains("or with a unit such as "), "{error}");
    }
}

#[test]
fn counts_take_separators_and_exponents() {
    for text in ["1e6", "1_000_000", "1000000"] {
        assert_eq!(run_with(&["--reorder-window", text]).unwrap().reorder_window, 1_000_000);
        let file = read(&format!("{{\"reorderWindow\": {text:?}}}")).unwrap();
        assert_eq!(file.reorder_window, 1_000_000);
    }
    assert_eq!(read(r#"{"reorderWindow": 1e6}"#).unwrap().reorder_window, 1_000_000);
    assert!(run_with(&["--reorder-window", "1k"]).is_err());
}

#[test]
fn none_switches_an_optional_setting_off() {
    let variables = [("MAX_CLIENTS", "5"), ("CAPTURE", "file"), ("ADMIN_LISTEN", "9091")];
    let config = run_in(&variables, &[]).unwrap();
    assert_eq!((config.max_clients, config.admin_listen.is_some()), (Some(5), true));
    let flags = ["--max-clients=none", "--capture=none", "--admin-listen=none"];
    assert_eq!(run_in(&variables, &flags).unwrap(), Config::default());
    assert_eq!(read(r#"{"maxClients": "none"}"#).unwrap(), Config::default());
    let error = run_with(&["--max-clients", "0"]).unwrap_err();
    assert_eq!(error, "--max-clients 0: must be a whole number from 1 to 16777216, or none");
}

#[test]
fn flags_win_over_variables() {
    let variables = [("MAX_SOURCES", "5"), ("CLIENT_LISTEN", ":7"), ("BUSY_POLL", "1")];
    let config = run_in(&variables, &["--max-sources=6", "--busy-poll=false"]).unwrap();
    assert_eq!((config.max_sources, config.busy_poll), (6, false));
    assert_eq!(config.client_listen, "127.0.0.1:7".parse().unwrap());
    assert!(run_in(&variables, &[]).unwrap().busy_poll);
    let error = run_in(&[("CLIENT_LISTEN", "9090")], &[]).unwrap_err();
    assert!(error.contains("clients (EVENTSERVER_CLIENT_LISTEN) cannot both listen"), "{error}");
}

#[test]
fn a_flag_without_effect_is_an_error() {
    for (flags, start) in [
        (
            &["--slow-client=disconnect", "--stall-timeout-ms=5s"][..],
            "--stall-timeout-ms has no effect where slow clients are disconnected at once \
             (--slow-client): ",
        ),
        (
            &["--log-level=off", "--log-format=json"],
            "--log-format has no effect where the log is off (--log-level): ",
        ),
        (
            &["--max-clients=5", "--max-clients-per-address=6"],
            "--max-clients-per-address 6 has no effect, because no more than 5 clients are allowed \
             (--max-clients): ",
        ),
        (&["--print", "man", "--check-config"], "--print cannot be combined with other flags"),
    ] {
        let error = run_with(flags).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
    // A file or a variable may hold a setting for later.
    let variables = [("STALL_TIMEOUT_MS", "5s"), ("LOG_FORMAT", "json")];
    run_in(&variables, &["--slow-client=disconnect", "--log-level=off"]).unwrap();
    read(r#"{"slowClient": "disconnect", "stallTimeoutMs": 5000}"#).unwrap();
    run_with(&["--max-clients=5", "--max-clients-per-address=5"]).unwrap();
}

#[test]
fn every_choice_accepts_only_its_names() {
    for (flag, key, names, default) in CHOICES {
        assert_eq!(Config::default().to_json()[key], default);
        for name in names {
            assert_eq!(read(&format!("{{{key:?}: {name:?}}}")).unwrap().to_json()[key], *name);
            assert_eq!(run_with(&[flag, name]).unwrap().to_json()[key], *name);
        }
        let error = run_with(&[flag, "Maybe"]).unwrap_err();
        assert_eq!(error, format!("{flag} Maybe: must be one of {}", names.join(", ")));
        for value in ["\"Maybe\"", "1", "null", "\"\""] {
            let error = read(&format!("{{{key:?}: {value}}}")).unwrap_err();
            let names = names.join("\", \"");
            assert_eq!(error, format!("conf.json: {key:?}: {value}: must be one of \"{names}\""));
        }
    }
}

#[test]
fn the_toggle_is_off_unless_flag_or_file_turn_it_on() {
    assert!(!Config::default().busy_poll);
    assert!(run_with(&["--busy-poll"]).unwrap().busy_poll);
    assert!(read(r#"{"busyPoll": true}"#).unwrap().busy_poll);
    assert!(!read(r#"{"busyPoll": false}"#).unwrap().busy_poll);
    let error = read(r#"{"busyPoll": 1}"#).unwrap_err();
    assert_eq!(error, r#"conf.json: "busyPoll": 1: must be true or false"#);
}

#[test]
fn a_gap_timeout_of_zero_means_never() {
    assert_eq!(read(r#"{"gapTimeoutMs": 0}"#).unwrap().gap_timeout, None);
    assert_eq!(
        read(r#"{"gapTimeoutMs": 1500}"#).unwrap().gap_timeout,
        Some(Duration::from_millis(1500))
    );
}

#[test]
fn a_capture_needs_a_name() {
    let capture = Some(PathBuf::from("events.txt"));
    assert_eq!(read(r#"{"capture": "events.txt"}"#).unwrap().capture, capture);
    assert_eq!(run_with(&["--capture", "events.txt"]).unwrap().capture, capture);
    let error = run_with(&["--capture", ""]).unwrap_err();
    assert_eq!(error, "--capture : must be the name of a file");
    let error = read(r#"{"capture": 5}"#).unwrap_err();
    assert_eq!(error, r#"conf.json: "capture": 5: must be the name of a file"#);
}

#[test]
fn a_listen_flag_accepts_a_port_or_an_address_with_a_port() {
    for (text, address) in [
        ("9099", "127.0.0.1:9099"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:9099", "0.0.0.0:9099"),
        ("[::]:9099", "[::]:9099"),
        ("[fe80::1%2]:9099", "[fe80::1%2]:9099"),
        (":9099", "127.0.0.1:9099"),
        ("localhost:9099", "127.0.0.1:9099"),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(
            run_with(&["--event-listen", text, "--client-listen", "1"]).unwrap().event_listen,
            address
        );
        assert_eq!(run_with(&["--client-listen", text]).unwrap().client_listen, address);
    }
    for text in [
        "",
        ":",
        "65536",
        "-1",
        "+1",
        "host:9099",
        "localhost",
        "localhost9099",
        "localhost:",
        "0.0.0.0",
        "0.0.0.0:65536",
        "::9099",
    ] {
        for flag in ["--event-listen", "--client-listen"] {
            let error = run_with(&[flag, text]).unwrap_err();
            let start = format!("{flag} {text}: must be [ADDRESS:]PORT");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}

#[test]
fn a_file_sets_address_and_port_in_either_order_or_one_of_them() {
    for (text, address) in [
        (r#"{"eventListenerPort": 7}"#, "127.0.0.1:7"),
        (r#"{"eventListenerAddress": "0.0.0.0"}"#, "0.0.0.0:9090"),
        (r#"{"eventListenerAddress": "::1", "eventListenerPort": 7}"#, "[::1]:7"),
        (r#"{"eventListenerPort": 7, "eventListenerAddress": "[::1]"}"#, "[::1]:7"),
        (r#"{"eventListenerAddress": "fe80::1%2"}"#, "[fe80::1%2]:9090"),
        (r#"{"eventListenerAddress": "localhost", "eventListenerPort": "7"}"#, "127.0.0.1:7"),
    ] {
        assert_eq!(read(text).unwrap().event_listen, address.parse().unwrap());
        let text = text.replace("event", "client").replace("7", "8");
        let address = address.replace(":7", ":8").replace("9090", "9099");
        assert_eq!(read(&text).unwrap().client_listen, address.parse().unwrap());
    }
    for (key, value, reason) in [
        ("eventListenerPort", "65536", "must be a whole number from 0 to 65535"),
        ("clientListenerPort", "\":9099\"", "must be a whole number from 0 to 65535"),
        ("eventListenerAddress", "\"host\"", "must be an IP address"),
        ("clientListenerAddress", "\"127.0.0.1:80\"", "must be an IP address"),
        ("clientListenerAddress", "127", "must be an IP address"),
        ("clientListenerAddress", "\"\"", "must be an IP address"),
    ] {
        let error = read(&format!("{{{key:?}: {value}}}")).unwrap_err();
        assert!(error.starts_with(&format!("conf.json: {key:?}: {value}: {reason}")), "{error}");
    }
}

#[test]
fn listeners_cannot_share_an_address_except_with_port_0() {
    let error = run_with(&["--client-listen", "9090"]).unwrap_err();
    assert_eq!(
        error,
        "events (default) and clients (--client-listen) cannot both listen on 127.0.0.1:9090: \
         give one of them another port"
    );
    let error = read(r#"{"eventListenerPort": 5, "clientListenerPort": 5}"#).unwrap_err();
    assert_eq!(
        error,
        "events (conf.json: \"eventListenerPort\") and clients (conf.json: \"clientListenerPort\") \
         cannot both listen on 127.0.0.1:5: give one of them another port"
    );
    run_with(&["--event-listen", "0", "--client-listen", "0"]).unwrap();
    run_with(&["--event-listen", "127.0.0.2:5", "--client-listen", "5"]).unwrap();
}

#[test]
fn the_admin_listener_is_off_by_default_and_takes_a_port_or_an_address() {
    assert_eq!(Config::default().admin_listen, None);
    assert_eq!(Config::default().to_json().get("adminListen"), None);
    for (text, address) in [
        ("9091", "127.0.0.1:9091"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:9091", "0.0.0.0:9091"),
        ("[::1]:9091", "[::1]:9091"),
    ] {
        let address: Option<SocketAddr> = address.parse().ok();
        let config = run_with(&["--admin-listen", text]).unwrap();
        assert_eq!(config.admin_listen, address);
        assert_eq!(read(&config.to_string()).unwrap(), config);
        assert_eq!(read(&format!("{{\"adminListen\": {text:?}}}")).unwrap().admin_listen, address);
    }
    assert_eq!(read(r#"{"adminListen": 9091}"#).unwrap().admin_listen.unwrap().port(), 9091);
    assert_eq!(read(r#"{"adminListen": "none"}"#).unwrap().admin_listen, None);
    assert_eq!(run_with(&["--admin-listen", "none"]).unwrap().admin_listen, None);
    for text in ["", "None", "65536", "0.0.0.0"] {
        let error = run_with(&["--admin-listen", text]).unwrap_err();
        let start = format!("--admin-listen {text}: must be none or [ADDRESS:]PORT");
        assert!(error.starts_with(&start), "{error}");
    }
    for value in ["true", "null", "-1", "65536", "9091.5"] {
        let error = read(&format!("{{\"adminListen\": {value}}}")).unwrap_err();
        let start = format!("conf.json: \"adminListen\": {value}: must be none or [ADDRESS:]PORT");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn the_admin_listener_shares_no_address_either() {
    for (port, first) in [("9090", "events"), ("9099", "clients")] {
        assert_eq!(
            run_with(&["--admin-listen", port]).unwrap_err(),
            format!(
                "{first} (default) and admin (--admin-listen) cannot both listen on \
                 127.0.0.1:{port}: give one of them another port"
            )
        );
    }
    let zeros = ["--event-listen", "0", "--client-listen", "0", "--admin-listen", "0"];
    run_with(&zeros).unwrap();
}

#[test]
fn the_total_limit_is_at_least_the_limit_per_client() {
    let error = run_with(&["--client-queue-bytes", "536870913"]).unwrap_err();
    assert_eq!(
        error,
        "the queue limit for all clients, 536870912 bytes (default), is below the one for each \
         client, 536870913 bytes (--client-queue-bytes): raise --total-queue-bytes \
         (\"totalQueueBytes\") or lower --client-queue-bytes (\"clientQueueBytes\")"
    );
    let error = read(r#"{"totalQueueBytes": 4194303}"#).unwrap_err();
    assert!(error.contains("4194303 bytes (conf.json: \"totalQueueBytes\")"), "{error}");
    assert!(error.contains("4194304 bytes (default)"), "{error}");
    run_with(&["--client-queue-bytes", "536870912"]).unwrap();
    read(r#"{"totalQueueBytes": 4194304}"#).unwrap();
}

#[test]
fn an_unknown_key_is_reported_with_a_similar_key_or_all_keys() {
    for (key, near) in [
        ("reorderWindw", "reorderWindow"),
        ("gap_timeout_ms", "gapTimeoutMs"),
        ("max-sources", "maxSources"),
        ("eventlistenerport", "eventListenerPort"),
    ] {
        let error = read(&format!("{{{key:?}: 5}}")).unwrap_err();
        assert_eq!(error, format!("conf.json: {key:?}: 5: unknown key; did you mean {near}?"));
    }
    for key in ["port", "", "a", &"long".repeat(1000)] {
        let error = read(&format!("{{{key:?}: 5}}")).unwrap_err();
        assert!(
            error.starts_with(&format!("conf.json: {key:?}: 5: unknown key; the known keys are "))
        );
        for known in KEYS {
            assert!(error.contains(known), "{error}");
        }
    }
}

#[test]
fn a_long_value_is_truncated_in_the_message() {
    let error = read(&format!(r#"{{"slowClient": "{}"}}"#, "é".repeat(100_000))).unwrap_err();
    assert!(error.len() < 300, "{error}");
    assert!(error.contains("é…: must be one of"), "{error}");
}

#[test]
fn a_duplicate_key_is_an_error() {
    let error = read("{\"maxSources\": 3,\n \"maxSources\": 4}").unwrap_err();
    assert!(error.starts_with("conf.json: \"maxSources\" appears twice, first as 3, then as 4"));
    assert!(error.contains("at line 2 column "), "{error}");
}

#[test]
fn invalid_json_is_reported_by_line_and_column() {
    for (text, reason) in [
        ("{\n  \"maxSources\": 3,\n}", "not JSON: trailing comma at line 3 column 1"),
        ("{} {}", "not JSON: trailing characters at line 1 column 4"),
        ("{\"maxSources\": 1e999}", "not JSON: number out of range at line 1 column 20"),
        ("[]", "invalid type: sequence, expected a JSON object of settings at line 1 column 0"),
    ] {
        assert_eq!(read(text).unwrap_err(), format!("conf.json: {reason}"));
    }
}

#[test]
fn an_empty_file_is_an_error_that_says_what_to_write() {
    for text in ["", " \n", "\u{feff}"] {
        assert_eq!(
            read(text).unwrap_err(),
            "conf.json is empty: write at least {}, or start from what eventserver --check-config \
             prints"
        );
    }
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(read("\u{feff}{\"maxSources\": 5}").unwrap().max_sources, 5);
}

#[test]
fn unknown_flags_are_distinguished_from_wrong_usage() {
    for (arguments, start) in [
        (&["--foo"][..], "unknown argument --foo\nUsage: eventserver "),
        (&["9090"], "unknown argument 9090\nUsage: "),
        (&["--max-source", "5"], "unknown argument --max-source; did you mean --max-sources?\n"),
        (&["--max-source=5"], "unknown argument --max-source=5; did you mean --max-sources?\n"),
        (&["--print", "html"], "--print html: must be one of man, completions-bash, "),
        (&["--max-sources"], "--max-sources needs a value\nUsage: "),
        (&["--max-sources", "1", "--max-sources", "2"], "--max-sources is given twice\nUsage: "),
    ] {
        let error = run_with(arguments).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn help_names_every_flag_with_range_and_default() {
    let help = printed_by(&["--help"]);
    let about = |flag: &str| {
        let (_, rest) = help.split_once(&format!("\n  {flag} ")).unwrap();
        let text = rest.split("\n  -").next().unwrap().split("\n\n").next().unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("--max-sources", "N maximum number of connected event sources [1 to 1024; default: 64] *"),
        ("--event-listen", "default: 127.0.0.1:9090]"),
        ("--client-queue-bytes", "[4KiB to 4GiB; default: 4MiB] *"),
        ("--drain-timeout-ms", "[0 to 1h; default: 5s] *"),
        ("--gap-timeout-ms", "[0 to 24h; default: 0, never] *"),
        ("--max-clients", "[1 to 16777216; default: as the limit on open files allows] *"),
        (
            "--busy-poll",
            "poll without sleeping, for a server with a dedicated core [default: false]",
        ),
        ("--capture", "named pipe [default: none]"),
    ] {
        assert!(about(text).ends_with(expected), "{text}: {}", about(text));
    }
    for (flag, _, names, default) in CHOICES {
        let text = about(flag);
        let values = format!("[{}; default: {default}]", names.join(", "));
        assert!(text.contains(&values), "{flag}: {text}");
    }
    assert!(FLAGS.iter().all(|flag| help.contains(flag)), "{help}");
    assert_eq!(printed_by(&["-h"]), help);
}

#[test]
fn every_setting_is_in_a_group_and_has_a_flag() {
    let settings = settings();
    assert_eq!(settings.len() + 5, FLAGS.len());
    for setting in settings {
        assert!(Group::ALL.contains(&setting.group));
        assert!(FLAGS.contains(&format!("--{}", setting.flag).as_str()));
        assert!(KEYS.contains(&setting.key));
    }
}

#[test]
fn the_example_in_the_help_is_a_configuration() {
    let help = printed_by(&["--help"]);
    let example = help.lines().find(|line| line.trim_start().starts_with('{')).unwrap();
    assert_ne!(read(example).unwrap(), Config::default());
}

#[test]
fn every_key_is_the_camel_case_name_of_its_flag() {
    let listeners = ["ListenerPort", "ListenerAddress"];
    let keys = KEYS.iter().filter(|key| !listeners.iter().any(|it| key.ends_with(it)));
    for key in keys {
        let kebab: String = key
            .chars()
            .flat_map(|c| {
                if c.is_ascii_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] }
            })
            .collect();
        assert!(FLAGS.contains(&format!("--{kebab}").as_str()), "{key}");
    }
}

#[test]
fn a_reload_takes_what_can_change_and_names_what_cannot() {
    let mut config = Config::default();
    let new = read(
        r#"{"eventListenerPort": 7, "adminListen": 9, "firstSequence": 2, "reorderWindow": 2,
            "gapTimeoutMs": 1, "onSourceDisconnect": "reset", "maxSources": 2, "maxClients": 2,
            "maxClientsPerAddress": 2, "maxLineBytes": 65, "identifyTimeoutMs": 11,
            "peerTimeoutMs": 1001, "clientQueueBytes": 5000, "totalQueueBytes": 5001,
            "clientSendBufferBytes": 5002, "slowClient": "disconnect", "stallTimeoutMs": 12, "drainTimeoutMs": 13,
            "busyPoll": true, "logLevel": "debug", "logFormat": "json", "capture": "x"}"#,
    )
    .unwrap();
    let unchangeable = [
        "--event-listen",
        "--admin-listen",
        "--first-sequence",
        "--reorder-window",
        "--on-source-disconnect",
        "--busy-poll",
        "--capture",
    ];
    let changed = [
        "--gap-timeout-ms",
        "--max-sources",
        "--max-clients",
        "--max-clients-per-address",
        "--max-line-bytes",
        "--identify-timeout-ms",
        "--peer-timeout-ms",
        "--client-queue-bytes",
        "--total-queue-bytes",
        "--client-send-buffer-bytes",
        "--slow-client",
        "--stall-timeout-ms",
        "--drain-timeout-ms",
        "--log-level",
        "--log-format",
    ];
    let reloaded = config.reload(&new);
    assert_eq!(reloaded.unchangeable, unchangeable);
    assert_eq!(reloaded.changed, changed);
    let defaults = Config::default();
    let expected = Config {
        event_listen: defaults.event_listen,
        admin_listen: defaults.admin_listen,
        first_sequence: defaults.first_sequence,
        reorder_window: defaults.reorder_window,
        on_source_disconnect: defaults.on_source_disconnect,
        busy_poll: defaults.busy_poll,
        capture: defaults.capture,
        ..new.clone()
    };
    assert_eq!(config, expected);
    assert_eq!(config.reload(&new).changed, [""; 0], "nothing changes twice");
}

#[cfg(feature = "cluster")]
#[test]
fn a_stream_excludes_resets_and_its_password_is_shown_nowhere() {
    let url = "redis://me:hidden@127.0.0.1:6379/0?stream=events";
    let config = read(&format!(r#"{{"stream": "{url}", "streamMaxBytes": 1048576}}"#)).unwrap();
    assert_eq!(config.stream.as_ref().map(StreamUrl::stream), Some("events"));
    assert!(config.to_string().contains("redis://me:***@127.0.0.1:6379/0?stream=events"));
    let reset = read(&format!(r#"{{"stream": "{url}", "onSourceDisconnect": "reset"}}"#));
    let message = reset.unwrap_err().to_string();
    assert!(message.contains("exclude each other"), "{message}");
    let journaled = read(&format!(r#"{{"stream": "{url}", "dataDir": "d", "sync": 5}}"#)).unwrap();
    assert!(journaled.stream.is_some() && journaled.data_dir.is_some());
    // A misspelt URL is shown, its password is not.
    for text in ["redis://me:hidden@127.0.0.1:6379/0", "rdis://me:hidden@h/0?stream=e"] {
        let message = read(&format!(r#"{{"stream": "{text}"}}"#)).unwrap_err().to_string();
        assert!(!message.contains("hidden") && message.contains("me:***@"), "{message}");
    }
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    any::<SocketAddr>().prop_map(|mut address| {
        // The text of an address omits the flow label.
        if let SocketAddr::V6(address) = &mut address {
            address.set_flowinfo(0);
        }
        address
    })
}

fn millis(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

prop_compose! {
    fn configs()(
        (event_listen, client_listen, admin_listen) in
            (addresses(), addresses(), option::of(addresses())).prop_filter(
                "one address",
                |(event, client, admin)| {
                    event != client && *admin != Some(*event) && *admin != Some(*client)
                },
            ),
        (first_sequence, reorder_window) in (0..u64::MAX, 1..=1_u32 << 26),
        gap_timeout in option::of(millis(1..=86_400_000)),
        on_source_disconnect in
            prop_oneof![Just(OnSourceDisconnect::Keep), Just(OnSourceDisconnect::Reset)],
        (max_sources, max_line_bytes) in (1..=1024_usize, 64..=65_536_usize),
        max_clients in option::of(1..=1_usize << 24),
        max_clients_per_address in option::of(1..=1_usize << 24),
        (identify_timeout, stall_timeout, drain_timeout) in
            (millis(10..=3_600_000), millis(10..=3_600_000), millis(0..=3_600_000)),
        peer_timeout in millis(1000..=3_600_000),
        (client_queue_bytes, total_queue_bytes) in (4096..=1_u64 << 32)
            .prop_flat_map(|client| (Just(client), client..=1 << 40)),
        client_send_buffer_bytes in option::of(4096..=1_u64 << 30),
        slow_client in prop_oneof![Just(SlowClient::Pause), Just(SlowClient::Disconnect)],
        busy_poll in any::<bool>(),
        log_level in (0..6_usize).prop_map(|level| LevelFilter::iter().nth(level).unwrap()),
        log_format in prop_oneof![Just(LogFormat::Text), Just(LogFormat::Json)],
        (capture, data_dir) in
            (option::of(".+".prop_map(PathBuf::from)), option::of(".+".prop_map(PathBuf::from))),
        sync in prop_oneof![
            Just(SyncMode::Always), Just(SyncMode::Never), millis(1..=60_000).prop_map(SyncMode::Every)],
        journal_retain_bytes in 0..=1_u64 << 48,
        (stream_create, stream_max_bytes, resume_events) in
            (any::<bool>(), 1_u64 << 20..=1 << 48, 0..=1_usize << 26),
    ) -> Config {
        Config {
            event_listen, client_listen, admin_listen, first_sequence, reorder_window, gap_timeout,
            on_source_disconnect, max_sources, max_clients, max_clients_per_address,
            max_line_bytes, identify_timeout, peer_timeout, client_queue_bytes, total_queue_bytes,
            client_send_buffer_bytes, slow_client,
            stall_timeout, drain_timeout, busy_poll, log_level, log_format, capture, data_dir,
            sync, journal_retain_bytes, stream: None, stream_create, stream_max_bytes, resume_events,
        }
    }
}

proptest! {
    #[test]
    fn configuration_roundtrip(config in configs()) {
        prop_assert_eq!(read(&config.to_string()), Ok(config));
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".*") {
        let _ = read(&text);
        let _ = read(&format!("{{{text:?}: {text:?}}}"));
    }
}
