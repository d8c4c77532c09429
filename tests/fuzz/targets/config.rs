//! Configuration files with arbitrary text. An accepted file must mean what it says, and the
//! printed configuration must read back the same.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use eventserver::config::Config;
use serde_json::{Map, Value};

const FILE: &str = "fuzz.json";

/// The documented ranges of the settings.
const RANGES: [(&str, RangeInclusive<u64>); 16] = [
    ("eventListenerPort", 0..=65_535),
    ("clientListenerPort", 0..=65_535),
    ("firstSequence", 0..=u64::MAX - 1),
    ("reorderWindow", 1..=1 << 26),
    ("gapTimeoutMs", 0..=86_400_000),
    ("maxSources", 1..=1024),
    ("maxClients", 1..=1 << 24),
    ("maxClientsPerAddress", 1..=1 << 24),
    ("maxLineBytes", 64..=65_536),
    ("identifyTimeoutMs", 10..=3_600_000),
    ("clientQueueBytes", 4096..=1 << 32),
    ("totalQueueBytes", 4096..=1 << 40),
    ("clientSendBufferBytes", 4096..=1 << 30),
    ("peerTimeoutMs", 1000..=3_600_000),
    ("stallTimeoutMs", 10..=3_600_000),
    ("drainTimeoutMs", 0..=3_600_000),
];

/// Parses the bytes as a file; other than UTF-8 is ignored.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::from_json(FILE, text) {
        Ok(config) => check_accepted(text, &config),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(FILE), "{message}");
        }
    }
}

fn check_accepted(text: &str, config: &Config) {
    let printed = config.to_string();
    let again = Config::from_json(FILE, &printed).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, *config, "{printed}");
    assert_eq!(again.to_string(), printed);

    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Ok(given) = serde_json::from_str::<Map<String, Value>>(text) else {
        panic!("accepted, though it is no JSON object")
    };
    let printed = config.to_json();
    for (key, value) in &given {
        check_value(key, value, printed.get(key));
    }
    check_bounds(&printed);
}

/// Checks that the printed value means the given one.
fn check_value(key: &str, given: &Value, printed: Option<&Value>) {
    if given == "none" {
        assert_eq!(printed, None, "{key}");
    } else if key.ends_with("Address") {
        let [given, printed] = [Some(given), printed].map(address);
        assert_eq!(given, printed, "{key}");
    } else if key == "adminListen" {
        let [given, printed] = [Some(given), printed].map(listener);
        assert_eq!(given, printed, "{key}");
    } else if let Some(printed) = printed.filter(|printed| printed.is_number()) {
        let given = number(given, key.ends_with("Ms")).unwrap_or(f64::NAN);
        let printed = printed.as_f64().unwrap_or(f64::NAN);
        assert!((given - printed).abs() <= printed * 1e-9, "{key}: {given} is not {printed}");
    } else {
        assert_eq!(Some(given), printed, "{key}");
    }
}

/// Parses an address without brackets and zone.
fn address(value: Option<&Value>) -> Option<IpAddr> {
    let text = value?.as_str()?.trim_matches(['[', ']']);
    text.split('%').next()?.replace("localhost", "127.0.0.1").parse().ok()
}

/// Parses address and port. A port alone is one of 127.0.0.1.
fn listener(value: Option<&Value>) -> Option<SocketAddr> {
    let value = value?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let port = text.trim_start_matches("localhost").trim_start_matches(':');
    let port = port.parse().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|| text.parse().ok())
}

/// Parses a number with a unit, in floating point.
fn number(value: &Value, is_time: bool) -> Option<f64> {
    let text = value.as_str().map_or_else(|| value.to_string(), |text| text.replace('_', ""));
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let factor = match (unit.as_str(), is_time) {
        ("" | "b", false) | ("" | "ms", true) => 1.0,
        ("s", true) => 1e3,
        ("m" | "min", true) => 6e4,
        ("h", true) => 3.6e6,
        ("d", true) => 8.64e7,
        ("kb", false) => 1e3,
        ("mb", false) => 1e6,
        ("gb", false) => 1e9,
        ("tb", false) => 1e12,
        ("k" | "kib", false) => 1024.0,
        ("m" | "mib", false) => 1048576.0,
        ("g" | "gib", false) => 1073741824.0,
        ("t" | "tib", false) => 1099511627776.0,
        _ => return None,
    };
    number.trim_end().parse::<f64>().ok().map(|number| number * factor)
}

fn check_bounds(printed: &Map<String, Value>) {
    for (key, range) in RANGES {
        if let Some(value) = printed.get(key) {
            assert!(value.as_u64().is_some_and(|it| range.contains(&it)), "{key}: {value}");
        }
    }
    let number = |key: &str| printed.get(key).and_then(Value::as_u64);
    assert!(number("clientQueueBytes") <= number("totalQueueBytes"));
    let listener =
        |side: &str| ["Port", "Address"].map(|part| printed.get(&format!("{side}Listener{part}")));
    let is_any_port = number("eventListenerPort") == Some(0);
    assert!(
        is_any_port || listener("event") != listener("client"),
        "both listeners have one address"
    );
}
