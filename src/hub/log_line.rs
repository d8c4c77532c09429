//! Log lines whose text and fields are made from the same values.

use std::fmt;
use std::net::SocketAddr;

use log::kv::Value;
use log::{Level, Record};

use crate::hub::close_reason::CloseReason;
use crate::protocol::{Sequence, UserId};

/// The text of a log line, and its fields for programs. Made by [`log_line!`].
#[derive(Clone, Copy)]
pub(crate) struct LogLine<'a> {
    pub(crate) text: fmt::Arguments<'a>,
    pub(crate) fields: &'a [(&'a str, Value<'a>)],
}

impl LogLine<'_> {
    /// Logs the line.
    pub(crate) fn log(self, level: Level) {
        let metadata = log::Metadata::builder().level(level).target(module_path!()).build();
        let logger = log::logger();
        if level <= log::max_level() && logger.enabled(&metadata) {
            logger.log(
                &Record::builder()
                    .metadata(metadata)
                    .args(self.text)
                    .key_values(&self.fields)
                    .build(),
            );
        }
    }
}

/// Creates a [`LogLine`] from a text and its fields: `log_line!("user {user} left"; user = id)`. The text
/// shows every field, and may capture other variables. The fields are `user`, `peer`, `reason`, `sequence`
/// and `bytes`, so that programs can rely on them.
macro_rules! log_line {
    ($text:literal $(; $($field:ident = $value:expr),+)?) => {
        $crate::hub::log_line::LogLine {
            text: format_args!($text $($(, $field = $value)+)?),
            fields: &[$($((
                stringify!($field),
                $crate::hub::log_line::Field::value(&$value),
            )),+)?],
        }
    };
}

pub(crate) use log_line;

/// A value that may be a field.
pub(crate) trait Field {
    /// Returns the value: a number if it is one.
    fn value(&self) -> Value<'_>;
}

impl Field for u64 {
    fn value(&self) -> Value<'_> {
        Value::from(*self)
    }
}

impl Field for Sequence {
    fn value(&self) -> Value<'_> {
        Value::from(self.get())
    }
}

impl Field for UserId {
    fn value(&self) -> Value<'_> {
        Value::from(self.0)
    }
}

impl Field for SocketAddr {
    fn value(&self) -> Value<'_> {
        Value::from_display(self)
    }
}

impl Field for CloseReason {
    fn value(&self) -> Value<'_> {
        Value::from(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn text_and_fields_show_the_same_values() {
        let (user, peer) = (UserId(7), SocketAddr::from((Ipv4Addr::LOCALHOST, 5)));
        let other = "slowly";
        let check = |line: LogLine<'_>| {
            assert_eq!(
                line.text.to_string(),
                "user 7 at 127.0.0.1:5 left slowly: stalled, 9 bytes"
            );
            let fields: Vec<String> =
                line.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(fields, ["user=7", "peer=127.0.0.1:5", "reason=stalled", "bytes=9"]);
            assert_eq!(line.fields[3].1.to_u64(), Some(9));
        };
        check(log_line!(
            "user {user} at {peer} left {other}: {reason}, {bytes} bytes";
            user = user, peer = peer, reason = CloseReason::Stalled, bytes = 9_u64
        ));
    }
}
