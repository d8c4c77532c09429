//! Parses a configuration file, a JSON object of settings, and rejects duplicate keys.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::Error;

/// The maximum size of a file. A complete one has less than a kilobyte.
const MAX_BYTES: u64 = 1 << 20;

/// The mark with which some editors begin a file in UTF-8. JSON has no meaning for it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the text of a file.
pub(super) fn read(file: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .and_then(|length| match length as u64 > MAX_BYTES {
            true => Err(io::Error::other("it has more than 1 MiB, so it is no configuration file")),
            false => Ok(()),
        })
        .map_err(|reason| Error::Read { file: file.to_owned(), reason })?;
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    String::from_utf8(bytes).map_err(|error| Error::Encoding {
        file: file.to_owned(),
        reason: match is_utf16 {
            true => "it begins like a file in UTF-16; save it as UTF-8".to_owned(),
            false => format!("invalid byte at offset {}", error.utf8_error().valid_up_to()),
        },
    })
}

/// Parses the text of a file. Ignores a byte order mark.
pub(super) fn parse(file: &str, text: &str) -> Result<Map<String, Value>, Error> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Error::Empty { file: file.to_owned() });
    }
    let object: JsonObject = serde_json::from_str(text)
        .map_err(|reason| Error::Parse { file: file.to_owned(), reason })?;
    Ok(object.0)
}

/// A JSON object without duplicate keys. (`serde_json` itself keeps the last value of a key.)
struct JsonObject(Map<String, Value>);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonObject, D::Error> {
        deserializer.deserialize_map(UniqueKeys)
    }
}

/// The visitor that rejects duplicate keys.
struct UniqueKeys;

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = JsonObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonObject, A::Error> {
        let mut object = Map::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if let Some(first) = object.get(&key) {
                return Err(A::Error::custom(format_args!(
                    "{key:?} appears twice, first as {first}, then as {value},"
                )));
            }
            object.insert(key, value);
        }
        Ok(JsonObject(object))
    }
}
