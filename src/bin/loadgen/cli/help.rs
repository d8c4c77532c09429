//! The text of `--help`: flags in groups, with the names of their values, defaults and examples.

use std::fmt::Write as _;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

use super::wrap::{wrap, wrap_after};
use crate::args::HELP_GROUPS;
use crate::commands::EXIT_STATUSES;

/// Columns of a description.
const INDENT: usize = 26;
const COMMAND_INDENT: usize = 12;

/// Flags of every command, and the one of them that `argh` lists.
const ALWAYS: [(&str, &str); 2] = [
    ("-h, --help", "print the flags of a command, or the commands"),
    ("-V, --version", "print the version"),
];
const HELP: &str = "--help";

/// Environment variables of the original verification program, and the flags that override them.
const VARIABLES: [(&str, &str); 10] = [
    ("logLevel", "--log-level [default: info]"),
    ("eventListenerPort", "--event-port [default: 9090]"),
    ("clientListenerPort", "--client-port [default: 9099]"),
    ("totalEvents", "--total-events [default: 10000000]"),
    ("concurrencyLevel", "--concurrency-level [default: 100]"),
    ("numberOfUsers", "--number-of-users [default: 10 × concurrencyLevel]"),
    ("randomSeed", "--random-seed [default: 666]"),
    ("timeout", "--timeout [default: 20000 ms]"),
    ("maxEventSourceBatchSize", "--max-event-source-batch-size [default: 100]"),
    ("logInterval", "--log-interval [default: 1000 ms]"),
];

/// Returns the help of the program.
pub(super) fn overview(program: &CommandInfoWithArgs) -> String {
    let mut text = format!(
        "Usage: loadgen [COMMAND] [FLAGS]\n\n{}\n\nCommands:\n",
        wrap(program.description, 0)
    );
    for command in &program.commands {
        push_row(&mut text, command.name, command.command.description, COMMAND_INDENT);
    }
    text.push_str("\nAll commands:\n");
    push_always(&mut text);
    text.push_str("\nExamples:\n");
    for example in ["loadgen verify --spawn", "loadgen latency --spawn --rate 20k --relay"] {
        let _ = writeln!(text, "  {example}");
    }
    text.push('\n');
    text.push_str(&wrap(
        "Values: numbers may be written 1000000, 1_000_000, 1e6 or 1M; times 5s, 200ms, 2m; \
         --flag=value is the same as --flag value.",
        0,
    ));
    text.push_str("\n\n");
    text.push_str(&wrap(
        "Without a command, loadgen replaces the original verification program: it runs `verify` with \
         that program's environment variables. Flags override variables:",
        0,
    ));
    text.push('\n');
    for (name, flag) in VARIABLES {
        push_row(&mut text, name, flag, INDENT + 2);
    }
    push_statuses(&mut text);
    text
}

/// Returns the help of a command.
pub(super) fn of_command(command: &CommandInfoWithArgs) -> String {
    let mut text = format!("Usage: loadgen {}", command.name);
    for positional in command.positionals {
        let _ = write!(text, " {}", positional.name);
    }
    for flag in command.flags.iter().filter(|flag| flag.optionality == Optionality::Required) {
        let _ = write!(text, " {}", heading(flag));
    }
    text.push_str(" [FLAGS]\n");
    for paragraph in [command.description].iter().chain(command.notes) {
        let _ = write!(text, "\n{}\n", wrap(paragraph, 0));
    }
    if !command.positionals.is_empty() {
        text.push_str("\nArguments:\n");
        for positional in command.positionals {
            push_row(&mut text, positional.name, positional.description, INDENT);
        }
    }
    let is_listed = |flag: &&FlagInfo| {
        flag.long == HELP || HELP_GROUPS.iter().any(|(_, names)| names.contains(&flag.long))
    };
    let own = command.flags.iter().filter(|flag| !is_listed(flag));
    push_group(&mut text, command.name, "Options", own);
    for (title, names) in HELP_GROUPS {
        let flags =
            names.iter().filter_map(|name| command.flags.iter().find(|flag| flag.long == *name));
        push_group(&mut text, command.name, title, flags);
    }
    push_always(&mut text);
    if !command.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for example in command.examples {
            let _ = writeln!(text, "  {}", wrap_after(2, example, 6));
        }
    }
    push_statuses(&mut text);
    text
}

fn push_group<'a>(
    text: &mut String,
    command: &str,
    title: &str,
    flags: impl Iterator<Item = &'a FlagInfo<'static>>,
) {
    let mut flags = flags.peekable();
    if flags.peek().is_none() {
        return;
    }
    let _ = write!(text, "\n{title}:\n");
    for flag in flags {
        push_row(text, &heading(flag), &with_default_of(command, flag.description), INDENT);
    }
}

/// Returns a description with the default of one command, where the text has those of several:
/// `[default: 10M; limit, pinned: 2M]`.
fn with_default_of(command: &str, description: &str) -> String {
    let is_of_command = |part: &str| part.split(", ").any(|name| name == command);
    let defaults = description.strip_suffix(']').and_then(|text| text.split_once("[default: "));
    let Some((text, (general, others))) =
        defaults.and_then(|(text, defaults)| Some((text, defaults.split_once("; ")?)))
    else {
        return description.to_owned();
    };
    let mut others = others.split("; ").filter_map(|other| other.split_once(": "));
    let own = others.find(|(commands, _)| is_of_command(commands));
    format!("{text}[default: {}]", own.map_or(general, |(_, value)| value))
}

/// Returns a flag with the name of its value.
fn heading(flag: &FlagInfo) -> String {
    match flag.kind {
        FlagInfoKind::Switch => flag.long.to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} {arg_name}", flag.long),
    }
}

/// Appends a name and its description, in the next line if the name is long.
fn push_row(text: &mut String, name: &str, description: &str, indent: usize) {
    let width = name.chars().count() + 2;
    let gap = if width + 2 > indent {
        format!("\n{}", " ".repeat(indent))
    } else {
        " ".repeat(indent - width)
    };
    let _ = writeln!(
        text,
        "  {name}{gap}{}",
        wrap_after(indent, &unbroken(description), indent).replace(NO_BREAK, " ")
    );
}

/// A space at which text is not wrapped.
const NO_BREAK: char = '\u{a0}';

/// Keeps a default together.
fn unbroken(description: &str) -> String {
    description.replace("[default: ", &format!("[default:{NO_BREAK}"))
}

fn push_always(text: &mut String) {
    ALWAYS.iter().for_each(|(flag, meaning)| push_row(text, flag, meaning, INDENT));
}

fn push_statuses(text: &mut String) {
    text.push_str("\nExit status:\n");
    for (status, meaning) in EXIT_STATUSES {
        push_row(text, status, meaning, COMMAND_INDENT);
    }
}

#[cfg(test)]
mod tests {
    use argh::ArgsInfo;

    use super::super::wrap::WIDTH;
    use super::*;
    use crate::args::Arguments;

    #[test]
    fn everything_fits_a_terminal() {
        let program = Arguments::get_args_info();
        let commands = program.commands.iter().map(|command| of_command(&command.command));
        for text in commands.chain([overview(&program)]) {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH && line.trim_end() == line, "{line}");
            }
        }
    }

    #[test]
    fn every_flag_is_explained_once() {
        for command in Arguments::get_args_info().commands {
            let text = of_command(&command.command);
            for flag in command.command.flags.iter().filter(|flag| flag.long != HELP) {
                let heading = format!("\n  {}", heading(flag));
                let count = text.matches(&format!("{heading} ")).count()
                    + text.matches(&format!("{heading}\n")).count();
                assert_eq!(count, 1, "{} {}", command.name, flag.long);
            }
        }
    }

    #[test]
    fn a_command_has_its_own_default() {
        let text = "events [default: 10M; limit, pinned: 2M]";
        assert_eq!(with_default_of("verify", text), "events [default: 10M]");
        assert_eq!(with_default_of("pinned", text), "events [default: 2M]");
        assert_eq!(with_default_of("pinned", "events [default: 1; 2]"), "events [default: 1]");
        for plain in ["events [default: 10M]", "events", "a list [a; b: c]"] {
            assert_eq!(with_default_of("pinned", plain), plain);
        }
    }

    #[test]
    fn groups_name_flags_that_exist() {
        let commands = Arguments::get_args_info().commands;
        let exists = |name: &str| {
            commands.iter().any(|one| one.command.flags.iter().any(|flag| flag.long == name))
        };
        for name in HELP_GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(exists(name), "{name}");
        }
    }
}
