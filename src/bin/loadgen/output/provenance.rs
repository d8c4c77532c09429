//! Where a result comes from: command line, date, version and commit.

use std::path::Path;
use std::process::Command;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, if the build was told of it: for builds outside a repository.
const BUILD_COMMIT: Option<&str> = option_env!("EVENTSERVER_COMMIT");

/// Returns the arguments of this process. The program is named without its directory, so that
/// results of two checkouts do not differ.
pub(super) fn command() -> Vec<String> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let mut arguments: Vec<String> = arguments.collect();
    if let Some(program) = arguments.first_mut() {
        "loadgen".clone_into(program);
    }
    arguments
}

/// Returns the time in UTC, in whole seconds.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// Returns the commit that this program was built from, with `-dirty` for uncommitted changes.
/// Unless the build was told of it, it is the present commit of the source directory; `None` if
/// that is not a repository.
pub(super) fn commit() -> Option<String> {
    if let Some(commit) = BUILD_COMMIT {
        return Some(commit.to_owned());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Without a repository of its own, a surrounding one would answer.
    if !source.join(".git").exists() {
        return None;
    }
    let git = Command::new("git")
        .arg("-C")
        .arg(source)
        .args([
            "--no-optional-locks",
            "describe",
            "--always",
            "--dirty",
            "--exclude=*",
            "--abbrev=10",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&git.stdout).trim().to_owned()).filter(|commit| !commit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_in_whole_seconds_of_utc() {
        let now = now();
        assert_eq!(now.len(), "2026-01-31T12:00:00Z".len(), "{now}");
        assert!(now.ends_with('Z'), "{now}");
    }
}
