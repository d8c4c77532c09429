//! The address of the shared stream.

use std::fmt;

use serde_json::Value;

use super::value::{NONE, SettingType};

/// The schemes of engines that are reached over a network or a Unix socket.
const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];

/// The parameter of the URL that names the stream.
const STREAM_PARAMETER: &str = "stream=";

const ALLOWED: &str = "must be redis://HOST:PORT/DB?stream=NAME, rediss://HOST:PORT/DB?stream=NAME or \
                       unix://PATH?db=DB&stream=NAME";

/// The URL of an engine and the name of the stream in it. Its texts never contain the password.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl {
    engine: String,
    stream: String,
}

impl StreamUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// The scheme is not known, or the URL does not name a stream. The text says what is allowed.
    pub fn parse(text: &str) -> Result<StreamUrl, String> {
        let scheme = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme));
        let Some(rest) = scheme.and_then(|scheme| text.strip_prefix(scheme)) else {
            return Err(ALLOWED.to_owned());
        };
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (named, others): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|parameter| parameter.starts_with(STREAM_PARAMETER));
        let name = match named[..] {
            [name] => &name[STREAM_PARAMETER.len()..],
            _ => return Err(ALLOWED.to_owned()),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ":._-{}".contains(c);
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err("must name the stream with letters, digits and : . _ - { }".to_owned());
        }
        if rest.starts_with(['/', '?']) && scheme != Some("unix://") {
            return Err(ALLOWED.to_owned());
        }
        let others = others.join("&");
        let engine = match others.is_empty() {
            true => address.to_owned(),
            false => format!("{address}?{others}"),
        };
        Ok(StreamUrl { engine, stream: name.to_owned() })
    }

    /// Returns the URL of the engine, with its password. It must not be shown.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Returns the name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.engine.starts_with("rediss://")
    }

    /// Returns the password, if the URL contains one.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        let (_, rest) = self.engine.split_once("://")?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let in_query = || query.split('&').find_map(|parameter| parameter.strip_prefix("pass="));
        let user_info = address.rsplit_once('@').map(|(user_info, _)| user_info);
        let in_address = user_info.and_then(|user_info| Some(user_info.split_once(':')?.1));
        in_address.or_else(in_query).filter(|password| !password.is_empty())
    }

    /// Replaces the password in a text.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.password().map_or_else(|| text.to_owned(), |password| text.replace(password, "***"))
    }
}

/// Shows the URL without the password.
impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.engine.contains('?') { '&' } else { '?' };
        let StreamUrl { engine, stream } = self;
        let Some(password) = self.password() else {
            return write!(f, "{engine}{separator}{STREAM_PARAMETER}{stream}");
        };
        // Where it is, and not where the same letters are.
        let at = password.as_ptr() as usize - engine.as_ptr() as usize;
        let (before, after) = (&engine[..at], &engine[at + password.len()..]);
        write!(f, "{before}***{after}{separator}{STREAM_PARAMETER}{stream}")
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The address of a stream, or `None` if it is not given.
pub(super) struct OptionalStream;

impl SettingType<Option<StreamUrl>> for OptionalStream {
    fn read_text(&self, text: &str) -> Result<Option<StreamUrl>, String> {
        match text {
            NONE => Ok(None),
            _ => StreamUrl::parse(text).map(Some),
        }
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<StreamUrl>,
    ) -> Result<Option<StreamUrl>, String> {
        self.read_text(value.as_str().unwrap_or_default())
    }

    fn print_json(&self, setting: &Option<StreamUrl>) -> Option<Value> {
        setting.as_ref().map(|url| url.to_string().into())
    }

    fn show(&self, setting: &Option<StreamUrl>) -> String {
        setting.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_taken_out_of_the_url_and_the_password_is_never_shown() {
        for (text, engine, shown) in [
            ("redis://h:6379/0?stream=e", "redis://h:6379/0", "redis://h:6379/0?stream=e"),
            ("rediss://h/2?stream=a:b", "rediss://h/2", "rediss://h/2?stream=a:b"),
            (
                "redis://user:redis@h:1/0?protocol=resp3&stream=e",
                "redis://user:redis@h:1/0?protocol=resp3",
                "redis://user:***@h:1/0?protocol=resp3&stream=e",
            ),
            ("redis://:p@ss@h/0?stream=e", "redis://:p@ss@h/0", "redis://:***@h/0?stream=e"),
            (
                "unix:///run/r.sock?stream=e&db=1&pass=secret",
                "unix:///run/r.sock?db=1&pass=secret",
                "unix:///run/r.sock?db=1&pass=***&stream=e",
            ),
        ] {
            let url = StreamUrl::parse(text).unwrap();
            assert_eq!((url.engine(), &*url.to_string()), (engine, shown));
            assert_eq!(format!("{url:?}"), shown);
        }
        let url = StreamUrl::parse("redis://u:hidden@h/0?stream=e").unwrap();
        assert_eq!(url.redact("AUTH hidden failed"), "AUTH *** failed");
    }

    #[test]
    fn what_is_not_a_stream_is_refused() {
        for text in [
            "",
            "redis",
            "http://h/0?stream=e",
            "redis://h:6379/0",
            "redis:///0?stream=e",
            "redis://h/0?stream=",
            "redis://h/0?stream=a&stream=b",
            "redis://h/0?stream=a b",
        ] {
            assert!(StreamUrl::parse(text).is_err(), "{text}");
        }
    }
}
