//! Flags that have no effect together with, or without, another one. They are errors, because the
//! user expects an effect.

use argh::CommandInfoWithArgs;

use super::command_line::CommandLine;

/// A rule about flags of some commands.
struct Rule {
    /// Commands to which it applies; all if empty.
    commands: &'static [&'static str],
    flags: &'static [&'static str],
    condition: Condition,
    reason: &'static str,
}

/// When the flags of a rule have no effect.
enum Condition {
    /// This flag is given too.
    With(&'static str),
    /// None of these flags is given.
    Without(&'static [&'static str]),
}

/// Commands whose server is either started or running.
const WITH_TARGET: &[&str] = &["verify", "latency", "replay", "fairness", "soak", "idle"];

const RULES: [Rule; 19] = [
    Rule {
        commands: &[],
        flags: &[
            "--host",
            "--event-port",
            "--event-listener-port",
            "--client-port",
            "--client-listener-port",
            "--server-pid",
            "--admin",
        ],
        condition: Condition::With("--spawn"),
        reason: "it describes a server that is already running",
    },
    Rule {
        commands: &["verify", "latency", "soak"],
        flags: &[
            "--spawn",
            "--host",
            "--event-port",
            "--event-listener-port",
            "--client-port",
            "--client-listener-port",
            "--server-pid",
            "--admin",
        ],
        condition: Condition::With("--target"),
        reason: "--target names running servers with all of their addresses",
    },
    Rule {
        commands: &["verify"],
        flags: &["--move-every"],
        condition: Condition::Without(&["--target"]),
        reason: "the source has no other server to move to",
    },
    Rule {
        commands: WITH_TARGET,
        flags: &["--server-pid"],
        condition: Condition::With("--admin"),
        reason: "both tell the same figures",
    },
    Rule {
        commands: WITH_TARGET,
        flags: &["--server-arg"],
        condition: Condition::Without(&["--spawn"]),
        reason: "the server is already running",
    },
    Rule {
        commands: WITH_TARGET,
        flags: &["--server-cpu"],
        condition: Condition::Without(&["--spawn", "--relay", "--busy-relay"]),
        reason: "no server is started",
    },
    Rule {
        commands: &[],
        flags: &["--event-port"],
        condition: Condition::With("--event-listener-port"),
        reason: "both are the same setting",
    },
    Rule {
        commands: &[],
        flags: &["--client-port"],
        condition: Condition::With("--client-listener-port"),
        reason: "both are the same setting",
    },
    Rule {
        commands: &["latency"],
        flags: &["--relay", "--busy-relay", "--runs", "--hgrm"],
        condition: Condition::With("--find-knee"),
        reason: "the search measures the server at several rates",
    },
    Rule {
        commands: &["latency"],
        flags: &["--runs"],
        condition: Condition::With("--target"),
        reason: "a stream that servers share does not begin again",
    },
    Rule {
        commands: &["latency"],
        flags: &["--p99-us"],
        condition: Condition::Without(&["--find-knee"]),
        reason: "it is the bound of that search",
    },
    Rule {
        commands: &["limit"],
        flags: &["--rate", "--duration", "--broadcast", "--busy"],
        condition: Condition::Without(&["--relay"]),
        reason: "only the relay's latency is measured at a rate",
    },
    Rule {
        commands: &["limit"],
        flags: &[
            "--mix",
            "--total-events",
            "--number-of-users",
            "--random-seed",
            "--max-event-source-batch-size",
        ],
        condition: Condition::With("--relay"),
        reason: "the relay gets messages at a rate",
    },
    Rule {
        commands: &["verify"],
        flags: &["--restart-every", "--data-dir"],
        condition: Condition::Without(&["--spawn"]),
        reason: "the server is already running",
    },
    Rule {
        commands: &["verify"],
        flags: &["--restart-every"],
        condition: Condition::Without(&["--data-dir"]),
        reason: "without a journal a restart forgets everything",
    },
    Rule {
        commands: &["verify"],
        flags: &["--restarts"],
        condition: Condition::Without(&["--restart-every"]),
        reason: "the server is not restarted",
    },
    Rule {
        commands: &["verify"],
        flags: &["--total-events"],
        condition: Condition::With("--restarts"),
        reason: "the stream ends with the last restart",
    },
    Rule {
        commands: &["replay"],
        flags: &["--speed"],
        condition: Condition::With("--rate"),
        reason: "both set the pace",
    },
    Rule {
        commands: &["soak"],
        flags: &["--minutes"],
        condition: Condition::With("--seconds"),
        reason: "both are the length of the run",
    },
];

/// Checks the flags of a command against each other.
///
/// # Errors
///
/// A flag has no effect; the error names it, and the flag that is the reason.
pub(super) fn check(command: &CommandInfoWithArgs, line: &CommandLine) -> Result<(), String> {
    let applies = |rule: &&Rule| rule.commands.is_empty() || rule.commands.contains(&command.name);
    for Rule { flags, condition, reason, .. } in RULES.iter().filter(applies) {
        let Some(flag) = flags.iter().find(|flag| line.has(flag)) else { continue };
        match condition {
            Condition::With(other) if line.has(other) => {
                return Err(format!("{flag} has no effect with {other}: {reason}"));
            }
            Condition::Without(others) if !others.iter().any(|other| line.has(other)) => {
                let has = |flag: &&&str| command.flags.iter().any(|info| info.long == **flag);
                let others: Vec<&str> = others.iter().filter(has).copied().collect();
                return Err(format!(
                    "{flag} has no effect without {}: {reason}",
                    others.join(" or ")
                ));
            }
            Condition::With(_) | Condition::Without(_) => {}
        }
    }
    check_files(line)
}

/// Flags that name a file to write.
const FILES: [&str; 3] = ["--json", "--report", "--hgrm"];

/// Checks that no two flags name the same file: the second would replace what the first wrote.
fn check_files(line: &CommandLine) -> Result<(), String> {
    let files: Vec<_> =
        FILES.into_iter().filter_map(|flag| Some((flag, line.value_of(flag)?))).collect();
    for (index, (flag, file)) in files.iter().enumerate() {
        // A device, such as /dev/stdout, takes both.
        let is_same = |(_, other): &&(&str, &str)| file == other && !file.starts_with("/dev/");
        if let Some((other, _)) = files[..index].iter().find(is_same) {
            return Err(format!("{other} and {flag} name the same file, {file}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use argh::ArgsInfo;

    use super::*;
    use crate::args::Arguments;

    #[test]
    fn every_rule_is_about_flags_that_exist() {
        let commands = Arguments::get_args_info().commands;
        for rule in &RULES {
            let mut relevant = commands.iter().filter(|command| {
                rule.commands.is_empty() || rule.commands.contains(&command.name)
            });
            let others = match rule.condition {
                Condition::With(other) => vec![other],
                Condition::Without(others) => others.to_vec(),
            };
            assert!(rule.commands.iter().all(|name| commands.iter().any(|one| one.name == *name)));
            let mut has = |flag: &str| {
                relevant.any(|command| command.command.flags.iter().any(|info| info.long == flag))
            };
            assert!(has(rule.flags[0]));
            for flag in rule.flags.iter().chain(&others) {
                let known = |command: &argh::SubCommandInfo| {
                    command.command.flags.iter().any(|info| info.long == *flag)
                };
                assert!(commands.iter().any(known), "{flag}");
            }
        }
    }
}
