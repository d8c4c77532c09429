//! One command's arguments, checked against its flags and brought into the form `--flag value`.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

use super::suggest;

/// What the arguments of a command ask for.
pub(super) enum Request {
    Help,
    Version,
    Run(CommandLine),
}

/// Arguments that `argh` understands.
#[derive(Default)]
pub(super) struct CommandLine {
    pub(super) arguments: Vec<String>,
    /// The long names of the flags among them.
    given: Vec<String>,
    positionals: usize,
}

impl CommandLine {
    /// Reads the arguments of a command.
    ///
    /// # Errors
    ///
    /// A flag is unknown, repeated, or lacks its value or has one too many.
    pub(super) fn read(
        command: &CommandInfoWithArgs,
        arguments: &[&str],
    ) -> Result<Request, String> {
        let mut line = CommandLine::default();
        let mut rest = arguments.iter();
        while let Some(&argument) = rest.next() {
            match argument {
                "-h" | "--help" => return Ok(Request::Help),
                "-V" | "--version" => return Ok(Request::Version),
                "help" => line.arguments.push(argument.to_owned()),
                // All that follows is not a flag.
                "--" => {
                    line.arguments.push(argument.to_owned());
                    for argument in rest.by_ref() {
                        line.add_positional(command, argument)?;
                    }
                }
                _ if argument.starts_with('-') => {
                    line.add_flag(command, argument, || rest.next().copied())?;
                }
                _ => line.add_positional(command, argument)?,
            }
        }
        Ok(Request::Run(line))
    }

    /// Returns whether a flag was given, by its long name.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.given.iter().any(|given| given == flag)
    }

    /// Returns the value of a flag that takes one, by its long name.
    pub(super) fn value_of(&self, flag: &str) -> Option<&str> {
        let index =
            self.has(flag).then(|| self.arguments.iter().position(|name| name == flag))??;
        self.arguments.get(index + 1).map(String::as_str)
    }

    fn add_flag<'a>(
        &mut self,
        command: &CommandInfoWithArgs,
        argument: &'a str,
        next: impl FnOnce() -> Option<&'a str>,
    ) -> Result<(), String> {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        let info = command.flags.iter().find(|info| info.long == name);
        let info = info.ok_or_else(|| unknown_flag(name, command))?;
        if self.has(name) && info.optionality != Optionality::Repeating && takes_value(info) {
            return Err(format!("{name} is given twice"));
        }
        self.given.push(name.to_owned());
        self.arguments.push(name.to_owned());
        match (&info.kind, value) {
            (FlagInfoKind::Switch, Some(_)) => return Err(format!("{name} takes no value")),
            (FlagInfoKind::Switch, None) => {}
            (FlagInfoKind::Option { arg_name }, value) => {
                let value = value.or_else(next).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| format!("{name} needs a value, {arg_name}"))?;
                self.arguments.push(value.to_owned());
            }
        }
        Ok(())
    }

    fn add_positional(
        &mut self,
        command: &CommandInfoWithArgs,
        argument: &str,
    ) -> Result<(), String> {
        let repeats = |info: &PositionalInfo| info.optionality == Optionality::Repeating;
        let may_repeat = command.positionals.last().is_some_and(repeats);
        if self.positionals >= command.positionals.len() && !may_repeat {
            let flag = format!("--{argument}");
            let hint = suggest::did_you_mean(&flag, flags(command));
            return Err(format!("unexpected argument `{argument}`{hint}"));
        }
        self.positionals += 1;
        self.arguments.push(argument.to_owned());
        Ok(())
    }

    /// Names what is required and was not given; `None` if all is there.
    pub(super) fn missing(&self, command: &CommandInfoWithArgs) -> Option<String> {
        let files = command.positionals.iter().skip(self.positionals);
        let files = files.filter(|info| info.optionality == Optionality::Required);
        let files = files.map(|info| info.name.to_owned());
        let is_missing =
            |info: &&FlagInfo| info.optionality == Optionality::Required && !self.has(info.long);
        let flags = command.flags.iter().filter(is_missing).filter_map(|info| match info.kind {
            FlagInfoKind::Option { arg_name } => Some(format!("{} {arg_name}", info.long)),
            FlagInfoKind::Switch => None,
        });
        let missing: Vec<String> = files.chain(flags).collect();
        (!missing.is_empty()).then(|| format!("missing {}", missing.join(" and ")))
    }
}

fn takes_value(info: &FlagInfo) -> bool {
    matches!(info.kind, FlagInfoKind::Option { .. })
}

fn flags(command: &CommandInfoWithArgs) -> impl Iterator<Item = &'static str> {
    command.flags.iter().map(|info| info.long)
}

fn unknown_flag(name: &str, command: &CommandInfoWithArgs) -> String {
    format!("unknown flag {name}{}", suggest::did_you_mean(name, flags(command)))
}
