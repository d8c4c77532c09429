//! Texts that are made from the table of settings: help, manual page, shell completions.

mod completions;
mod help;
mod man;

pub(super) use help::help;

use super::error::Error;

/// A text for other programs, printed by `--print`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    Man,
    Bash,
    Zsh,
    Fish,
    Unit,
}

impl Printed {
    pub(super) const ALL: [Printed; 5] =
        [Printed::Man, Printed::Bash, Printed::Zsh, Printed::Fish, Printed::Unit];

    /// Returns the text of this name.
    ///
    /// # Errors
    ///
    /// No text has this name.
    pub(super) fn named(name: &str) -> Result<Printed, Error> {
        let known = Printed::ALL.into_iter().find(|printed| printed.name() == name);
        known.ok_or_else(|| {
            let names = Printed::ALL.map(Printed::name).join(", ");
            Error::Usage(format!("--print {name}: must be one of {names}"))
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Printed::Man => "man",
            Printed::Bash => "completions-bash",
            Printed::Zsh => "completions-zsh",
            Printed::Fish => "completions-fish",
            Printed::Unit => "unit",
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Printed::Man => man::page(),
            Printed::Bash => completions::bash(),
            Printed::Zsh => completions::zsh(),
            Printed::Fish => completions::fish(),
            Printed::Unit => include_str!("../../packaging/eventserver.service").to_owned(),
        }
    }
}

/// A flag that is no setting.
struct Command {
    flag: &'static str,
    short: Option<&'static str>,
    /// The name of the flag's value, if it takes one.
    value: Option<&'static str>,
    help: &'static str,
}

/// The flags that are no settings, in the order of help.
const COMMANDS: [Command; 5] = [
    Command {
        flag: "config",
        short: None,
        value: Some("FILE"),
        help: "read settings from this JSON file",
    },
    Command {
        flag: "check-config",
        short: None,
        value: None,
        help: "check flags, variables and file, print the effective settings as such a file, and exit",
    },
    Command {
        flag: "print",
        short: None,
        value: Some("WHAT"),
        help: "print a text made for other programs and exit: man, completions-bash, completions-zsh, \
               completions-fish or unit (for systemd)",
    },
    Command { flag: "version", short: Some("V"), value: None, help: "print the version and exit" },
    Command { flag: "help", short: Some("h"), value: None, help: "print this help and exit" },
];

impl Command {
    fn usage(&self) -> String {
        let short = self.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let value = self.value.map(|value| format!(" {value}")).unwrap_or_default();
        format!("{short}--{}{value}", self.flag)
    }
}

/// The commands of `eventserver journal`, which `server::run_journal_tool` runs. Each takes a directory.
const JOURNAL_COMMANDS: [JournalCommand; 3] = [
    JournalCommand {
        name: "verify",
        help: "check all files of a journal, and say what a server would start from",
        flag: None,
    },
    JournalCommand {
        name: "dump",
        help: "print its events, as a stream for loadgen replay",
        flag: None,
    },
    JournalCommand {
        name: "repair",
        help: "cut a corrupt journal at the first bad batch, and keep what is cut off",
        flag: Some(("dry-run", "only say what would be done")),
    },
];

/// What `eventserver journal` is for.
const JOURNAL_PURPOSE: &str = "check, print or repair the journal of a server that does not run";

/// A command of `eventserver journal`.
struct JournalCommand {
    name: &'static str,
    help: &'static str,
    /// A flag of its own and the description of that.
    flag: Option<(&'static str, &'static str)>,
}

/// What the program does, in one sentence.
const PURPOSE: &str = "Puts a numbered stream of events in order and forwards each event to the connected \
                       clients among its recipients.";

/// How values may be written.
const VALUES: &str = "Sizes are in bytes or have a unit: 65536, 64KiB, 4MiB, 1GiB (k, M and G alone count as \
                      KiB, MiB and GiB; kB, MB and GB are powers of 1000). Times are in milliseconds or \
                      have a unit: 200ms, 5s, 2m, 1h. Counts may be written 1000000, 1_000_000 or 1e6. \
                      The value none switches an optional setting off. --FLAG=VALUE is the same as --FLAG \
                      VALUE.";

/// Where settings come from.
const ORIGINS: &str = "Flags override environment variables, which override the file of --config, which \
                       overrides the defaults. The variable of a flag is its name in capitals: \
                       EVENTSERVER_CLIENT_LISTEN for --client-listen, EVENTSERVER_CONFIG for --config. \
                       An empty variable counts as unset. The file is a JSON object; its keys are \
                       eventListenerPort, eventListenerAddress, clientListenerPort, \
                       clientListenerAddress, and the other flags in camelCase.";

/// A configuration file.
const EXAMPLE_FILE: &str =
    r#"{"eventListenerPort": 9090, "clientListenerPort": 9099, "gapTimeoutMs": "5s"}"#;

/// The signals and their effects.
const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGINT, SIGTERM",
        "stop, after what was read is delivered; again a second later: exit at once",
    ),
    ("SIGHUP", "read the settings again; those marked * change while the server runs"),
    ("SIGUSR1", "log the totals"),
];

/// The exit statuses and their meanings.
const EXIT_STATUSES: [(&str, &str); 4] = [
    ("0", "stopped by SIGINT or SIGTERM"),
    ("1", "running failed, or a second signal ended the shutdown"),
    ("2", "the flags, a variable or the file are wrong"),
    ("3", "the journal is corrupt"),
];

/// Command lines and what they do.
const EXAMPLES: [(&str, &str); 3] = [
    ("eventserver --client-listen 0.0.0.0:9099 --gap-timeout-ms 5s", "open to clients elsewhere"),
    ("eventserver --config events.json --check-config", "check a file"),
    ("EVENTSERVER_LOG_FORMAT=json eventserver --max-clients 1e5", "log for programs"),
];
