//! Settings of a run. Flags take precedence over the environment variables of the original
//! verification program, and those over its defaults.

use std::fmt;
use std::time::Duration;

use log::LevelFilter;

use crate::cli::address::{Address, ServerAddress};
use crate::ranges;
use crate::workload::generated::WorkloadSpec;
use crate::workload::mix::Mix;

/// Events of a run of the original verification program: about two seconds against this server.
pub(crate) const ORIGINAL_TOTAL_EVENTS: u64 = 10_000_000;
/// Events of a measurement: one segment, so that the clock never stops.
pub(crate) const MEASURED_TOTAL_EVENTS: u64 = 2_000_000;

/// Flags of a generated load, as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadFlags {
    pub(crate) mix: Option<Mix>,
    pub(crate) total_events: Option<u64>,
    pub(crate) concurrency_level: Option<usize>,
    pub(crate) number_of_users: Option<u64>,
    pub(crate) random_seed: Option<i128>,
    pub(crate) max_event_source_batch_size: Option<u64>,
}

/// Flags that every subcommand has, as given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommonFlags {
    pub(crate) timeout: Option<u64>,
    pub(crate) log_interval: Option<u64>,
    pub(crate) log_level: Option<LevelFilter>,
}

/// Flags that select the server, as given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetFlags<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) event_port: Option<&'a Address>,
    pub(crate) client_port: Option<&'a Address>,
    pub(crate) spawn: bool,
    pub(crate) server_arguments: &'a [String],
    pub(crate) server_process: Option<u32>,
    pub(crate) admin: Option<&'a Address>,
    /// Running servers that share one stream.
    pub(crate) servers: &'a [ServerAddress],
}

impl TargetFlags<'_> {
    /// Returns whether a server started with `--spawn` gets `flag` from `--server-arg`.
    pub(crate) fn has_server_flag(&self, flag: &str) -> bool {
        self.server_arguments.iter().any(|argument| {
            argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }

    /// Returns the numeric value of `flag` among the arguments of a server started with `--spawn`.
    pub(crate) fn server_number(&self, flag: &str) -> Option<u64> {
        let mut arguments = self.server_arguments.iter().map(String::as_str);
        let mut value = None;
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix(flag) {
                Some("") => value = arguments.next(),
                Some(rest) => value = rest.strip_prefix('=').or(value),
                None => {}
            }
        }
        value?.parse().ok()
    }
}

/// Timeout and verbosity, common to all subcommands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommonOptions {
    /// Longest time without any progress.
    pub(crate) timeout: Duration,
    pub(crate) log_interval: Duration,
    pub(crate) log_level: LevelFilter,
}

/// Lookup of an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl CommonOptions {
    /// Resolves flags, environment and defaults.
    ///
    /// # Errors
    ///
    /// A variable has an invalid value; the error names it.
    pub(crate) fn resolve(
        flags: CommonFlags,
        environment: Environment<'_>,
    ) -> Result<CommonOptions, String> {
        let timeout =
            resolve_value(flags.timeout, environment, "timeout", ranges::timeout_ms, 20_000)?;
        let log_interval = resolve_value(
            flags.log_interval,
            environment,
            "logInterval",
            ranges::log_interval_ms,
            1000,
        )?;
        let log_level = resolve_value(
            flags.log_level,
            environment,
            "logLevel",
            ranges::log_level,
            LevelFilter::Info,
        )?;
        let quiet = flags.log_level.filter(|&level| level < LevelFilter::Info);
        if let (Some(_), Some(level)) = (flags.log_interval, quiet) {
            let level = level.as_str().to_lowercase();
            return Err(format!(
                "--log-interval has no effect with --log-level {level}: progress lines are of level info"
            ));
        }
        Ok(CommonOptions {
            timeout: Duration::from_millis(timeout),
            log_interval: Duration::from_millis(log_interval.max(1)),
            log_level,
        })
    }
}

impl WorkloadSpec {
    /// Resolves flags, environment and defaults.
    ///
    /// # Errors
    ///
    /// A variable or flag has an invalid value; the error names it and the reason.
    pub(crate) fn resolve(
        flags: LoadFlags,
        environment: Environment<'_>,
        default_total_events: u64,
    ) -> Result<WorkloadSpec, String> {
        let clients = resolve_value(
            flags.concurrency_level,
            environment,
            "concurrencyLevel",
            ranges::clients,
            100,
        )?;
        let connected = clients as u64;
        let users = resolve_value(
            flags.number_of_users,
            environment,
            "numberOfUsers",
            ranges::users,
            connected * 10,
        )?;
        if users < connected {
            return Err(format!(
                "--number-of-users (or numberOfUsers) {users} is less than the {clients} that connect \
                 (--concurrency-level)"
            ));
        }
        Ok(WorkloadSpec {
            mix: flags.mix.unwrap_or_else(Mix::verification),
            total_events: resolve_value(
                flags.total_events,
                environment,
                "totalEvents",
                ranges::events,
                default_total_events,
            )?,
            users,
            clients,
            // Negative seeds are cast like any other number.
            seed: resolve_value(flags.random_seed, environment, "randomSeed", ranges::seed, 666)?
                as u64,
            max_batch: resolve_value(
                flags.max_event_source_batch_size,
                environment,
                "maxEventSourceBatchSize",
                ranges::batch,
                100,
            )?,
        })
    }
}

/// Returns the flag's value, else the variable's as parsed by `read`, else the default.
fn resolve_value<T>(
    flag: Option<T>,
    environment: Environment<'_>,
    name: &str,
    read: impl Fn(&str) -> Result<T, String>,
    default: T,
) -> Result<T, String> {
    match (flag, environment(name)) {
        (Some(value), _) => Ok(value),
        (None, None) => Ok(default),
        (None, Some(text)) => read(&text).map_err(|why| format!("{name}: `{text}`: {why}")),
    }
}

/// Where a running server listens, as given: hosts are not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub(crate) events: Endpoint,
    pub(crate) clients: Endpoint,
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Host of a server whose flags name none.
pub(crate) const DEFAULT_HOST: &str = "127.0.0.1";

impl Endpoints {
    /// Resolves flags, environment and defaults. An address without a host is on `--host`, else on
    /// the host of the other address.
    ///
    /// # Errors
    ///
    /// A variable is not an address, or `--host` contradicts an address; the error names it.
    pub(crate) fn resolve(
        flags: TargetFlags<'_>,
        environment: Environment<'_>,
    ) -> Result<Endpoints, String> {
        let address = |flag: Option<&Address>, name, default| {
            resolve_value(flag.cloned(), environment, name, str::parse, Address::of_port(default))
        };
        let events = address(flags.event_port, "eventListenerPort", 9090)?;
        let clients = address(flags.client_port, "clientListenerPort", 9099)?;
        let host = flags.host.or(events.host.as_deref()).or(clients.host.as_deref());
        let host = host.unwrap_or(DEFAULT_HOST).to_owned();
        Ok(Endpoints {
            events: Endpoint::resolve(flags.host, &host, events, "--event-port")?,
            clients: Endpoint::resolve(flags.host, &host, clients, "--client-port")?,
        })
    }
}

impl Endpoint {
    /// Completes the address of an admin port, on the host of the server unless it names one.
    ///
    /// # Errors
    ///
    /// `--host` is an address with a port.
    pub(crate) fn of_admin(host: Option<&str>, address: Address) -> Result<Endpoint, String> {
        Endpoint::resolve(None, host.unwrap_or(DEFAULT_HOST), address, "--admin")
    }

    /// Completes the address given by `flag` with `default` as the host.
    ///
    /// # Errors
    ///
    /// It contradicts `required`, the value of `--host`; or that contains a port.
    pub(crate) fn resolve(
        required: Option<&str>,
        default: &str,
        address: Address,
        flag: &str,
    ) -> Result<Endpoint, String> {
        if let Some(required) = required {
            if address.host.as_deref().is_some_and(|host| host != required) {
                let host = address.host.unwrap_or_default();
                return Err(format!(
                    "--host {required} contradicts {flag} {host}:{}",
                    address.port
                ));
            }
            if required.matches(':').count() == 1 {
                return Err(format!("--host {required}: the port belongs to {flag}"));
            }
        }
        Ok(Endpoint {
            host: address.host.unwrap_or_else(|| default.to_owned()),
            port: address.port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FLAGS: CommonFlags =
        CommonFlags { timeout: None, log_interval: None, log_level: None };

    fn environment<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    fn spec(flags: LoadFlags, variables: &[(&str, &str)]) -> Result<WorkloadSpec, String> {
        WorkloadSpec::resolve(flags, &environment(variables), ORIGINAL_TOTAL_EVENTS)
    }

    #[test]
    fn the_original_defaults() {
        let spec = spec(LoadFlags::default(), &[]).unwrap();
        assert_eq!((spec.total_events, spec.clients, spec.users), (10_000_000, 100, 1000));
        assert_eq!((spec.seed, spec.max_batch), (666, 100));
        let common = CommonOptions::resolve(NO_FLAGS, &environment(&[])).unwrap();
        assert_eq!(common.timeout, Duration::from_secs(20));
        assert_eq!(common.log_interval, Duration::from_secs(1));
        assert_eq!(common.log_level, LevelFilter::Info);
    }

    #[test]
    fn flags_win_over_the_environment() {
        let flags = LoadFlags { total_events: Some(5), ..LoadFlags::default() };
        let variables = [("totalEvents", "7"), ("concurrencyLevel", "20"), ("randomSeed", "-1")];
        let spec = spec(flags, &variables).unwrap();
        assert_eq!(spec.total_events, 5);
        assert_eq!((spec.clients, spec.users), (20, 200));
        assert_eq!(spec.seed, u64::MAX);
        let flags = CommonFlags { timeout: Some(3), ..NO_FLAGS };
        let variables = [("timeout", "7"), ("logLevel", "debug")];
        let common = CommonOptions::resolve(flags, &environment(&variables)).unwrap();
        assert_eq!(common.timeout, Duration::from_millis(3));
        assert_eq!(common.log_level, LevelFilter::Debug);
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (name, value) in
            [("totalEvents", "many"), ("numberOfUsers", "50"), ("maxEventSourceBatchSize", "0")]
        {
            let error = spec(LoadFlags::default(), &[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    const NO_TARGET: TargetFlags<'static> = TargetFlags {
        host: None,
        event_port: None,
        client_port: None,
        spawn: false,
        server_arguments: &[],
        server_process: None,
        admin: None,
        servers: &[],
    };

    fn endpoints(flags: TargetFlags<'_>, variables: &[(&str, &str)]) -> Result<String, String> {
        let Endpoints { events, clients } = Endpoints::resolve(flags, &environment(variables))?;
        Ok(format!("{events} {clients}"))
    }

    #[test]
    fn resolves_addresses() {
        let variables = [("eventListenerPort", "1"), ("clientListenerPort", "9")];
        let port: Address = ":2".parse().unwrap();
        let flags = TargetFlags { client_port: Some(&port), ..NO_TARGET };
        assert_eq!(endpoints(flags, &variables).unwrap(), "127.0.0.1:1 127.0.0.1:2");
        assert_eq!(endpoints(NO_TARGET, &[]).unwrap(), "127.0.0.1:9090 127.0.0.1:9099");
        let flags = TargetFlags { host: Some("::1"), ..flags };
        assert_eq!(endpoints(flags, &[]).unwrap(), "[::1]:9090 [::1]:2");
        let address: Address = "box:5".parse().unwrap();
        let flags = TargetFlags { event_port: Some(&address), ..NO_TARGET };
        assert_eq!(endpoints(flags, &[]).unwrap(), "box:5 box:9099");
        let flags = TargetFlags { host: Some("other"), ..flags };
        assert_eq!(
            endpoints(flags, &[]).unwrap_err(),
            "--host other contradicts --event-port box:5"
        );
        let flags = TargetFlags { host: Some("box:7"), ..NO_TARGET };
        assert!(endpoints(flags, &[]).unwrap_err().contains("belongs to --event-port"));
        assert!(endpoints(NO_TARGET, &[("eventListenerPort", "x")]).is_err());
    }

    #[test]
    fn arguments_of_a_started_server() {
        let arguments = ["--a", "5", "--b=6", "--bc", "7", "--a=8"].map(str::to_owned);
        let flags = TargetFlags { server_arguments: &arguments, ..NO_TARGET };
        assert_eq!([flags.server_number("--a"), flags.server_number("--b")], [Some(8), Some(6)]);
        assert_eq!(flags.server_number("--c"), None);
        assert!(flags.has_server_flag("--b") && !flags.has_server_flag("--c"));
    }

    #[test]
    fn progress_lines_need_their_level() {
        let flags =
            CommonFlags { log_interval: Some(5), log_level: Some(LevelFilter::Warn), ..NO_FLAGS };
        let error = CommonOptions::resolve(flags, &environment(&[])).unwrap_err();
        assert!(error.contains("--log-interval") && error.contains("--log-level warn"), "{error}");
        let flags = CommonFlags { log_level: Some(LevelFilter::Info), ..flags };
        assert!(CommonOptions::resolve(flags, &environment(&[])).is_ok());
    }
}
