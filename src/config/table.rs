//! The macro that expands the table of settings.

/// Expands a table of settings into `Config`, its defaults, the program's `Flags`, and the conversions
/// between them and JSON. Each row defines one setting:
///
/// ```text
/// /// documentation, with the unit
/// field: Type = default,
///     option String "flag-name", "help text",
///     "jsonKey" => the setting type, which parses and prints the value;
/// ```
///
/// A flag is an `option String`, which takes a value, or a `switch bool`. Further keys set parts of the
/// same field. The setting type of the first key parses the flag. Names and help are `tt`, because argh
/// accepts literals only as bare tokens.
macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $field:ident: $type:ty = $default:expr,
            $arity:ident $arg:ident $flag:tt, $help:tt,
            $key:literal => $setting:expr $(, $part_key:literal => $part:expr)*;
    )*) => {
        /// The effective settings.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($field: $default,)* }
            }
        }

        /// Puts a numbered stream of events in order and forwards each event to
        /// the connected clients among its recipients.
        #[derive(argh::FromArgs)]
        #[argh(
            help_triggers("-h", "--help"),
            usage = "[--config FILE] [--FLAG VALUE]...",
            note = "Without flags and file the server runs on the defaults. Flags override the \
                    file.\n\n\
                    The file is a JSON object. Its keys are eventListenerPort, \
                    eventListenerAddress,\nclientListenerPort, clientListenerAddress, and the \
                    other flags in camelCase:\n\n  \
                    {{\"eventListenerPort\": 9090, \"clientListenerPort\": 9099, \
                    \"gapTimeoutMs\": 5000}}\n\n\
                    --check-config prints a complete one.",
            example = "{command_name}\n{command_name} --client-listen 0.0.0.0:9099 \
                       --gap-timeout-ms 5000\n{command_name} --config events.json --check-config",
            error_code(0, "The server was stopped by SIGINT or SIGTERM."),
            error_code(1, "The server failed, or a second signal ended the shutdown."),
            error_code(2, "The flags or the configuration are invalid."),
            error_code(3, "The journal is corrupt.")
        )]
        struct Flags {
            #[argh(option, description = "read settings from this JSON file")]
            config: Option<String>,
            $(
                #[argh($arity, long = $flag, description = $help)]
                $field: Option<$arg>,
            )*
            #[argh(
                switch,
                description = "check flags and file, print the effective settings as such a file, \
                               and exit"
            )]
            check_config: bool,
            #[argh(switch, description = "print the version and exit")]
            version: bool,
        }

        /// The keys of the configuration file, in the order of the table.
        const KEYS: &[&str] = &[$($key, $($part_key,)*)*];

        /// The flags, in the order of `--help`.
        const FLAGS: &[&str] =
            &["--config", $(concat!("--", $flag),)* "--check-config", "--version", "--help"];

        impl ConfigBuilder {
            /// Applies one key of a file. Returns `None` for an unknown key. The error names the
            /// allowed values.
            fn apply_key(&mut self, origin: Origin, key: &str, value: &Value) -> Option<Result<(), String>> {
                let applied = match key {
                    $(
                        $key => $setting.read_json(value, &self.config.$field).map(|it| {
                            self.config.$field = it;
                            self.origins.$field = origin;
                        }),
                        $(
                            $part_key => $part.read_json(value, &self.config.$field).map(|it| {
                                self.config.$field = it;
                                self.origins.$field = origin;
                            }),
                        )*
                    )*
                    _ => return None,
                };
                Some(applied)
            }

            /// Applies all given flags.
            fn apply_flags(&mut self, flags: &Flags) -> Result<(), Error> {
                $(
                    if let Some(value) = &flags.$field {
                        let text = value.to_string();
                        let origin = Origin::Flag($flag);
                        self.config.$field = $setting
                            .read_flag(&text)
                            .map_err(|reason| Error::invalid_value(&origin, &text, reason))?;
                        self.origins.$field = origin;
                    }
                )*
                Ok(())
            }
        }

        /// The origin of each setting.
        #[derive(Default)]
        struct Origins {
            $($field: Origin,)*
        }

        impl Config {
            /// Returns the settings as the object of a configuration file, in the order of the
            /// table. Omits settings that depend on the machine or are off.
            pub fn to_json(&self) -> Map<String, Value> {
                let mut object = Map::new();
                let mut put = |key: &str, value: Option<Value>| {
                    object.extend(value.map(|it| (key.to_owned(), it)));
                };
                $(
                    put($key, $setting.print_json(&self.$field));
                    $(put($part_key, $part.print_json(&self.$field));)*
                )*
                object
            }
        }
    };
}
