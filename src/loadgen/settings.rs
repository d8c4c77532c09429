//! Settings of a generated load: flags first, then the environment variables of the original
//! verification program, then its defaults.

use std::time::Duration;

use log::LevelFilter;

use super::mix::Mix;
use super::range;
use super::workload::Plan;

/// Events of a run of the original verification program.
pub(crate) const ORIGINAL_TOTAL_EVENTS: u64 = 10_000_000;
/// Events of a try-out.
pub(crate) const TRY_OUT_TOTAL_EVENTS: u64 = 1_000_000;
/// Events of a measurement: one slice, so that the clock never stops.
pub(crate) const MEASURED_TOTAL_EVENTS: u64 = 2_000_000;

/// The flags as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadFlags {
    pub(crate) mix: Option<Mix>,
    pub(crate) total_events: Option<u64>,
    pub(crate) concurrency_level: Option<usize>,
    pub(crate) number_of_users: Option<u64>,
    pub(crate) random_seed: Option<i128>,
    pub(crate) max_event_source_batch_size: Option<u64>,
}

/// The flags that every subcommand has, as given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommonFlags {
    pub(crate) timeout: Option<u64>,
    pub(crate) log_interval: Option<u64>,
    pub(crate) log_level: Option<LevelFilter>,
}

/// The flags that say which server is meant, as given.
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
    /// Returns the number that `flag` has among the arguments for the server, if it is there.
    pub(crate) fn server_number(&self, flag: &str) -> Option<u64> {
        let place = self.server_arguments.iter().rposition(|argument| argument == flag)?;
        self.server_arguments.get(place + 1)?.parse().ok()
    }
}

/// How long to wait and how much to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Without any progress.
    pub(crate) timeout: Duration,
    pub(crate) log_interval: Duration,
    pub(crate) log_level: LevelFilter,
}

/// Looks up an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Habits {
    /// Puts flags, environment and defaults together.
    ///
    /// # Errors
    ///
    /// Names the variable whose value cannot be used.
    pub(crate) fn resolve(
        flags: CommonFlags,
        environment: Environment<'_>,
    ) -> Result<Habits, String> {
        let timeout = given(flags.timeout, environment, "timeout", range::timeout_ms, 20_000)?;
        let log_interval =
            given(flags.log_interval, environment, "logInterval", range::log_interval_ms, 1000)?;
        let log_level = |text: &str| text.trim().parse().map_err(|_| "it is no level".to_owned());
        Ok(Habits {
            timeout: Duration::from_millis(timeout),
            log_interval: Duration::from_millis(log_interval.max(1)),
            log_level: given(
                flags.log_level,
                environment,
                "logLevel",
                log_level,
                LevelFilter::Info,
            )?,
        })
    }
}

impl Plan {
    /// Puts flags, environment and defaults together.
    ///
    /// # Errors
    ///
    /// Names the variable or flag whose value cannot be used, and says why.
    pub(crate) fn resolve(
        flags: LoadFlags,
        environment: Environment<'_>,
        default_total_events: u64,
    ) -> Result<Plan, String> {
        let clients =
            given(flags.concurrency_level, environment, "concurrencyLevel", range::clients, 100)?;
        let connected = clients as u64;
        let users = given(
            flags.number_of_users,
            environment,
            "numberOfUsers",
            range::users,
            connected * 10,
        )?;
        if users < connected {
            return Err(format!(
                "numberOfUsers: {users} are fewer than the {clients} that connect"
            ));
        }
        Ok(Plan {
            mix: flags.mix.unwrap_or_else(Mix::verification),
            total_events: given(
                flags.total_events,
                environment,
                "totalEvents",
                range::events,
                default_total_events,
            )?,
            users,
            clients,
            // Negative seeds are numbers like any other.
            seed: given(flags.random_seed, environment, "randomSeed", range::seed, 666)? as u64,
            largest_batch: given(
                flags.max_event_source_batch_size,
                environment,
                "maxEventSourceBatchSize",
                range::batch,
                100,
            )?,
        })
    }
}

/// The flag's value, or else the variable's as `read` has it, or else the default.
fn given<T>(
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

/// The ports of a server that runs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

impl Ports {
    /// # Errors
    ///
    /// Names the variable that is no port.
    pub(crate) fn resolve(
        flags: TargetFlags<'_>,
        environment: Environment<'_>,
    ) -> Result<Ports, String> {
        Ok(Ports {
            events: given(flags.event_port, environment, "eventListenerPort", range::port, 9090)?,
            clients: given(
                flags.client_port,
                environment,
                "clientListenerPort",
                range::port,
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

    fn plan(flags: LoadFlags, variables: &[(&str, &str)]) -> Result<Plan, String> {
        Plan::resolve(flags, &environment(variables), ORIGINAL_TOTAL_EVENTS)
    }

    #[test]
    fn the_original_defaults() {
        let plan = plan(LoadFlags::default(), &[]).unwrap();
        assert_eq!((plan.total_events, plan.clients, plan.users), (10_000_000, 100, 1000));
        assert_eq!((plan.seed, plan.largest_batch), (666, 100));
        let habits = Habits::resolve(NO_FLAGS, &environment(&[])).unwrap();
        assert_eq!(habits.timeout, Duration::from_secs(20));
        assert_eq!(habits.log_interval, Duration::from_secs(1));
        assert_eq!(habits.log_level, LevelFilter::Info);
    }

    #[test]
    fn flags_win_over_the_environment() {
        let flags = LoadFlags { total_events: Some(5), ..LoadFlags::default() };
        let variables = [("totalEvents", "7"), ("concurrencyLevel", "20"), ("randomSeed", "-1")];
        let plan = plan(flags, &variables).unwrap();
        assert_eq!(plan.total_events, 5);
        assert_eq!((plan.clients, plan.users), (20, 200));
        assert_eq!(plan.seed, u64::MAX);
        let flags = CommonFlags { timeout: Some(3), ..NO_FLAGS };
        let variables = [("timeout", "7"), ("logLevel", "debug")];
        let habits = Habits::resolve(flags, &environment(&variables)).unwrap();
        assert_eq!(habits.timeout, Duration::from_millis(3));
        assert_eq!(habits.log_level, LevelFilter::Debug);
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (name, value) in
            [("totalEvents", "many"), ("numberOfUsers", "50"), ("maxEventSourceBatchSize", "0")]
        {
            let error = plan(LoadFlags::default(), &[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn ports() {
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
