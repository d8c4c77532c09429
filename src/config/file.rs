//! The JSON object of a configuration file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON object without duplicate keys. (`serde_json` itself keeps the last value of a key.)
pub(super) struct JsonObject(pub(super) Map<String, Value>);

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
