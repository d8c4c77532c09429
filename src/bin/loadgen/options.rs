//! Settings of a run. Flags take precedence over the environment variables of the original
//! verification program, and those over its defaults.

use std::time::Duration;

use log::LevelFilter;

use crate::ranges;
use crate::workload::generated::WorkloadSpec;
use crate::workload::mix::Mix;

/// Events of a run of the original verification program.
pub(crate) const ORIGINAL_TOTAL_EVENTS: u64 = 10_000_000;
/// Default number of events with `--spawn`.
pub(crate) const SPAWN_DEFAULT_EVENTS: u64 = 1_000_000;
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
    pub(crate) host: &'a str,
    pub(crate) event_port: Option<u16>,
    pub(crate) client_port: Option<u16>,
    pub(crate) spawn: bool,
    pub(crate) server_arguments: &'a [String],
    pub(crate) server_process: Option<u32>,
}

impl TargetFlags<'_> {
    /// Returns the numeric value of `flag` among the arguments of a server started with `--spawn`.
    pub(crate) fn server_number(&self, flag: &str) -> Option<u64> {
        let index = self.server_arguments.iter().rposition(|argument| argument == flag)?;
        self.server_arguments.get(index + 1)?.parse().ok()
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
        let log_level =
            |text: &str| text.trim().parse().map_err(|_| "expected a log level".to_owned());
        Ok(CommonOptions {
            timeout: Duration::from_millis(timeout),
            log_interval: Duration::from_millis(log_interval.max(1)),
            log_level: resolve_value(
                flags.log_level,
                environment,
                "logLevel",
                log_level,
                LevelFilter::Info,
            )?,
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
            return Err(format!("numberOfUsers: {users} is less than the {clients} that connect"));
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

/// The ports of a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

impl Ports {
    /// # Errors
    ///
    /// A variable is not a port; the error names it.
    pub(crate) fn resolve(
        flags: TargetFlags<'_>,
        environment: Environment<'_>,
    ) -> Result<Ports, String> {
        Ok(Ports {
            events: resolve_value(
                flags.event_port,
                environment,
                "eventListenerPort",
                ranges::port,
                9090,
            )?,
            clients: resolve_value(
                flags.client_port,
                environment,
                "clientListenerPort",
                ranges::port,
                9099,
            )?,
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

    #[test]
    fn resolves_ports() {
        let flags = TargetFlags {
            host: "localhost",
            event_port: None,
            client_port: Some(2),
            spawn: false,
            server_arguments: &[],
            server_process: None,
        };
        let variables = [("eventListenerPort", "1"), ("clientListenerPort", "9")];
        let ports = Ports::resolve(flags, &environment(&variables)).unwrap();
        assert_eq!(ports, Ports { events: 1, clients: 2 });
    }
}
