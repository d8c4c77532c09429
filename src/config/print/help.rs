//! The text of `--help`.

use std::fmt::Write;

use super::super::setting::{Effect, Group, Setting};
use super::super::settings;
use super::{
    COMMANDS, EXAMPLE_FILE, EXAMPLES, EXIT_STATUSES, JOURNAL_COMMANDS, JournalCommand, ORIGINS,
    PURPOSE, SIGNALS, VALUES,
};

/// The width of a terminal that shows the text without breaks.
const WIDTH: usize = 80;

/// The column of descriptions. The longest flag with its value ends before it.
const COLUMN: usize = 34;

/// Returns the text of `--help`, in groups.
pub(crate) fn help() -> String {
    let mut out = String::from("Usage: eventserver [--config FILE] [--FLAG VALUE]...\n\n");
    paragraph(&mut out, 0, PURPOSE);
    out.push_str("Without flags the server runs on the defaults.\n");
    let settings = settings();
    for group in Group::ALL {
        heading(&mut out, group.title());
        for setting in settings.iter().filter(|setting| setting.group == group) {
            entry(&mut out, &setting.usage(), &description(setting));
        }
    }
    heading(&mut out, "Other");
    for command in &COMMANDS {
        entry(&mut out, &command.usage(), command.help);
    }
    heading(&mut out, "Journal (eventserver journal --help)");
    for JournalCommand { name, help, .. } in JOURNAL_COMMANDS {
        entry(&mut out, &format!("journal {name} DIR"), help);
    }
    heading(&mut out, "Values");
    paragraph(&mut out, 2, VALUES);
    heading(&mut out, "Origins");
    paragraph(&mut out, 2, ORIGINS);
    let _ = writeln!(out, "\n  {EXAMPLE_FILE}");
    heading(&mut out, "Signals");
    table(&mut out, &SIGNALS);
    heading(&mut out, "Exit status");
    table(&mut out, &EXIT_STATUSES);
    heading(&mut out, "Examples");
    for (line, meaning) in EXAMPLES {
        let _ = writeln!(out, "  {line}\n      {meaning}");
    }
    out
}

/// A space at which no line is broken.
const NO_BREAK: &str = "\u{a0}";

fn description(setting: &Setting) -> String {
    let mark = if setting.effect == Effect::Reload { " *" } else { "" };
    let values = setting.values().replace(": ", &format!(":{NO_BREAK}"));
    format!("{} [{values}]{mark}", setting.help)
}

fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n{title}:");
}

/// Appends a flag and its description beside it.
fn entry(out: &mut String, flag: &str, description: &str) {
    let mut first = format!("  {flag}");
    for line in wrap(description, WIDTH - COLUMN) {
        let _ = writeln!(out, "{first:COLUMN$}{line}");
        first.clear();
    }
}

fn table(out: &mut String, rows: &[(&str, &str)]) {
    for (name, meaning) in rows {
        let mut first = format!("  {name}");
        for line in wrap(meaning, WIDTH - 20) {
            let _ = writeln!(out, "{first:20}{line}");
            first.clear();
        }
    }
}

fn paragraph(out: &mut String, indent: usize, text: &str) {
    for line in wrap(text, WIDTH - indent) {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
}

/// Breaks a text at spaces into lines of at most `width` characters. A longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let word = word.replace(NO_BREAK, " ");
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdef g", 4), ["abcdef", "g"]);
        assert_eq!(wrap("ab c\u{a0}d", 4), ["ab", "c d"]);
    }

    #[test]
    fn the_text_fits_a_terminal_of_80_columns() {
        let text = help();
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(WIDTH), "{longest:?}: {text}");
    }

    #[test]
    fn every_flag_fits_beside_its_description() {
        let flags = settings().into_iter().map(|setting| setting.usage());
        for flag in flags.chain(COMMANDS.iter().map(Command::usage)) {
            assert!(flag.len() + 3 <= COLUMN, "{flag}");
        }
    }
}
