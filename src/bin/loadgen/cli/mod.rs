//! Parses the command line: what `argh` does not do for itself.
//!
//! ```text
//! arguments ─CommandLine─▶ `--flag value` ─argh─▶ Command ─combinations─▶
//!            `--flag=value`, -h, -V, typing errors
//! ```

pub(crate) mod address;
mod combinations;
mod command_line;
mod help;
pub(crate) mod quantity;
mod suggest;
pub(crate) mod wrap;

use argh::{ArgsInfo, CommandInfoWithArgs, EarlyExit, FromArgs};

use self::command_line::{CommandLine, Request};
use crate::args::{Arguments, Command};

/// The command that runs without arguments.
pub(crate) const DEFAULT_COMMAND: &str = "verify";

/// What the command line asks for.
pub(crate) enum Invocation {
    /// Help or version.
    Print(String),
    Run(Box<Command>),
}

/// Parses the arguments after the program's name.
///
/// # Errors
///
/// They are invalid; the error says why, and what would be valid.
pub(crate) fn parse(arguments: &[&str]) -> Result<Invocation, String> {
    let program = Arguments::get_args_info();
    let command = |name: &str| program.commands.iter().find(|command| command.name == name);
    let (first, rest) = match arguments {
        [] => (DEFAULT_COMMAND, arguments),
        ["-h" | "--help" | "help"] => return Ok(Invocation::Print(help::overview(&program))),
        ["help", name, ..] => (*name, ["--help"].as_slice()),
        ["-V" | "--version", ..] => return Ok(Invocation::Print(version())),
        [first, rest @ ..] => (*first, rest),
    };
    let info = &command(first).ok_or_else(|| unknown_command(first, &program))?.command;
    match CommandLine::read(info, rest)? {
        Request::Help => Ok(Invocation::Print(help::of_command(info))),
        Request::Version => Ok(Invocation::Print(version())),
        Request::Run(line) => {
            let arguments: Vec<&str> =
                [first].into_iter().chain(line.arguments.iter().map(String::as_str)).collect();
            match Arguments::from_args(&["loadgen"], &arguments) {
                Ok(arguments) => {
                    combinations::check(info, &line)?;
                    Ok(Invocation::Run(Box::new(arguments.command)))
                }
                // The word `help` among the arguments.
                Err(EarlyExit { status: Ok(()), .. }) => {
                    Ok(Invocation::Print(help::of_command(info)))
                }
                Err(EarlyExit { output, status: Err(()) }) => Err(invalid_value(&output)
                    .or_else(|| line.missing(info))
                    .unwrap_or_else(|| output.trim_end().to_owned())),
            }
        }
    }
}

/// Returns where to read more, for a second line of an error.
pub(crate) fn pointer_to_help(arguments: &[&str]) -> String {
    let program = Arguments::get_args_info();
    let is_command = |name: &&&str| program.commands.iter().any(|command| command.name == **name);
    match arguments.first().filter(is_command) {
        Some(command) => format!("`loadgen {command} --help` explains its flags"),
        None => "`loadgen --help` lists commands, variables and exit statuses".to_owned(),
    }
}

fn version() -> String {
    concat!("loadgen ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn unknown_command(name: &str, program: &CommandInfoWithArgs) -> String {
    if name.starts_with('-') {
        let (flag, _) = name.split_once('=').unwrap_or((name, ""));
        let has_flag = |command: &&argh::SubCommandInfo| {
            command.command.flags.iter().any(|info| info.long == flag)
        };
        return match program.commands.iter().find(has_flag) {
            Some(command) => {
                format!("{flag} comes after a command, as in `loadgen {} {name}`", command.name)
            }
            None => format!("unknown flag {flag}; flags come after a command"),
        };
    }
    let names = program.commands.iter().map(|command| command.name);
    format!("`{name}` is not a command{}", suggest::did_you_mean(name, names))
}

/// Shortens the message of `argh` for a value that a flag does not accept; `None` if it is another
/// message.
fn invalid_value(message: &str) -> Option<String> {
    let rest = message.trim_end().strip_prefix("Error parsing option '")?;
    let (flag, rest) = rest.split_once("' with value '")?;
    let (value, why) = rest.split_once("': ")?;
    Some(format!("{flag} {value}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        match parse(&arguments) {
            Err(message) => message,
            Ok(Invocation::Print(text)) => panic!("printed {text}"),
            Ok(Invocation::Run(_)) => panic!("{arguments:?} is accepted"),
        }
    }

    fn printed(arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        match parse(&arguments) {
            Ok(Invocation::Print(text)) => text,
            Ok(Invocation::Run(_)) => panic!("{arguments:?} runs"),
            Err(message) => panic!("{message}"),
        }
    }

    fn command(arguments: &str) -> Command {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        match parse(&arguments) {
            Ok(Invocation::Run(command)) => *command,
            Ok(Invocation::Print(text)) => panic!("printed {text}"),
            Err(message) => panic!("{message}"),
        }
    }

    #[test]
    fn values_follow_a_space_or_an_equals_sign() {
        for arguments in
            ["verify --total-events=1e6 --mix=even", "verify --total-events 1M --mix even"]
        {
            let Command::Verify(flags) = command(arguments) else { panic!("{arguments}") };
            assert_eq!(flags.total_events, Some(1_000_000));
            assert_eq!(flags.mix.unwrap().to_string(), "even");
        }
        // A value may contain an equals sign and begin with a dash.
        let Command::Verify(flags) = command("verify --spawn --server-arg=--a=b --random-seed -7")
        else {
            panic!()
        };
        assert_eq!(flags.server_arg, ["--a=b"]);
        assert_eq!(flags.random_seed, Some(-7));
    }

    #[test]
    fn help_and_version_everywhere() {
        for arguments in ["--help", "-h", "help"] {
            assert!(printed(arguments).contains("Commands:"), "{arguments}");
        }
        for arguments in [
            "verify --help",
            "verify -h",
            "help verify",
            "verify help",
            "verify --spawn -h",
            "pubsub -h",
        ] {
            assert!(printed(arguments).starts_with("Usage: loadgen "), "{arguments}");
        }
        for arguments in ["--version", "-V", "verify -V", "soak --spawn --version"] {
            assert_eq!(printed(arguments), version(), "{arguments}");
        }
    }

    #[test]
    fn typing_errors_get_a_suggestion() {
        for (arguments, suggestion) in [
            ("verfy", "did you mean verify?"),
            ("laten", "did you mean latency?"),
            ("verify --total-event 5", "did you mean --total-events?"),
            ("verify --clients 5", "did you mean --concurrency-level?"),
            ("verify --spwan", "did you mean --spawn?"),
            ("latency --concurrency-level=5", "did you mean --clients?"),
            ("verify spawn", "did you mean --spawn?"),
            ("--spawn", "as in `loadgen verify --spawn`"),
            ("--find-knee", "as in `loadgen latency --find-knee`"),
        ] {
            assert!(error(arguments).contains(suggestion), "{arguments}: {}", error(arguments));
        }
        assert_eq!(error("frobnicate"), "`frobnicate` is not a command");
        assert_eq!(error("verify --frobnicate"), "unknown flag --frobnicate");
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (arguments, message) in [
            (
                "verify --timeout soon",
                "--timeout soon: expected ms from 1 to 86400000, or a time such as 5s",
            ),
            ("verify --mix", "--mix needs a value, MIX"),
            ("verify --mix=", "--mix needs a value, MIX"),
            ("verify --spawn=yes", "--spawn takes no value"),
            ("verify --mix even --mix=feed", "--mix is given twice"),
            ("verify x", "unexpected argument `x`"),
            ("replay", "missing FILE"),
            ("pubsub --dialect redis", "missing --port PORT"),
        ] {
            assert!(error(arguments).contains(message), "{arguments}: {}", error(arguments));
        }
    }
}
