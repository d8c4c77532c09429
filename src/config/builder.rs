//! The settings under construction, and the rules between them.

use log::LevelFilter;

use super::error::{self, Error, Origin};
use super::{Config, KEYS, OnSourceDisconnect, Origins, SlowClient, StreamUrl, file};

/// The settings under construction, with the origin of each.
#[derive(Default)]
pub(super) struct ConfigBuilder {
    pub(super) config: Config,
    pub(super) origins: Origins,
}

impl ConfigBuilder {
    /// Applies the keys of a file with this text.
    pub(super) fn apply_json(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let object = file::parse(file, text)?;
        for (key, value) in &object {
            let origin = Origin::Key { file: file.to_owned(), key: key.clone() };
            self.apply_key(origin.clone(), key, value)
                .unwrap_or_else(|| Err(error::unknown_key_message(key, KEYS)))
                .map_err(|reason| Error::invalid_value(&origin, &value.to_string(), reason))?;
        }
        Ok(())
    }

    /// Returns the settings if they are consistent with each other.
    pub(super) fn validate(self) -> Result<Config, Error> {
        let ConfigBuilder { config, origins } = self;
        check_listeners(&config, &origins)?;
        check_stream(&config, &origins)?;
        check_effects(&config, &origins)?;
        if config.total_queue_bytes < config.client_queue_bytes {
            return Err(Error::Conflict(format!(
                "the queue limit for all clients, {} bytes ({}), is below the one for each client, \
                 {} bytes ({}): raise --total-queue-bytes (\"totalQueueBytes\") or lower \
                 --client-queue-bytes (\"clientQueueBytes\")",
                config.total_queue_bytes,
                origins.total_queue_bytes,
                config.client_queue_bytes,
                origins.client_queue_bytes
            )));
        }
        Ok(config)
    }
}

/// Checks that no two listeners have the same address, unless the port is 0.
fn check_listeners(config: &Config, origins: &Origins) -> Result<(), Error> {
    let mut listeners = vec![
        ("events", config.event_listen, &origins.event_listen),
        ("clients", config.client_listen, &origins.client_listen),
    ];
    listeners.extend(config.admin_listen.map(|address| ("admin", address, &origins.admin_listen)));
    for (index, (purpose, address, origin)) in listeners.iter().enumerate() {
        for (first_purpose, first_address, first_origin) in &listeners[..index] {
            if first_address == address && address.port() != 0 {
                return Err(Error::Conflict(format!(
                    "{first_purpose} ({first_origin}) and {purpose} ({origin}) cannot both listen on \
                     {address}: give one of them another port"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that the stream goes together with the other settings.
fn check_stream(config: &Config, origins: &Origins) -> Result<(), Error> {
    if config.stream.is_none() {
        return Ok(());
    }
    if !cfg!(feature = "cluster") {
        return Err(Error::Conflict(format!(
            "this build has no support for --stream ({}): it was built without the feature \"cluster\"",
            origins.stream
        )));
    }
    if !cfg!(feature = "cluster-tls") && config.stream.as_ref().is_some_and(StreamUrl::is_tls) {
        return Err(Error::Conflict(format!(
            "this build has no support for rediss:// ({}): build it with --features cluster-tls, or use \
             redis://",
            origins.stream
        )));
    }
    if config.on_source_disconnect == OnSourceDisconnect::Reset {
        return Err(Error::Conflict(format!(
            "--stream ({}) and --on-source-disconnect reset ({}) exclude each other, because a reset would \
             concern all servers: leave one of them out",
            origins.stream, origins.on_source_disconnect
        )));
    }
    Ok(())
}

/// Checks that no flag is without effect. Files and variables may hold such settings, for other flags.
fn check_effects(config: &Config, origins: &Origins) -> Result<(), Error> {
    let is_flag = |origin: &Origin| matches!(origin, Origin::Flag(_));
    if is_flag(&origins.stall_timeout) && config.slow_client == SlowClient::Disconnect {
        return Err(Error::Conflict(format!(
            "--stall-timeout-ms has no effect where slow clients are disconnected at once ({}): leave \
             it out, or give --slow-client pause",
            origins.slow_client
        )));
    }
    if is_flag(&origins.log_format) && config.log_level == LevelFilter::Off {
        return Err(Error::Conflict(format!(
            "--log-format has no effect where the log is off ({}): leave it out, or give another \
             --log-level",
            origins.log_level
        )));
    }
    if is_flag(&origins.stream_max_bytes) && config.stream.is_none() {
        return Err(Error::Conflict(
            "--stream-max-bytes has no effect without --stream: leave it out, or name a stream"
                .to_owned(),
        ));
    }
    match (config.max_clients, config.max_clients_per_address) {
        (Some(all), Some(each)) if each > all && is_flag(&origins.max_clients_per_address) => {
            Err(Error::Conflict(format!(
                "--max-clients-per-address {each} has no effect, because no more than {all} clients \
                 are allowed ({}): lower it, or raise --max-clients",
                origins.max_clients
            )))
        }
        _ => Ok(()),
    }
}
