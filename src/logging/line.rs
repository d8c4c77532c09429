//! The form of a log line.

use std::fmt;
use std::io::Write;

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What reads the log, apart from the lines' form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A file, a pipe or a collector.
    Any,
    /// A terminal that shows colours.
    Terminal,
    /// The journal of systemd. It has times of its own, and takes the priority from a prefix.
    Journal,
}

/// Returns a line in text, terminator included, such as `2026-01-31T12:00:00.123Z [INFO] 3 clients`, with
/// the time in UTC. The message shows the fields that it names.
pub(super) fn text(reader: Reader, record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    let level = record.level();
    // Writing to memory cannot fail.
    let _ = match reader {
        Reader::Journal => write!(line, "<{}>", priority(level)),
        Reader::Terminal => write!(line, "{Now} [\x1b[{}m{level}\x1b[0m] ", colour(level)),
        Reader::Any => write!(line, "{Now} [{level}] "),
    };
    let _ = writeln!(line, "{}", record.args());
    line
}

/// Returns a line with a JSON object, terminator included: `time`, `level`, `message`, and the record's
/// fields.
pub(super) fn json(reader: Reader, record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    if reader == Reader::Journal {
        let _ = write!(line, "<{}>", priority(record.level()));
    }
    let level = record.level().as_str().to_ascii_lowercase();
    let _ = write!(line, r#"{{"time":"{Now}","level":"{level}","message":"#);
    write_string(&mut line, &record.args().to_string());
    // The visitor returns no error.
    let _ = record.key_values().visit(&mut Fields(&mut line));
    line.extend_from_slice(b"}\n");
    line
}

/// Displays the time of now.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&OffsetDateTime::now_utc().format(TIME).map_err(|_| fmt::Error)?)
    }
}

/// Returns the priority of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the colour of a terminal: red, yellow, green, blue, grey.
fn colour(level: Level) -> u8 {
    match level {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 32,
        Level::Debug => 34,
        Level::Trace => 90,
    }
}

fn write_string(line: &mut Vec<u8>, text: &str) {
    // A string has a JSON form, and writing to memory cannot fail.
    let _ = serde_json::to_writer(line, text);
}

/// Appends fields to an object that is not empty.
struct Fields<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push(b',');
        write_string(self.0, key.as_str());
        self.0.push(b':');
        value.visit(FieldValue(self.0))
    }
}

/// Appends the value of a field: numbers and booleans as such, anything else as a string.
struct FieldValue<'a>(&'a mut Vec<u8>);

impl<'v> VisitValue<'v> for FieldValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        write_string(self.0, &value.to_string());
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        let _ = write!(self.0, "{value}");
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        let _ = write!(self.0, "{value}");
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        let _ = write!(self.0, "{value}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats a record with `message` and fields.
    fn with_record(
        level: Level,
        message: &str,
        fields: &[(&str, Value<'_>)],
        format: impl Fn(&Record<'_>) -> Vec<u8>,
    ) -> String {
        let message = format_args!("{message}");
        let record = Record::builder().level(level).args(message).key_values(&fields).build();
        let line = format(&record);
        let line = String::from_utf8(line).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }

    /// Replaces the digits of a time at the beginning of `line`.
    fn without_time(line: &str) -> String {
        let (time, rest) = line.split_at(24);
        format!("{}{rest}", time.replace(|c: char| c.is_ascii_digit(), "0"))
    }

    #[test]
    fn text_has_time_and_level_where_the_reader_adds_none() {
        let line = |level, reader| with_record(level, "3 clients", &[], |it| text(reader, it));
        assert_eq!(
            without_time(&line(Level::Info, Reader::Any)),
            "0000-00-00T00:00:00.000Z [INFO] 3 clients"
        );
        assert_eq!(
            without_time(&line(Level::Warn, Reader::Terminal)),
            "0000-00-00T00:00:00.000Z [\x1b[33mWARN\x1b[0m] 3 clients"
        );
        assert_eq!(line(Level::Error, Reader::Journal), "<3>3 clients");
        assert_eq!(line(Level::Trace, Reader::Journal), "<7>3 clients");
    }

    #[test]
    fn json_is_one_object_with_the_fields() {
        let fields = [
            ("user", Value::from(u64::MAX)),
            ("peer", Value::from_display(&"[::1]:5")),
            ("offset", Value::from(-5)),
            ("first", Value::from(true)),
        ];
        for (reader, prefix) in
            [(Reader::Any, ""), (Reader::Terminal, ""), (Reader::Journal, "<4>")]
        {
            let line = with_record(Level::Warn, "a \"b\"\n\x1b", &fields, |it| json(reader, it));
            let object = line.strip_prefix(prefix).unwrap();
            let time = &object[9..33];
            assert_eq!(without_time(time), "0000-00-00T00:00:00.000Z");
            assert_eq!(
                object.replace(time, "T"),
                r#"{"time":"T","level":"warn","message":"a \"b\"\n\u001b","user":18446744073709551615,"peer":"[::1]:5","offset":-5,"first":true}"#
            );
        }
    }
}
