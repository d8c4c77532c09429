//! Completions for shells.

use std::fmt::Write;

use super::super::settings;
use super::{COMMANDS, JOURNAL_COMMANDS, JOURNAL_PURPOSE, JournalCommand, Printed};

/// A flag as completions describe it.
struct Flag {
    name: &'static str,
    short: Option<&'static str>,
    help: &'static str,
    values: Values,
}

/// The values that may follow a flag.
enum Values {
    /// The flag takes no value, or needs none.
    Nothing,
    Words(Vec<&'static str>),
    File,
    /// A number, an address or a time, which completions cannot know.
    Anything,
}

fn flags() -> Vec<Flag> {
    let settings = settings().into_iter().map(|setting| Flag {
        name: setting.flag,
        short: None,
        help: setting.help,
        values: match setting.is_toggle() {
            true => Values::Nothing,
            false if setting.is_file() => Values::File,
            false if setting.names.is_empty() => Values::Anything,
            false => Values::Words(setting.names),
        },
    });
    let commands = COMMANDS.iter().map(|command| Flag {
        name: command.flag,
        short: command.short,
        help: command.help,
        values: match command.value {
            None => Values::Nothing,
            Some("FILE") => Values::File,
            Some(_) => Values::Words(Printed::ALL.map(Printed::name).to_vec()),
        },
    });
    settings.chain(commands).collect()
}

/// Returns the completion function of bash.
pub(super) fn bash() -> String {
    let flags = flags();
    let names: Vec<String> = flags.iter().map(|flag| format!("--{}", flag.name)).collect();
    let mut cases = String::new();
    for flag in &flags {
        let words = match &flag.values {
            Values::Nothing => continue,
            Values::Words(words) => {
                format!("COMPREPLY=($(compgen -W '{}' -- \"$word\"))", words.join(" "))
            }
            Values::File => {
                "mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); compopt -o filenames".to_owned()
            }
            Values::Anything => "COMPREPLY=()".to_owned(),
        };
        let _ = writeln!(cases, "        --{}) {words}; return ;;", flag.name);
    }
    let commands = JOURNAL_COMMANDS.map(|command| command.name).join(" ");
    let mut journal_flags = String::new();
    for JournalCommand { name, flag, .. } in JOURNAL_COMMANDS {
        let flag = flag.map(|(flag, _)| format!("--{flag} ")).unwrap_or_default();
        let _ = writeln!(
            journal_flags,
            "        {name}) COMPREPLY=($(compgen -W '{flag}--help' -- \"$word\")) ;;"
        );
    }
    format!(
        r#"# Completion of eventserver for bash.
_eventserver_journal() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    if [[ $COMP_CWORD == 2 ]]; then
        COMPREPLY=($(compgen -W '{commands} --help' -- "$word"))
        return
    fi
    if [[ $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        compopt -o filenames 2>/dev/null
        return
    fi
    case ${{COMP_WORDS[2]}} in
{journal_flags}    esac
}}
_eventserver() {{
    COMPREPLY=()
    if [[ $COMP_CWORD -gt 1 && ${{COMP_WORDS[1]}} == journal ]]; then
        _eventserver_journal
        return
    fi
    local word=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD - 1]}}
    # Bash takes `=` for a word of its own.
    if [[ $word == = ]]; then
        word=
    elif [[ $flag == = ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $flag in
{cases}    esac
    COMPREPLY=($(compgen -W '{}' -- "$word"))
    if [[ $COMP_CWORD == 1 && journal == "$word"* ]]; then
        COMPREPLY+=(journal)
    fi
}}
complete -F _eventserver eventserver
"#,
        names.join(" ")
    )
}

/// Returns the completion function of zsh.
pub(super) fn zsh() -> String {
    let mut specs = String::new();
    for flag in flags() {
        let help = zsh_escaped(flag.help);
        let value = match &flag.values {
            Values::Nothing => String::new(),
            Values::Words(words) => format!(":value:({})", words.join(" ")),
            Values::File => ":file:_files".to_owned(),
            Values::Anything => ":value: ".to_owned(),
        };
        let equals = if value.is_empty() { "" } else { "=" };
        let _ = writeln!(specs, "    '--{}{equals}[{help}]{value}' \\", flag.name);
        if let Some(short) = flag.short {
            let _ = writeln!(specs, "    '-{short}[{help}]' \\");
        }
    }
    let mut commands = String::new();
    let mut journal_flags = String::new();
    for JournalCommand { name, help, flag } in JOURNAL_COMMANDS {
        let _ = write!(commands, " {name}\\:'{}'", zsh_quoted(help));
        if let Some((flag, help)) = flag {
            let help = zsh_escaped(help);
            let _ = writeln!(
                journal_flags,
                "    [[ $words[2] == {name} ]] && flags+=('--{flag}[{help}]')"
            );
        }
    }
    format!(
        r#"#compdef eventserver
# Completion of eventserver for zsh.
if (( CURRENT > 2 )) && [[ $words[2] == journal ]]; then
    shift words
    (( CURRENT-- ))
    local -a flags=('--help[print help]')
{journal_flags}    _arguments $flags "1:command:(({commands}))" '2:directory:_directories'
    return
fi
_arguments \
{specs}    "1:command:((journal\:'{}'))" && return 0
"#,
        zsh_quoted(JOURNAL_PURPOSE)
    )
}

/// Escapes a description within single quotes that are within double quotes.
fn zsh_quoted(text: &str) -> String {
    text.replace('\'', "").replace(':', "\\:")
}

/// Escapes a description within brackets and single quotes.
fn zsh_escaped(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

/// Returns the completion commands of fish.
pub(super) fn fish() -> String {
    let mut out =
        String::from("# Completion of eventserver for fish.\ncomplete -c eventserver -f\n");
    let command = |out: &mut String, condition: &str, what: &str, help: &str| {
        let help = fish_escaped(help);
        let _ = writeln!(out, "complete -c eventserver -n '{condition}' {what} -d '{help}'");
    };
    let names = JOURNAL_COMMANDS.map(|command| command.name).join(" ");
    let seen = "__fish_seen_subcommand_from";
    command(&mut out, "__fish_is_first_token", "-a journal", JOURNAL_PURPOSE);
    for JournalCommand { name, help, flag } in JOURNAL_COMMANDS {
        let condition = format!("{seen} journal; and not {seen} {names}");
        command(&mut out, &condition, &format!("-a {name}"), help);
        if let Some((flag, help)) = flag {
            command(&mut out, &format!("{seen} {name}"), &format!("-l {flag}"), help);
        }
    }
    let directories = "-a '(__fish_complete_directories)'";
    command(&mut out, &format!("{seen} {names}"), directories, "directory of the journal");
    for flag in flags() {
        let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = match &flag.values {
            Values::Nothing => String::new(),
            Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            Values::File => " -r -F".to_owned(),
            Values::Anything => " -x".to_owned(),
        };
        let help = fish_escaped(flag.help);
        let condition = match flag.name {
            "help" => String::new(),
            _ => format!(" -n 'not {seen} journal'"),
        };
        let _ = writeln!(
            out,
            "complete -c eventserver -l {}{short}{value}{condition} -d '{help}'",
            flag.name
        );
    }
    out
}

/// Escapes a description within single quotes.
fn fish_escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_flag() {
        for (shell, before) in [(bash(), "--"), (zsh(), "'--"), (fish(), "-l ")] {
            for flag in flags() {
                assert!(
                    shell.contains(&format!("{before}{}", flag.name)),
                    "{}: {shell}",
                    flag.name
                );
            }
        }
    }

    #[test]
    fn words_are_completed_where_the_values_are_known() {
        assert!(bash().contains("--slow-client) COMPREPLY=($(compgen -W 'pause disconnect' "));
        assert!(zsh().contains(":value:(pause disconnect)'"));
        assert!(fish().contains("-l slow-client -x -a 'pause disconnect' "));
        assert!(fish().contains("-l capture -r -F "));
    }
}
