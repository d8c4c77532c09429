//! Settings from environment variables.

use std::ffi::OsString;

use super::error::{self, Error, Origin};
use super::settings;

/// The prefix of all variables.
const PREFIX: &str = "EVENTSERVER_";

/// The flag of the configuration file.
pub(super) const CONFIG: &str = "config";

/// Prefixes of variables that orchestrators set for a service that is called `eventserver`.
const FOREIGN: [&str; 2] = ["EVENTSERVER_PORT", "EVENTSERVER_SERVICE_"];

/// The environment variables whose name begins with `EVENTSERVER_`. An empty one counts as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(String, OsString)>,
}

impl Environment {
    /// Selects the variables of this program.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        let is_own = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            (!value.is_empty()).then_some((name, value))
        };
        Environment { variables: variables.into_iter().filter_map(is_own).collect() }
    }

    /// Returns name and text of a flag's variable, if it is set. `flag` has no leading dashes.
    pub(super) fn value_of(&self, flag: &str) -> Result<Option<(String, &str)>, Error> {
        let name = variable(flag);
        let Some((_, value)) = self.variables.iter().find(|(known, _)| *known == name) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(text) => Ok(Some((name, text))),
            None => Err(Error::invalid_value(
                &Origin::Variable(name),
                &value.to_string_lossy(),
                "must be UTF-8".to_owned(),
            )),
        }
    }

    /// Returns a warning for each variable that sets nothing.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let flags: Vec<&str> = settings().iter().map(|it| it.flag).chain([CONFIG]).collect();
        let is_known = |name: &str| flags.iter().any(|flag| variable(flag) == name);
        let is_foreign = |name: &str| FOREIGN.iter().any(|prefix| name.starts_with(prefix));
        let names = self.variables.iter().map(|(name, _)| name.as_str());
        let unknown = names.filter(|name| !is_known(name) && !is_foreign(name));
        unknown.map(|name| warning(name, &flags)).collect()
    }
}

fn warning(name: &str, flags: &[&str]) -> String {
    let nearest = error::nearest(name.trim_start_matches(PREFIX), flags);
    let hint = nearest.map(|flag| format!("; did you mean {}?", variable(flag)));
    format!("environment variable {name} is no setting{}", hint.unwrap_or_default())
}

/// Returns the variable of a flag, given without dashes.
pub(super) fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_variable_is_named_after_its_flag() {
        assert_eq!(variable("gap-timeout-ms"), "EVENTSERVER_GAP_TIMEOUT_MS");
        let environment = environment(&[("EVENTSERVER_MAX_SOURCES", "5"), ("MAX_CLIENTS", "6")]);
        let name = "EVENTSERVER_MAX_SOURCES".to_owned();
        assert_eq!(environment.value_of("max-sources").unwrap(), Some((name, "5")));
        assert_eq!(environment.value_of("max-clients").unwrap(), None);
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let environment = environment(&[("EVENTSERVER_CAPTURE", ""), ("EVENTSERVER_TYPO", "")]);
        assert_eq!(environment.value_of("capture").unwrap(), None);
        assert!(environment.warnings().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(b"a\xff".to_vec());
        let environment = Environment::new([("EVENTSERVER_CAPTURE".into(), value)]);
        let error = environment.value_of("capture").unwrap_err().to_string();
        assert_eq!(error, "EVENTSERVER_CAPTURE=a\u{fffd}: must be UTF-8");
    }

    #[test]
    fn unknown_variables_are_warned_about_except_those_of_orchestrators() {
        let warnings = environment(&[
            ("EVENTSERVER_CLIENT_LISTEN", "5"),
            ("EVENTSERVER_CONFIG", "file"),
            ("EVENTSERVER_MAX_CLIENT", "5"),
            ("EVENTSERVER_COLOUR", "red"),
            ("EVENTSERVER_SERVICE_HOST", "10.0.0.1"),
            ("EVENTSERVER_PORT_9099_TCP_ADDR", "10.0.0.1"),
            ("OTHER", "1"),
        ])
        .warnings();
        assert_eq!(
            warnings,
            [
                "environment variable EVENTSERVER_MAX_CLIENT is no setting; did you mean \
                 EVENTSERVER_MAX_CLIENTS?",
                "environment variable EVENTSERVER_COLOUR is no setting"
            ]
        );
    }
}
