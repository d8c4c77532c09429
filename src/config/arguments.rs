//! The command line before argh parses it, which separates flags and values only at spaces.

use super::error::Error;
use super::{FLAGS, VALUE_FLAGS, settings};

/// Separates `--flag=value`, and gives toggles without a value the value `true`.
///
/// # Errors
///
/// A flag that takes no value has one.
pub(super) fn separate(arguments: &[&str]) -> Result<Vec<String>, Error> {
    let mut separated = Vec::with_capacity(arguments.len() + 1);
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument.split_once('=') {
            _ if is_toggle(argument) => separated.extend([argument, "true"]),
            // The value is the next argument, whatever it looks like.
            _ if VALUE_FLAGS.contains(&argument) => {
                separated.push(argument);
                separated.extend(arguments.next());
            }
            Some((flag, value)) if VALUE_FLAGS.contains(&flag) => separated.extend([flag, value]),
            Some((flag, _)) if FLAGS.contains(&flag) => {
                return Err(Error::Usage(format!("{argument}: {flag} takes no value")));
            }
            _ => separated.push(argument),
        }
    }
    Ok(separated.into_iter().map(str::to_owned).collect())
}

fn is_toggle(argument: &str) -> bool {
    let flag = argument.strip_prefix("--");
    settings().iter().any(|setting| setting.is_toggle() && flag == Some(setting.flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(arguments: &[&str]) -> Vec<String> {
        separate(arguments).unwrap()
    }

    #[test]
    fn a_value_follows_its_flag_after_a_space_or_an_equals_sign() {
        assert_eq!(separated(&["--max-sources=5"]), ["--max-sources", "5"]);
        assert_eq!(separated(&["--max-sources", "5"]), ["--max-sources", "5"]);
        assert_eq!(separated(&["--capture=a=b"]), ["--capture", "a=b"]);
        assert_eq!(separated(&["--capture="]), ["--capture", ""]);
        assert_eq!(separated(&["--config=--help", "-h"]), ["--config", "--help", "-h"]);
    }

    #[test]
    fn the_value_of_a_flag_is_not_separated() {
        let arguments = ["--capture", "--max-sources=5", "--capture", "--busy-poll"];
        assert_eq!(separated(&arguments), arguments);
        assert_eq!(separated(&["--capture"]), ["--capture"]);
    }

    #[test]
    fn a_toggle_alone_is_true() {
        assert_eq!(separated(&["--busy-poll", "9"]), ["--busy-poll", "true", "9"]);
        assert_eq!(separated(&["--busy-poll=false"]), ["--busy-poll", "false"]);
    }

    #[test]
    fn what_takes_no_value_has_none() {
        for argument in ["--version=1", "--help=yes", "--check-config="] {
            let error = separate(&[argument]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{argument}: ")), "{error}");
            assert!(error.contains("takes no value\nUsage: "), "{error}");
        }
    }

    #[test]
    fn anything_else_is_left_to_the_parser() {
        let arguments = ["9090", "", "-x=5", "--max-source=5", "=", "--"];
        assert_eq!(separated(&arguments), arguments);
    }
}
