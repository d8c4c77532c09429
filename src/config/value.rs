//! The types of settings: bounds, parsing and printing.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// A setting type: parses and prints values of type `T`. Its errors name the allowed values.
pub(super) trait SettingType<T> {
    /// Parses the value of a flag.
    fn read_flag(&self, text: &str) -> Result<T, String>;

    /// Parses the value of a key. `current` is the setting so far, because a key may set only a part of it.
    fn read_json(&self, value: &Value, current: &T) -> Result<T, String>;

    /// Prints the value of a key. `None` omits the key.
    fn print_json(&self, setting: &T) -> Option<Value>;
}

/// An integer within bounds.
pub(super) struct Integer<T>(pub(super) RangeInclusive<T>);

/// The integer types of settings.
pub(super) trait UnsignedInt:
    Copy + PartialOrd + Display + TryFrom<u64> + Into<Value>
{
}

impl<T: Copy + PartialOrd + Display + TryFrom<u64> + Into<Value>> UnsignedInt for T {}

impl<T: UnsignedInt> Integer<T> {
    fn check(&self, number: Option<u64>) -> Result<T, String> {
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| self.0.contains(number))
            .ok_or_else(|| {
                format!("must be a whole number from {} to {}", self.0.start(), self.0.end())
            })
    }
}

impl<T: UnsignedInt> SettingType<T> for Integer<T> {
    fn read_flag(&self, text: &str) -> Result<T, String> {
        self.check(text.parse().ok())
    }

    fn read_json(&self, value: &Value, _current: &T) -> Result<T, String> {
        self.check(value.as_u64())
    }

    fn print_json(&self, setting: &T) -> Option<Value> {
        Some((*setting).into())
    }
}

/// An integer within bounds, or `None` if it is not given.
pub(super) struct OptionalInteger<T>(pub(super) RangeInclusive<T>);

impl<T: UnsignedInt> SettingType<Option<T>> for OptionalInteger<T> {
    fn read_flag(&self, text: &str) -> Result<Option<T>, String> {
        Integer(self.0.clone()).check(text.parse().ok()).map(Some)
    }

    fn read_json(&self, value: &Value, _current: &Option<T>) -> Result<Option<T>, String> {
        Integer(self.0.clone()).check(value.as_u64()).map(Some)
    }

    fn print_json(&self, setting: &Option<T>) -> Option<Value> {
        setting.map(Into::into)
    }
}

/// A duration in milliseconds within bounds.
pub(super) struct Millis(pub(super) RangeInclusive<u64>);

impl Millis {
    fn check(&self, number: Option<u64>) -> Result<Duration, String> {
        Integer(self.0.clone())
            .check(number)
            .map(Duration::from_millis)
            .map_err(|allowed| format!("{allowed}, in milliseconds"))
    }
}

impl SettingType<Duration> for Millis {
    fn read_flag(&self, text: &str) -> Result<Duration, String> {
        self.check(text.parse().ok())
    }

    fn read_json(&self, value: &Value, _current: &Duration) -> Result<Duration, String> {
        self.check(value.as_u64())
    }

    fn print_json(&self, setting: &Duration) -> Option<Value> {
        u64::try_from(setting.as_millis()).ok().map(Value::from)
    }
}

/// A duration in milliseconds up to a bound. 0 means never.
pub(super) struct OptionalMillis(pub(super) u64);

impl OptionalMillis {
    fn check(&self, number: Option<u64>) -> Result<Option<Duration>, String> {
        Millis(0..=self.0)
            .check(number)
            .map(|time| (!time.is_zero()).then_some(time))
            .map_err(|allowed| format!("{allowed}; 0 means never"))
    }
}

impl SettingType<Option<Duration>> for OptionalMillis {
    fn read_flag(&self, text: &str) -> Result<Option<Duration>, String> {
        self.check(text.parse().ok())
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<Duration>,
    ) -> Result<Option<Duration>, String> {
        self.check(value.as_u64())
    }

    fn print_json(&self, setting: &Option<Duration>) -> Option<Value> {
        Millis(0..=self.0).print_json(&setting.unwrap_or_default())
    }
}

/// One of several names, each with its value.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Choice<T> {
    fn named(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

impl<T: Copy + PartialEq> SettingType<T> for Choice<T> {
    fn read_flag(&self, text: &str) -> Result<T, String> {
        self.named(text).ok_or_else(|| format!("must be one of {}", self.names().join(", ")))
    }

    fn read_json(&self, value: &Value, _current: &T) -> Result<T, String> {
        value.as_str().and_then(|text| self.named(text)).ok_or_else(|| {
            let names: Vec<String> = self.names().iter().map(|it| format!("{it:?}")).collect();
            format!("must be one of {}", names.join(", "))
        })
    }

    fn print_json(&self, setting: &T) -> Option<Value> {
        self.0.iter().find(|(_, value)| value == setting).map(|(name, _)| (*name).into())
    }
}

/// A boolean that is off by default. The flag turns it on.
pub(super) struct Toggle;

impl SettingType<bool> for Toggle {
    fn read_flag(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }

    fn read_json(&self, value: &Value, _current: &bool) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| "must be true or false".to_owned())
    }

    fn print_json(&self, setting: &bool) -> Option<Value> {
        Some((*setting).into())
    }
}

/// The name of a file, or `None` if it is not given.
pub(super) struct OptionalPath;

impl OptionalPath {
    fn check(text: Option<&str>) -> Result<Option<PathBuf>, String> {
        text.filter(|text| !text.is_empty())
            .map(|text| Some(PathBuf::from(text)))
            .ok_or_else(|| "must be the name of a file".to_owned())
    }
}

impl SettingType<Option<PathBuf>> for OptionalPath {
    fn read_flag(&self, text: &str) -> Result<Option<PathBuf>, String> {
        OptionalPath::check(Some(text))
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<PathBuf>,
    ) -> Result<Option<PathBuf>, String> {
        OptionalPath::check(value.as_str())
    }

    fn print_json(&self, setting: &Option<PathBuf>) -> Option<Value> {
        setting.as_ref().map(|path| path.to_string_lossy().into())
    }
}

/// The form of a listener's address.
const LISTEN_FORM: &str = "[ADDRESS:]PORT with an IP address and a port from 0 to 65535, such as 9090, \
                           0.0.0.0:9090 or [::]:9090";

/// Parses the address of a listener. A port alone listens on 127.0.0.1.
fn parse_listen(text: &str) -> Option<SocketAddr> {
    let bare_port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    bare_port.ok().or_else(|| text.parse().ok())
}

/// The address of a listener that may be absent.
pub(super) struct OptionalListen;

impl SettingType<Option<SocketAddr>> for OptionalListen {
    fn read_flag(&self, text: &str) -> Result<Option<SocketAddr>, String> {
        match text {
            "none" => Ok(None),
            _ => match parse_listen(text) {
                Some(address) => Ok(Some(address)),
                None => Err(format!("must be none or {LISTEN_FORM}")),
            },
        }
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, String> {
        match value {
            Value::Number(port) => self.read_flag(&port.to_string()),
            _ => self.read_flag(value.as_str().unwrap_or_default()),
        }
    }

    fn print_json(&self, setting: &Option<SocketAddr>) -> Option<Value> {
        setting.map(|address| address.to_string().into())
    }
}

/// The address of a listener. The flag sets address and port, the key only the port.
pub(super) struct ListenPort;

impl SettingType<SocketAddr> for ListenPort {
    fn read_flag(&self, text: &str) -> Result<SocketAddr, String> {
        parse_listen(text).ok_or_else(|| format!("must be {LISTEN_FORM}"))
    }

    fn read_json(&self, value: &Value, current: &SocketAddr) -> Result<SocketAddr, String> {
        let port = Integer(0..=u16::MAX).check(value.as_u64())?;
        let mut address = *current;
        address.set_port(port);
        Ok(address)
    }

    fn print_json(&self, setting: &SocketAddr) -> Option<Value> {
        Some(setting.port().into())
    }
}

/// The IP address of a listener, without its port.
pub(super) struct ListenAddress;

impl SettingType<SocketAddr> for ListenAddress {
    fn read_flag(&self, text: &str) -> Result<SocketAddr, String> {
        // Only socket addresses parse brackets and a zone, as in `fe80::1%2`.
        [format!("{text}:0"), format!("[{text}]:0")]
            .iter()
            .find_map(|address| address.parse().ok())
            .ok_or_else(|| {
                "must be an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::\"".to_owned()
            })
    }

    fn read_json(&self, value: &Value, current: &SocketAddr) -> Result<SocketAddr, String> {
        let mut address = self.read_flag(value.as_str().unwrap_or_default())?;
        address.set_port(current.port());
        Ok(address)
    }

    fn print_json(&self, setting: &SocketAddr) -> Option<Value> {
        let zone = match setting {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("%{}", address.scope_id())
            }
            _ => String::new(),
        };
        let address: IpAddr = setting.ip();
        Some(format!("{address}{zone}").into())
    }
}
