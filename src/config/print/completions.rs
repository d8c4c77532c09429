//! Completions for shells.

use std::fmt::Write;

use super::super::settings;
use super::{COMMANDS, Printed};

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
    format!(
        r#"# Completion of eventserver for bash.
_eventserver() {{
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
    format!(
        "#compdef eventserver\n# Completion of eventserver for zsh.\n_arguments \\\n{specs}    && return 0\n"
    )
}

/// Escapes a description within brackets and single quotes.
fn zsh_escaped(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

/// Returns the completion commands of fish.
pub(super) fn fish() -> String {
    let mut out =
        String::from("# Completion of eventserver for fish.\ncomplete -c eventserver -f\n");
    for flag in flags() {
        let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = match &flag.values {
            Values::Nothing => String::new(),
            Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            Values::File => " -r -F".to_owned(),
            Values::Anything => " -x".to_owned(),
        };
        let help = flag.help.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = writeln!(out, "complete -c eventserver -l {}{short}{value} -d '{help}'", flag.name);
    }
    out
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
