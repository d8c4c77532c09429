//! What can be wrong with flags and configuration, said so that it can be put right.

use std::{fmt, io};

/// The longest part of a wrong value that a message repeats, in characters.
const MAX_SHOWN_VALUE: usize = 64;

/// Where a setting comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It was not given.
    #[default]
    Default,
    /// A flag, named without its dashes.
    Flag(&'static str),
    /// A key of a configuration file.
    Key {
        /// The file's name as it was given.
        file: String,
        /// The key as it stands in the file.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Key { file, key } => write!(f, "{file}: {key:?}"),
        }
    }
}

/// Flags or a configuration that cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The flags make no sense: an unknown one, one without its value, one given twice.
    Usage(String),
    /// The file cannot be read.
    Read {
        /// The file's name as it was given.
        file: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The file is not JSON, or not an object with each key once. The reason names line and column.
    Parse {
        /// The file's name as it was given.
        file: String,
        /// What is wrong, and where.
        reason: serde_json::Error,
    },
    /// A value is not allowed where it stands, or nothing has such a key.
    InvalidValue {
        /// Where the value stands.
        place: Origin,
        /// The value, cut where it is long.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// Two settings do not go together. The text names both, with the places they come from.
    Conflict(String),
}

impl Error {
    /// What argh says of flags that it cannot read, with the way to write them.
    pub(super) fn usage(output: &str, flags: &[&str]) -> Error {
        let reason = match output.trim_end().strip_prefix("Unrecognized argument: ") {
            Some(argument) => {
                // `--flag=value` resembles its flag too.
                let name = argument.split('=').next().unwrap_or(argument);
                format!(
                    "unknown argument {argument}{}",
                    did_you_mean(name, flags).unwrap_or_default()
                )
            }
            None => output.trim_end().to_owned(),
        };
        Error::Usage(format!(
            "{reason}\nUsage: eventserver [--config FILE] [--FLAG VALUE]...\n\
             eventserver --help lists the flags."
        ))
    }

    /// A value that is not allowed at its place.
    pub(super) fn invalid_value(place: &Origin, value: &str, reason: String) -> Error {
        let mut shown: String = value.chars().take(MAX_SHOWN_VALUE).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Error::InvalidValue { place: place.clone(), value: shown, reason }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(reason) | Error::Conflict(reason) => f.write_str(reason),
            Error::Read { file, reason } => write!(f, "cannot read {file}: {reason}"),
            Error::Parse { file, reason } if reason.is_data() => write!(f, "{file}: {reason}"),
            Error::Parse { file, reason } => write!(f, "{file}: not JSON: {reason}"),
            Error::InvalidValue { place: place @ Origin::Key { .. }, value, reason } => {
                write!(f, "{place}: {value}: {reason}")
            }
            Error::InvalidValue { place, value, reason } => write!(f, "{place} {value}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// What to write instead of an unknown `key`: the known one that it resembles, or any of them.
pub(super) fn unknown_key_message(key: &str, known: &[&str]) -> String {
    let known_ones = || format!("; the known ones are {}", known.join(", "));
    format!("unknown key{}", did_you_mean(key, known).unwrap_or_else(known_ones))
}

/// The known name that an unknown one was probably meant to be, as the end of a message.
fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    let distance = |known: &str| levenshtein(&normalized(name), &normalized(known));
    let (edits, nearest) = known.iter().map(|known| (distance(known), known)).min()?;
    (edits <= normalized(name).len() / 3).then(|| format!("; did you mean {nearest}?"))
}

/// A name without what differs between the ways to write it: `gap_timeout_ms`, `gapTimeoutMs`.
fn normalized(name: &str) -> Vec<char> {
    let shown = name.chars().take(MAX_SHOWN_VALUE);
    shown.filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many characters must be put in, taken out or changed to make one name into the other.
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
