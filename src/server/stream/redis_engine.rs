//! Redis and Valkey as the engine of the stream.
//!
//! The entry at the position N has the ID `N-1`, and one field `b`. Snapshots are beside the stream, under keys
//! with its hash tag.

use std::time::Duration;

use redis::{Client, Cmd, Connection, ErrorKind, RedisError, RedisResult, Value, cmd, pipe};

use crate::cluster::{
    Appended, EngineError, Found, Position, SnapshotPointer, StreamEngine, StreamInfo,
};
use crate::config::StreamUrl;

/// The timeout for connecting, with authentication.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout for the answer to a command, in addition to the time for which it waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of bytes that one read should return.
const READ_BYTES: usize = 4 << 20;

/// The bounds on the number of entries that one read returns. An entry has at most 0.5 MiB.
const MIN_READ_ENTRIES: usize = 8;
const MAX_READ_ENTRIES: usize = 4096;

/// How long chunks are kept whose snapshot is not published, or not the newest any more.
const CHUNK_TTL_MS: u64 = 600_000;

/// The field of an entry.
const FIELD: &str = "b";

/// A stream in Redis or Valkey, over one connection that is opened when it is needed.
pub(super) struct RedisEngine {
    client: Client,
    url: StreamUrl,
    connection: Option<Connection>,
    read_entries: usize,
}

impl std::fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisEngine").field("url", &self.url).finish_non_exhaustive()
    }
}

impl RedisEngine {
    /// Creates an engine at a URL, and connects at the first call.
    ///
    /// # Errors
    ///
    /// The URL is not one of Redis.
    pub(super) fn new(url: &StreamUrl) -> Result<RedisEngine, EngineError> {
        let client = Client::open(url.engine()).map_err(|error| describe(url, &error))?;
        let read_entries = MIN_READ_ENTRIES;
        Ok(RedisEngine { client, url: url.clone(), connection: None, read_entries })
    }

    /// Runs a command that waits up to `wait`. Drops the connection after an error.
    fn query(&mut self, command: &Cmd, wait: Duration) -> RedisResult<Value> {
        self.on_connection(wait, |connection| command.query(connection))
    }

    /// Makes a call that waits up to `wait`. Drops the connection after an error.
    fn on_connection<T>(
        &mut self,
        wait: Duration,
        call: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.client.get_connection_with_timeout(CONNECT_TIMEOUT)?,
        };
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT + wait))?;
        let answer = call(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn call(&mut self, command: &Cmd) -> Result<Value, EngineError> {
        self.query(command, Duration::ZERO).map_err(|error| describe(&self.url, &error))
    }

    /// Returns the key of something beside the stream, which a cluster keeps on the same node.
    fn key_beside(&self, name: &str) -> String {
        let stream = self.url.stream();
        match stream.contains('{') {
            true => format!("{stream}:{name}"),
            false => format!("{{{stream}}}:{name}"),
        }
    }

    fn chunks_key(&self, id: u64) -> String {
        self.key_beside(&format!("snapshot:{id:016x}"))
    }

    /// Returns a fingerprint of the process and its replication history.
    fn epoch(&mut self) -> Result<u64, EngineError> {
        let mut text = String::new();
        for section in ["server", "replication"] {
            match self.call(cmd("INFO").arg(section))? {
                Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Value::VerbatimString { text: part, .. } => text.push_str(&part),
                other => return Err(unexpected("INFO", &other)),
            }
        }
        let is_identity =
            |line: &&str| line.starts_with("run_id:") || line.starts_with("master_replid:");
        let identity: Vec<&str> = text.lines().filter(is_identity).collect();
        let identity = identity.join("\n");
        let low = crc32fast::hash(identity.as_bytes());
        Ok(u64::from(low) << 32 | u64::from(crc32fast::hash(&low.to_le_bytes())))
    }

    fn append_with(
        &mut self,
        option: Option<&str>,
        position: Position,
        entry: &[u8],
    ) -> Result<Appended, EngineError> {
        let mut command = cmd("XADD");
        command.arg(self.url.stream()).arg(option).arg(id_of(position)).arg(FIELD).arg(entry);
        match self.query(&command, Duration::ZERO) {
            Ok(Value::Nil) => Ok(Appended::Missing),
            Ok(_) => Ok(Appended::Accepted),
            // The answer is complete, so the connection could go on; a new one costs little.
            Err(error) if is_covered(&error) => Ok(Appended::Covered),
            Err(error) => Err(describe(&self.url, &error)),
        }
    }
}

impl StreamEngine for RedisEngine {
    fn info(&mut self) -> Result<Option<StreamInfo>, EngineError> {
        let epoch = self.epoch()?;
        let mut command = cmd("XINFO");
        command.arg("STREAM").arg(self.url.stream());
        let pairs = match self.query(&command, Duration::ZERO) {
            Ok(value) => pairs_of(value),
            Err(error) if error.detail().is_some_and(|detail| detail.contains("no such key")) => {
                return Ok(None);
            }
            Err(error) => return Err(describe(&self.url, &error)),
        };
        let settled = text_of(&self.call(cmd("GET").arg(self.key_beside("epoch")))?);
        let is_settled = settled == settled_text(epoch, true);
        let mut info = StreamInfo { end: Position(0), oldest: None, epoch, is_settled };
        for (name, value) in pairs {
            match text_of(&name).as_str() {
                "last-generated-id" => info.end = position_of(&text_of(&value))?,
                "first-entry" => {
                    if let Value::Array(parts) = value
                        && let Some(id) = parts.first()
                    {
                        info.oldest = Some(position_of(&text_of(id))?);
                    }
                }
                _ => {}
            }
        }
        Ok(Some(info))
    }

    fn entry_at(&mut self, position: Position) -> Result<Option<Vec<u8>>, EngineError> {
        let id = id_of(position);
        let found = self.call(cmd("XRANGE").arg(self.url.stream()).arg(&id).arg(&id))?;
        Ok(entries_of(found)?.pop().map(|(_, bytes)| bytes))
    }

    fn append(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError> {
        self.append_with(Some("NOMKSTREAM"), position, entry)
    }

    fn create(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError> {
        self.append_with(None, position, entry)
    }

    fn read(&mut self, after: Option<Position>, wait: Duration) -> Result<Found, EngineError> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(self.read_entries);
        if !wait.is_zero() {
            command.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        let after = after.map_or_else(|| "0-0".to_owned(), id_of);
        command.arg("STREAMS").arg(self.url.stream()).arg(after);
        // The newest snapshot comes in the same round trip.
        let key = self.key_beside("snapshot");
        let mut commands = pipe();
        commands.add_command(command).cmd("GET").arg(&key).ignore_errors();
        let answers = self.on_connection(wait, |connection| {
            let answers: Vec<RedisResult<Value>> = commands.query(connection)?;
            answers.into_iter().collect::<RedisResult<Vec<Value>>>()
        });
        let answers = answers.map_err(|error| describe(&self.url, &error))?;
        let Ok([read, pointer]) = <[Value; 2]>::try_from(answers) else {
            return Err(EngineError::passing("the engine did not answer each command"));
        };
        let snapshot = pointer_of(&key, &pointer)?.map(|pointer| pointer.position);
        // The entries of one stream, with its name: [[name, entries]], or {name: entries}.
        let entries = match read {
            Value::Nil => None,
            Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
            Value::Array(streams) => match streams.into_iter().next() {
                Some(Value::Array(mut stream)) => stream.pop(),
                _ => None,
            },
            other => return Err(unexpected("XREAD", &other)),
        };
        let entries = entries_of(entries.unwrap_or(Value::Nil))?;
        let bytes: usize = entries.iter().map(|(_, bytes)| bytes.len()).sum();
        if let Some(average) = bytes.checked_div(entries.len()) {
            let fitting = READ_BYTES / average.max(1);
            self.read_entries = fitting.clamp(MIN_READ_ENTRIES, MAX_READ_ENTRIES);
        }
        Ok(Found { entries, snapshot })
    }

    fn settle(&mut self, epoch: u64, is_complete: bool) -> Result<(), EngineError> {
        let (key, text) = (self.key_beside("epoch"), settled_text(epoch, is_complete));
        self.call(cmd("SET").arg(key).arg(text)).map(drop)
    }

    fn trim(&mut self, before: Position) -> Result<(), EngineError> {
        let mut command = cmd("XTRIM");
        command.arg(self.url.stream()).arg("MINID").arg(id_of(before));
        self.call(&command).map(drop)
    }

    fn lock_snapshots(&mut self, owner: u64, ttl: Duration) -> Result<bool, EngineError> {
        let (key, owner) = (self.key_beside("snapshot-lock"), format!("{owner:016x}"));
        let ttl = ttl.as_millis() as u64;
        match self.call(cmd("SET").arg(&key).arg(&owner).arg("NX").arg("PX").arg(ttl))? {
            Value::Nil => {}
            _ => return Ok(true),
        }
        if text_of(&self.call(cmd("GET").arg(&key))?) != owner {
            return Ok(false);
        }
        self.call(cmd("PEXPIRE").arg(&key).arg(ttl)).map(|_| true)
    }

    fn unlock_snapshots(&mut self, owner: u64) -> Result<(), EngineError> {
        let key = self.key_beside("snapshot-lock");
        match text_of(&self.call(cmd("GET").arg(&key))?) == format!("{owner:016x}") {
            true => self.call(cmd("DEL").arg(&key)).map(drop),
            false => Ok(()),
        }
    }

    fn put_chunk(&mut self, id: u64, index: u32, bytes: &[u8]) -> Result<(), EngineError> {
        let key = self.chunks_key(id);
        self.call(cmd("HSET").arg(&key).arg(index).arg(bytes))?;
        self.call(cmd("PEXPIRE").arg(&key).arg(CHUNK_TTL_MS)).map(drop)
    }

    fn chunk(&mut self, id: u64, index: u32) -> Result<Option<Vec<u8>>, EngineError> {
        match self.call(cmd("HGET").arg(self.chunks_key(id)).arg(index))? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    fn publish(&mut self, pointer: &SnapshotPointer) -> Result<(), EngineError> {
        let key = self.key_beside("snapshot");
        let old = self.newest_snapshot()?;
        let chunks = self.chunks_key(pointer.id);
        if text_of(&self.call(cmd("PERSIST").arg(&chunks))?) != "1" {
            return Err(EngineError::passing("the chunks of the snapshot are gone"));
        }
        let SnapshotPointer { position, id, chunks, chain, fingerprint, stream } = pointer;
        let text = format!(
            "2 {position} {id:016x} {chunks} {chain:016x} {fingerprint:016x} {stream:016x}"
        );
        self.call(cmd("SET").arg(&key).arg(text))?;
        if let Some(old) = old.filter(|old| old.id != *id) {
            self.call(cmd("PEXPIRE").arg(self.chunks_key(old.id)).arg(CHUNK_TTL_MS))?;
        }
        Ok(())
    }

    fn newest_snapshot(&mut self) -> Result<Option<SnapshotPointer>, EngineError> {
        let key = self.key_beside("snapshot");
        let pointer = self.call(cmd("GET").arg(&key))?;
        pointer_of(&key, &pointer)
    }
}

/// Returns what is stored about an epoch in which servers wait, or have waited.
fn settled_text(epoch: u64, is_complete: bool) -> String {
    format!("{epoch:016x} {}", u8::from(is_complete))
}

/// Returns the pointer that a key holds, if there is one.
fn pointer_of(key: &str, value: &Value) -> Result<Option<SnapshotPointer>, EngineError> {
    if *value == Value::Nil {
        return Ok(None);
    }
    let text = text_of(value);
    let pointer = parse_pointer(&text);
    pointer.map(Some).ok_or_else(|| EngineError::lasting(format!("{key} holds {text:.100}")))
}

fn parse_pointer(text: &str) -> Option<SnapshotPointer> {
    let words: Vec<&str> = text.split(' ').collect();
    let (&[position, id, chunks, chain, fingerprint], stream) = match words[..] {
        // Version 1 does not tell the stream.
        ["1", ref words @ ..] => (words.first_chunk().filter(|_| words.len() == 5)?, "0"),
        ["2", ref words @ .., stream] => {
            (words.first_chunk().filter(|_| words.len() == 5)?, stream)
        }
        _ => return None,
    };
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    Some(SnapshotPointer {
        position: Position(position.parse().ok()?),
        id: hex(id)?,
        chunks: chunks.parse().ok()?,
        chain: hex(chain)?,
        fingerprint: hex(fingerprint)?,
        stream: hex(stream)?,
    })
}

/// Returns the ID of the entry at a position. The second part is not 0, because Redis has no ID `0-0`.
fn id_of(position: Position) -> String {
    format!("{position}-1")
}

fn position_of(id: &str) -> Result<Position, EngineError> {
    let position = id.split('-').next().and_then(|number| number.parse().ok()).map(Position);
    position.ok_or_else(|| {
        EngineError::lasting(format!("the engine answered {id:.50} instead of an ID"))
    })
}

/// Returns whether XADD was refused because the stream has reached the ID.
fn is_covered(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("equal or smaller"))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Returns names and values of an answer in either version of the protocol.
fn pairs_of(value: Value) -> Vec<(Value, Value)> {
    match value {
        Value::Map(pairs) => pairs,
        Value::Array(values) => {
            let mut values = values.into_iter();
            std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the entries of an answer: `[[id, [field, bytes]], …]`.
fn entries_of(value: Value) -> Result<Vec<(Position, Vec<u8>)>, EngineError> {
    let Value::Array(entries) = value else { return Ok(Vec::new()) };
    entries.into_iter().map(entry_of).collect()
}

fn entry_of(value: Value) -> Result<(Position, Vec<u8>), EngineError> {
    let foreign = |id: &str| {
        EngineError::lasting(format!(
            "the entry {id:.50} was not appended by a server of this kind"
        ))
    };
    let Value::Array(parts) = value else { return Err(foreign("without ID")) };
    let mut parts = parts.into_iter();
    let id = parts.next().map(|id| text_of(&id)).unwrap_or_default();
    let position = position_of(&id)?;
    let fields = parts.next().map(pairs_of).unwrap_or_default();
    match fields.into_iter().next() {
        Some((_, Value::BulkString(bytes))) if id_of(position) == id => Ok((position, bytes)),
        _ => Err(foreign(&id)),
    }
}

fn unexpected(command: &str, value: &Value) -> EngineError {
    let shown: String = format!("{value:?}").chars().take(80).collect();
    EngineError::lasting(format!("unexpected answer to {command}: {shown}"))
}

/// The codes of answers that stay the same until an operator acts.
const FINAL_CODES: [&str; 4] = ["NOAUTH", "NOPERM", "WRONGPASS", "WRONGTYPE"];

/// What rustls says of a certificate that it does not accept.
const UNTRUSTED: &str = "invalid peer certificate";

/// Describes an error without credentials, and with the way out where there is one.
fn describe(url: &StreamUrl, error: &RedisError) -> EngineError {
    let is_denied = error.kind() == ErrorKind::AuthenticationFailed;
    let text = error.to_string();
    let is_untrusted = text.contains(UNTRUSTED);
    let hint = match (is_denied, is_untrusted) {
        (true, _) => " (user and password are those of --stream)",
        (_, true) => " (SSL_CERT_FILE names a file with the certificates of more authorities)",
        _ => "",
    };
    let is_final = is_denied
        || is_untrusted
        || error.kind() == ErrorKind::InvalidClientConfig
        || error.code().is_some_and(|code| FINAL_CODES.contains(&code));
    EngineError { reason: url.redact(&format!("{text}{hint}")), is_final }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_it_was_written() {
        let pointer = SnapshotPointer {
            position: Position(17),
            id: 0xA,
            chunks: 3,
            chain: u64::MAX,
            fingerprint: 0xB,
            stream: 0xC,
        };
        let text = "2 17 000000000000000a 3 ffffffffffffffff 000000000000000b 000000000000000c";
        assert_eq!(parse_pointer(text), Some(pointer));
        let old = "1 17 000000000000000a 3 ffffffffffffffff 000000000000000b";
        assert_eq!(parse_pointer(old), Some(SnapshotPointer { stream: 0, ..pointer }));
        let bad =
            ["", "3 17 a 3 f b c", "2 17 a 3 f b", "2 17 a 3 f b c d", "1 17 a 3 f", "1 x a 3 f b"];
        for bad in bad {
            assert_eq!(parse_pointer(bad), None, "{bad}");
        }
    }
}
