//! The types of settings: bounds, parsing and printing.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::SyncMode;
use super::number::{self, BYTES, MILLIS, Unit};

/// The word that switches an optional setting off.
pub(super) const NONE: &str = "none";

/// A setting type: parses and prints values of type `T`. Its errors name the allowed values.
pub(super) trait SettingType<T> {
    /// Parses the text of a flag or an environment variable.
    fn read_text(&self, text: &str) -> Result<T, String>;

    /// Parses the value of a key. `current` is the setting so far, because a key may set only a part of it.
    fn read_json(&self, value: &Value, current: &T) -> Result<T, String>;

    /// Prints the value of a key. `None` omits the key.
    fn print_json(&self, setting: &T) -> Option<Value>;

    /// Returns the value as help shows it, for the default.
    fn show(&self, setting: &T) -> String;

    /// Returns the allowed values as help shows them. Empty where the value's name says it.
    fn allowed(&self) -> String {
        self.names().join(", ")
    }

    /// Returns the allowed words, if words are all that is allowed.
    fn names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Returns the text of a JSON number or string.
pub(super) fn number_or_text(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        _ => value.as_str().unwrap_or_default().to_owned(),
    }
}

/// The integer types of settings.
pub(super) trait UnsignedInt:
    Copy + PartialOrd + Display + TryFrom<u64> + Into<Value>
{
}

impl<T: Copy + PartialOrd + Display + TryFrom<u64> + Into<Value>> UnsignedInt for T {}

/// Parses a whole number within `range`.
fn whole_number<T: UnsignedInt>(
    text: &str,
    units: &[Unit],
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    number::parse(text, units)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

/// An integer within bounds.
pub(super) struct Integer<T>(pub(super) RangeInclusive<T>);

impl<T: UnsignedInt> SettingType<T> for Integer<T> {
    fn read_text(&self, text: &str) -> Result<T, String> {
        whole_number(text, &[], &self.0)
    }

    fn read_json(&self, value: &Value, _current: &T) -> Result<T, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &T) -> Option<Value> {
        Some((*setting).into())
    }

    fn show(&self, setting: &T) -> String {
        setting.to_string()
    }

    fn allowed(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// An integer within bounds, or `None` if it is not given. Help shows the text for `None`.
pub(super) struct OptionalInteger<T>(pub(super) RangeInclusive<T>, pub(super) &'static str);

impl<T: UnsignedInt> SettingType<Option<T>> for OptionalInteger<T> {
    fn read_text(&self, text: &str) -> Result<Option<T>, String> {
        match text {
            NONE => Ok(None),
            _ => whole_number(text, &[], &self.0)
                .map(Some)
                .map_err(|allowed| format!("{allowed}, or {NONE}")),
        }
    }

    fn read_json(&self, value: &Value, _current: &Option<T>) -> Result<Option<T>, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &Option<T>) -> Option<Value> {
        setting.map(Into::into)
    }

    fn show(&self, setting: &Option<T>) -> String {
        setting.map_or_else(|| self.1.to_owned(), |number| number.to_string())
    }

    fn allowed(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// A number of bytes within bounds.
pub(super) struct Bytes<T>(pub(super) RangeInclusive<T>);

impl<T: UnsignedInt + TryInto<u64>> SettingType<T> for Bytes<T> {
    fn read_text(&self, text: &str) -> Result<T, String> {
        whole_number(text, BYTES, &self.0)
            .map_err(|allowed| format!("{allowed}, in bytes or with a unit such as 64KiB or 4MiB"))
    }

    fn read_json(&self, value: &Value, _current: &T) -> Result<T, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &T) -> Option<Value> {
        Some((*setting).into())
    }

    fn show(&self, setting: &T) -> String {
        (*setting).try_into().map_or_else(|_| setting.to_string(), number::format_bytes)
    }

    fn allowed(&self) -> String {
        format!("{} to {}", self.show(self.0.start()), self.show(self.0.end()))
    }
}

/// A number of bytes within bounds, or `None` if it is not given. Help shows the text for `None`.
pub(super) struct OptionalBytes(pub(super) RangeInclusive<u64>, pub(super) &'static str);

impl OptionalBytes {
    fn bytes(&self) -> Bytes<u64> {
        Bytes(self.0.clone())
    }
}

impl SettingType<Option<u64>> for OptionalBytes {
    fn read_text(&self, text: &str) -> Result<Option<u64>, String> {
        match text {
            NONE => Ok(None),
            _ => self
                .bytes()
                .read_text(text)
                .map(Some)
                .map_err(|allowed| format!("{allowed}, or {NONE}")),
        }
    }

    fn read_json(&self, value: &Value, _current: &Option<u64>) -> Result<Option<u64>, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &Option<u64>) -> Option<Value> {
        setting.map(Value::from)
    }

    fn show(&self, setting: &Option<u64>) -> String {
        setting.map_or_else(|| self.1.to_owned(), |bytes| self.bytes().show(&bytes))
    }

    fn allowed(&self) -> String {
        self.bytes().allowed()
    }
}

/// A duration in milliseconds within bounds.
pub(super) struct Millis(pub(super) RangeInclusive<u64>);

impl SettingType<Duration> for Millis {
    fn read_text(&self, text: &str) -> Result<Duration, String> {
        whole_number(text, MILLIS, &self.0).map(Duration::from_millis).map_err(|allowed| {
            format!("{allowed}, in milliseconds or with a unit such as 200ms, 5s or 2m")
        })
    }

    fn read_json(&self, value: &Value, _current: &Duration) -> Result<Duration, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &Duration) -> Option<Value> {
        u64::try_from(setting.as_millis()).ok().map(Value::from)
    }

    fn show(&self, setting: &Duration) -> String {
        number::format_millis(setting.as_millis() as u64)
    }

    fn allowed(&self) -> String {
        let [min, max] = [*self.0.start(), *self.0.end()].map(number::format_millis);
        format!("{min} to {max}")
    }
}

/// A duration in milliseconds up to a bound. 0 means never.
pub(super) struct OptionalMillis(pub(super) u64);

impl OptionalMillis {
    fn millis(&self) -> Millis {
        Millis(0..=self.0)
    }
}

impl SettingType<Option<Duration>> for OptionalMillis {
    fn read_text(&self, text: &str) -> Result<Option<Duration>, String> {
        self.millis()
            .read_text(text)
            .map(|time| (!time.is_zero()).then_some(time))
            .map_err(|allowed| format!("{allowed}; 0 means never"))
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<Duration>,
    ) -> Result<Option<Duration>, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &Option<Duration>) -> Option<Value> {
        self.millis().print_json(&setting.unwrap_or_default())
    }

    fn show(&self, setting: &Option<Duration>) -> String {
        setting.map_or_else(|| "0, never".to_owned(), |time| self.millis().show(&time))
    }

    fn allowed(&self) -> String {
        format!("0 to {}", number::format_millis(self.0))
    }
}

/// One of several names, each with its value.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Choice<T> {
    fn named(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }

    fn name(&self, setting: &T) -> Option<&'static str> {
        self.0.iter().find(|(_, value)| value == setting).map(|&(name, _)| name)
    }
}

impl<T: Copy + PartialEq> SettingType<T> for Choice<T> {
    fn read_text(&self, text: &str) -> Result<T, String> {
        self.named(text).ok_or_else(|| format!("must be one of {}", self.names().join(", ")))
    }

    fn read_json(&self, value: &Value, _current: &T) -> Result<T, String> {
        value.as_str().and_then(|text| self.named(text)).ok_or_else(|| {
            let names: Vec<String> = self.names().iter().map(|it| format!("{it:?}")).collect();
            format!("must be one of {}", names.join(", "))
        })
    }

    fn print_json(&self, setting: &T) -> Option<Value> {
        self.name(setting).map(Value::from)
    }

    fn show(&self, setting: &T) -> String {
        self.name(setting).unwrap_or_default().to_owned()
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|&(name, _)| name).collect()
    }
}

/// A boolean that is off by default. The flag alone turns it on.
pub(super) struct Toggle;

impl SettingType<bool> for Toggle {
    fn read_text(&self, text: &str) -> Result<bool, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn read_json(&self, value: &Value, _current: &bool) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| "must be true or false".to_owned())
    }

    fn print_json(&self, setting: &bool) -> Option<Value> {
        Some((*setting).into())
    }

    fn show(&self, setting: &bool) -> String {
        setting.to_string()
    }

    fn names(&self) -> Vec<&'static str> {
        vec!["true", "false"]
    }
}

/// When the journal is forced to disk: `always`, `never`, or a number of milliseconds within bounds.
pub(super) struct Sync(pub(super) RangeInclusive<u64>);

impl SettingType<SyncMode> for Sync {
    fn read_text(&self, text: &str) -> Result<SyncMode, String> {
        match text {
            "always" => Ok(SyncMode::Always),
            "never" => Ok(SyncMode::Never),
            _ => Millis(self.0.clone())
                .read_text(text)
                .map(SyncMode::Every)
                .map_err(|allowed| format!("{allowed}, or always, or never")),
        }
    }

    fn read_json(&self, value: &Value, _current: &SyncMode) -> Result<SyncMode, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &SyncMode) -> Option<Value> {
        match setting {
            SyncMode::Always => Some("always".into()),
            SyncMode::Never => Some("never".into()),
            SyncMode::Every(interval) => Millis(self.0.clone()).print_json(interval),
        }
    }

    fn show(&self, setting: &SyncMode) -> String {
        match setting {
            SyncMode::Always => "always".to_owned(),
            SyncMode::Never => "never".to_owned(),
            SyncMode::Every(interval) => Millis(self.0.clone()).show(interval),
        }
    }

    fn allowed(&self) -> String {
        format!("always, never, or {}", Millis(self.0.clone()).allowed())
    }
}

/// The name of a file, or `None` if it is not given.
pub(super) struct OptionalPath;

impl SettingType<Option<PathBuf>> for OptionalPath {
    fn read_text(&self, text: &str) -> Result<Option<PathBuf>, String> {
        match text {
            "" => Err("must be the name of a file".to_owned()),
            NONE => Ok(None),
            _ => Ok(Some(PathBuf::from(text))),
        }
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<PathBuf>,
    ) -> Result<Option<PathBuf>, String> {
        self.read_text(value.as_str().unwrap_or_default())
    }

    fn print_json(&self, setting: &Option<PathBuf>) -> Option<Value> {
        setting.as_ref().map(|path| path.to_string_lossy().into())
    }

    fn show(&self, setting: &Option<PathBuf>) -> String {
        setting.as_ref().map_or_else(|| NONE.to_owned(), |path| path.display().to_string())
    }
}
