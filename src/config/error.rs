//! Configuration errors with messages that say how to fix them.

use std::{fmt, io};

/// The maximum length of a value shown in a message, in characters.
const MAX_SHOWN_VALUE: usize = 64;

/// What an error in the usage of flags ends with.
const USAGE: &str = "Usage: eventserver [--config FILE] [--FLAG VALUE]...\n\
                     eventserver --help lists the flags.";

/// The origin of a setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    #[default]
    Default,
    /// A flag, by its name without dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A key of a configuration file.
    Key {
        /// The name of the file as given.
        file: String,
        /// The key as written in the file.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Key { file, key } => write!(f, "{file}: {key:?}"),
        }
    }
}

/// An error in the flags or the configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid usage of flags: unknown, repeated, or without a value.
    #[error("{0}\n{USAGE}")]
    Usage(String),
    /// The file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Read {
        /// The name of the file as given.
        file: String,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// The file has no content.
    #[error(
        "{file} is empty: write at least {{}}, or start from what eventserver --check-config prints"
    )]
    Empty {
        /// The name of the file as given.
        file: String,
    },
    /// The file is not encoded in UTF-8.
    #[error("{file}: not UTF-8: {reason}")]
    Encoding {
        /// The name of the file as given.
        file: String,
        /// What it is instead, and what to do.
        reason: String,
    },
    /// The file is not JSON, or not an object with unique keys.
    #[error("{file}: {}{reason}", if reason.is_data() { "" } else { "not JSON: " })]
    Parse {
        /// The name of the file as given.
        file: String,
        /// The error, with line and column.
        reason: serde_json::Error,
    },
    /// A value is not allowed for its setting, or its key is unknown.
    #[error("{}: {reason}", assignment(origin, value))]
    InvalidValue {
        /// The origin of the value.
        origin: Origin,
        /// The value, truncated if it is long.
        value: String,
        /// The allowed values.
        reason: String,
    },
    /// Two settings contradict each other. The text names both with their origins.
    #[error("{0}")]
    Conflict(String),
}

impl Error {
    /// Creates an error from the message of argh.
    pub(super) fn usage(output: &str, flags: &[&str]) -> Error {
        let output = output.trim_end();
        let between = |prefix, suffix| output.strip_prefix(prefix)?.strip_suffix(suffix);
        if let Some(argument) = output.strip_prefix("Unrecognized argument: ") {
            // `--flag=value` resembles its flag too.
            let name = argument.split('=').next().unwrap_or(argument);
            let hint = did_you_mean(name, flags).unwrap_or_default();
            return Error::Usage(format!("unknown argument {argument}{hint}"));
        }
        if let Some(flag) = between("No value provided for option '", "'.") {
            return Error::Usage(format!("{flag} needs a value"));
        }
        if let Some(repeated) = between("Error parsing option '", "': duplicate values provided") {
            let flag = repeated.split('\'').next().unwrap_or(repeated);
            return Error::Usage(format!("{flag} is given twice"));
        }
        Error::Usage(output.to_owned())
    }

    /// Creates an error for a value that is not allowed.
    pub(super) fn invalid_value(origin: &Origin, value: &str, reason: String) -> Error {
        let value = without_password(value);
        let mut shown: String = value.chars().take(MAX_SHOWN_VALUE).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Error::InvalidValue { origin: origin.clone(), value: shown, reason }
    }
}

/// Replaces the password of a URL, `scheme://user:password@host`, and that of a parameter `pass`.
fn without_password(value: &str) -> String {
    let mut shown = value.to_owned();
    if let Some((scheme, rest)) = value.split_once("://")
        && let Some((user_info, host)) = rest.rsplit_once('@')
        && let Some((user, _)) = user_info.split_once(':')
    {
        shown = format!("{scheme}://{user}:***@{host}");
    }
    if let Some((before, rest)) = shown.split_once("pass=") {
        let after = rest.find('&').map_or("", |end| &rest[end..]);
        shown = format!("{before}pass=***{after}");
    }
    shown
}

/// Returns how a value was given: `--flag VALUE`, `VARIABLE=VALUE` or `FILE: "key": VALUE`.
fn assignment(origin: &Origin, value: &str) -> String {
    match origin {
        Origin::Key { .. } => format!("{origin}: {value}"),
        Origin::Variable(name) => format!("{name}={value}"),
        Origin::Default | Origin::Flag(_) => format!("{origin} {value}"),
    }
}

/// Returns the message for an unknown `key`: it suggests a similar key or lists all of them.
pub(super) fn unknown_key_message(key: &str, known: &[&str]) -> String {
    let known_keys = || format!("; the known keys are {}", known.join(", "));
    format!("unknown key{}", did_you_mean(key, known).unwrap_or_else(known_keys))
}

/// Returns the suffix of a message that suggests the known name most similar to an unknown one.
fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    nearest(name, known).map(|nearest| format!("; did you mean {nearest}?"))
}

/// Returns the known name most similar to an unknown one, if there is a similar one.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &str| levenshtein(&normalized(name), &normalized(known));
    let (edits, nearest) = known.iter().map(|known| (distance(known), *known)).min()?;
    (edits <= normalized(name).len() / 3).then_some(nearest)
}

/// Normalizes a name, so that `gap_timeout_ms` and `gapTimeoutMs` are equal.
fn normalized(name: &str) -> Vec<char> {
    let shown = name.chars().take(MAX_SHOWN_VALUE);
    shown.filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns the edit distance: the insertions, deletions and substitutions between two names.
fn levenshtein(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let changed = row[j] + usize::from(a != b);
            next.push(changed.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row[to.len()]
}
