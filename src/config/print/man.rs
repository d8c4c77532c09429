//! The manual page, in the `man` macros of roff.

use std::fmt::Write;

use super::super::environment::variable;
use super::super::setting::{Effect, Group, Setting};
use super::super::settings;
use super::{
    COMMANDS, EXAMPLE_FILE, EXAMPLES, EXIT_STATUSES, JOURNAL_COMMANDS, JournalCommand, ORIGINS,
    PURPOSE, SIGNALS, VALUES,
};

/// Returns the manual page.
pub(super) fn page() -> String {
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.line(&format!(".TH EVENTSERVER 1 \"\" \"eventserver {version}\" \"User Commands\""));
    page.section("NAME");
    page.line("eventserver \\- event server for the follower maze protocol");
    page.section("SYNOPSIS");
    page.line("\\fBeventserver\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR] [\\fB\\-\\-FLAG\\fR \\fIVALUE\\fR]...");
    page.line(".br");
    page.line("\\fBeventserver journal verify\\fR|\\fBdump\\fR|\\fBrepair\\fR \\fIDIR\\fR");
    page.section("DESCRIPTION");
    page.text(PURPOSE);
    page.paragraph(
        "Once the listeners are open, one line on standard output names their addresses. The log \
                    goes to standard error.",
    );
    page.section("OPTIONS");
    for group in Group::ALL {
        page.subsection(group.title());
        for setting in settings().iter().filter(|setting| setting.group == group) {
            page.setting(setting);
        }
    }
    page.subsection("Other");
    for command in &COMMANDS {
        let short = command.short.map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
        page.entry(&format!("{short}{}", flag(command.flag, command.value)), command.help);
    }
    page.section("JOURNAL");
    for JournalCommand { name, help, flag } in JOURNAL_COMMANDS {
        let optional = flag.map(|(flag, _)| format!(" [\\fB\\-\\-{}\\fR]", escaped(flag)));
        let term = format!(
            "\\fBeventserver journal {name}\\fR{} \\fIDIR\\fR",
            optional.unwrap_or_default()
        );
        let flag = flag.map(|(flag, help)| format!(" --{flag}: {help}."));
        page.entry(&term, &format!("{}{}", sentence(help), flag.unwrap_or_default()));
    }
    page.section("VALUES");
    page.text(VALUES);
    page.section("CONFIGURATION FILE AND ENVIRONMENT");
    page.text(ORIGINS);
    page.line(".PP");
    page.example(EXAMPLE_FILE);
    page.section("SIGNALS");
    for (name, meaning) in SIGNALS {
        page.entry(&format!("\\fB{}\\fR", escaped(name)), meaning);
    }
    page.section("EXIT STATUS");
    for (status, meaning) in EXIT_STATUSES {
        page.entry(&format!("\\fB{status}\\fR"), meaning);
    }
    page.section("EXAMPLES");
    for (line, meaning) in EXAMPLES {
        page.line(".PP");
        page.text(&format!("{}{}:", meaning[..1].to_uppercase(), &meaning[1..]));
        page.example(line);
    }
    page.section("SEE ALSO");
    page.text("nc(1), systemd.service(5), systemd.socket(5)");
    page.0
}

/// A page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Appends a line of roff.
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SH \"{title}\"");
    }

    fn subsection(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SS {title}");
    }

    fn text(&mut self, text: &str) {
        self.line(&escaped(text));
    }

    fn paragraph(&mut self, text: &str) {
        self.line(".PP");
        self.text(text);
    }

    /// Appends a line of text as it is.
    fn example(&mut self, text: &str) {
        let _ = writeln!(self.0, ".RS 4\n.nf\n{}\n.fi\n.RE", escaped(text));
    }

    /// Appends a term, in roff, and its description.
    fn entry(&mut self, term: &str, description: &str) {
        let _ = writeln!(self.0, ".TP\n{term}");
        self.text(description);
    }

    fn setting(&mut self, setting: &Setting) {
        let value = (!setting.is_toggle()).then_some(setting.value);
        let effect = match setting.effect {
            Effect::Reload => "Changes while the server runs.",
            Effect::Restart => "Needs a restart to change.",
        };
        let help = sentence(setting.help);
        let values = sentence(&setting.values());
        let names = format!("Variable {}, key {}.", variable(setting.flag), setting.key);
        self.entry(&flag(setting.flag, value), &format!("{help} {values} {effect} {names}"));
    }
}

/// Returns a flag with the name of its value, in roff.
fn flag(name: &str, value: Option<&str>) -> String {
    let value = value.map(|value| format!(" \\fI{}\\fR", escaped(value))).unwrap_or_default();
    format!("\\fB\\-\\-{}\\fR{value}", escaped(name))
}

/// Returns a text with a capital at its beginning and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    format!("{}{}.", first.map(String::from).unwrap_or_default(), characters.as_str())
}

/// Escapes what roff would interpret.
fn escaped(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_flag_key_and_variable() {
        let page = page();
        for setting in settings() {
            for name in [&setting.flag.replace('-', "\\-"), setting.key, &variable(setting.flag)] {
                assert!(page.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn what_roff_interprets_is_escaped() {
        assert_eq!(escaped(".a-b\\\"c\""), "\\&.a\\-b\\e\\(dqc\\(dq");
        assert_eq!(sentence("a file"), "A file.");
    }
}
