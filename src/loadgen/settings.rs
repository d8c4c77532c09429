//! Settings of a generated load: flags first, then the environment variables of the original
//! verification program, then its defaults.

use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use serde::Serialize;
use serde_json::{Value, json};

use super::mix::Mix;
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
    pub(crate) concurrency_level: Option<u64>,
    pub(crate) number_of_users: Option<u64>,
    pub(crate) random_seed: Option<i128>,
    pub(crate) max_event_source_batch_size: Option<u64>,
    pub(crate) timeout: Option<u64>,
    pub(crate) log_interval: Option<u64>,
    pub(crate) log_level: Option<LevelFilter>,
}

/// A generated load, and how long to wait and how much to say.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) plan: Plan,
    pub(crate) timeout: Duration,
    pub(crate) log_interval: Duration,
    pub(crate) log_level: LevelFilter,
}

/// Looks up an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Puts flags, environment and defaults together.
    ///
    /// # Errors
    ///
    /// Names the variable or flag whose value cannot be used, and says why.
    pub(crate) fn resolve(
        flags: LoadFlags,
        environment: Environment<'_>,
        default_total_events: u64,
    ) -> Result<Settings, String> {
        let number = |flag: Option<u64>, name: &str, default: u64| {
            flag.map_or_else(|| variable(environment, name, default), Ok)
        };
        let clients = number(flags.concurrency_level, "concurrencyLevel", 100)?;
        let users = number(flags.number_of_users, "numberOfUsers", clients.saturating_mul(10))?;
        let seed = match flags.random_seed {
            Some(seed) => seed,
            None => variable(environment, "randomSeed", 666)?,
        };
        let log_level = match flags.log_level {
            Some(level) => level,
            None => variable(environment, "logLevel", LevelFilter::Info)?,
        };
        let total_events = number(flags.total_events, "totalEvents", default_total_events)?;
        let largest_batch =
            number(flags.max_event_source_batch_size, "maxEventSourceBatchSize", 100)?;
        let timeout = number(flags.timeout, "timeout", 20_000)?;
        let log_interval = number(flags.log_interval, "logInterval", 1000)?;

        in_range("concurrencyLevel", clients, 1, MOST_USERS)?;
        in_range("numberOfUsers", users, clients, MOST_USERS)?;
        in_range("maxEventSourceBatchSize", largest_batch, 1, MOST_USERS)?;
        in_range("totalEvents", total_events, 1, u64::MAX - 1)?;
        Ok(Settings {
            plan: Plan {
                mix: flags.mix.unwrap_or_else(Mix::verification),
                total_events,
                users,
                clients: clients as usize,
                // Negative seeds are numbers like any other.
                seed: seed as u64,
                largest_batch,
            },
            timeout: Duration::from_millis(timeout),
            log_interval: Duration::from_millis(log_interval.max(1)),
            log_level,
        })
    }

    /// For the result's file.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "plan": self.plan,
            "timeoutMs": self.timeout.as_millis() as u64,
        })
    }
}

/// All ids are kept in memory; more would not fit there.
const MOST_USERS: u64 = 1 << 30;

fn variable<T: FromStr>(environment: Environment<'_>, name: &str, default: T) -> Result<T, String> {
    match environment(name) {
        None => Ok(default),
        Some(text) => {
            text.trim().parse().map_err(|_| format!("{name}: `{text}` is no value for it"))
        }
    }
}

fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name}: {value} is not within {least} to {most}"))
    }
}

/// The ports of a server that runs already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ports {
    pub(crate) events: u16,
    pub(crate) clients: u16,
}

impl Ports {
    /// # Errors
    ///
    /// Names the variable that is no port.
    pub(crate) fn resolve(
        events: Option<u16>,
        clients: Option<u16>,
        environment: Environment<'_>,
    ) -> Result<Ports, String> {
        let port = |flag: Option<u16>, name: &str, default: u16| {
            flag.map_or_else(|| variable(environment, name, default), Ok)
        };
        Ok(Ports {
            events: port(events, "eventListenerPort", 9090)?,
            clients: port(clients, "clientListenerPort", 9099)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: LoadFlags, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(flags, &environment, ORIGINAL_TOTAL_EVENTS)
    }

    #[test]
    fn the_original_defaults() {
        let settings = resolve(LoadFlags::default(), &[]).unwrap();
        let plan = settings.plan;
        assert_eq!((plan.total_events, plan.clients, plan.users), (10_000_000, 100, 1000));
        assert_eq!((plan.seed, plan.largest_batch), (666, 100));
        assert_eq!(settings.timeout, Duration::from_secs(20));
        assert_eq!(settings.log_interval, Duration::from_secs(1));
        assert_eq!(settings.log_level, LevelFilter::Info);
    }

    #[test]
    fn flags_win_over_the_environment() {
        let flags = LoadFlags { total_events: Some(5), ..LoadFlags::default() };
        let variables = [
            ("totalEvents", "7"),
            ("concurrencyLevel", "20"),
            ("randomSeed", "-1"),
            ("logLevel", "debug"),
        ];
        let settings = resolve(flags, &variables).unwrap();
        assert_eq!(settings.plan.total_events, 5);
        assert_eq!((settings.plan.clients, settings.plan.users), (20, 200));
        assert_eq!(settings.plan.seed, u64::MAX);
        assert_eq!(settings.log_level, LevelFilter::Debug);
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (name, value) in
            [("totalEvents", "many"), ("numberOfUsers", "50"), ("maxEventSourceBatchSize", "0")]
        {
            let error = resolve(LoadFlags::default(), &[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn ports() {
        let environment = |name: &str| (name == "eventListenerPort").then(|| "1234".to_owned());
        let ports = Ports::resolve(None, None, &environment).unwrap();
        assert_eq!(ports, Ports { events: 1234, clients: 9099 });
        let ports = Ports::resolve(Some(1), Some(2), &environment).unwrap();
        assert_eq!(ports, Ports { events: 1, clients: 2 });
    }
}
