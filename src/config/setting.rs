//! What help, manual page and completions say of a setting.

/// The description of a setting, made from its row of the table.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The flag without dashes.
    pub(super) flag: &'static str,
    /// The key of the configuration file, the first one if there are several.
    pub(super) key: &'static str,
    pub(super) group: Group,
    pub(super) effect: Effect,
    /// The name of the flag's value.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    /// The default, as text.
    pub(super) default: String,
    /// The allowed values, as text. Empty where the value's name says it.
    pub(super) allowed: String,
    /// The allowed words, if words are all that is allowed.
    pub(super) names: Vec<&'static str>,
}

/// The name that help gives the value of a toggle, which may be left out.
const TOGGLE_VALUE: &str = "BOOL";

impl Setting {
    /// Returns whether the flag alone turns the setting on.
    pub(super) fn is_toggle(&self) -> bool {
        self.value == TOGGLE_VALUE
    }

    /// Returns whether the value is the name of a file.
    pub(super) fn is_file(&self) -> bool {
        self.value == "FILE"
    }

    /// Returns the flag with its value as help shows it, such as `--max-sources N`.
    pub(super) fn usage(&self) -> String {
        match self.is_toggle() {
            true => format!("--{}", self.flag),
            false => format!("--{} {}", self.flag, self.value),
        }
    }

    /// Returns allowed values and default, such as `1 to 1024; default: 64`.
    pub(super) fn values(&self) -> String {
        match self.is_toggle() || self.allowed.is_empty() {
            true => format!("default: {}", self.default),
            false => format!("{}; default: {}", self.allowed, self.default),
        }
    }
}

/// The groups in which help lists the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Listen,
    Order,
    Limits,
    Queues,
    Timeouts,
    Journal,
    Stream,
    Logging,
    Running,
}

impl Group {
    pub(super) const ALL: [Group; 9] = [
        Group::Listen,
        Group::Order,
        Group::Limits,
        Group::Queues,
        Group::Timeouts,
        Group::Journal,
        Group::Stream,
        Group::Logging,
        Group::Running,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Listen => "Listeners",
            Group::Order => "Order",
            Group::Limits => "Limits",
            Group::Queues => "Queues",
            Group::Timeouts => "Timeouts",
            Group::Journal => "Journal",
            Group::Stream => "Several servers",
            Group::Logging => "Logging",
            Group::Running => "Running",
        }
    }
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// When the server reloads its settings.
    Reload,
    /// When the server starts again.
    Restart,
}
