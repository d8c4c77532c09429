//! What becomes of the table of settings.

/// Makes a table of settings into `Config`, its defaults, the program's `Flags`, and the ways
/// between them and JSON. Each row holds all there is to know about one setting:
///
/// ```text
/// /// what it means, with its unit
/// field: Type = default,
///     option String "flag-name", "its line of --help",
///     "jsonKey" => kind, which knows how to read and print it;
/// ```
///
/// A flag is an `option String`, which takes a value, or a `switch bool`. Further keys set parts of
/// the same field; the flag is read by the kind of the first one. Names and help are `tt`, since
/// argh takes literals only as bare tokens.
macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $field:ident: $type:ty = $default:expr,
            $form:ident $given:ident $flag:tt, $help:tt,
            $key:literal => $kind:expr $(, $part:literal => $part_kind:expr)*;
    )*) => {
        /// The settings in force.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($field: $default,)* }
            }
        }

        /// Puts a numbered stream of events in order and forwards each to the
        /// connected clients that it concerns.
        #[derive(argh::FromArgs)]
        #[argh(
            help_triggers("-h", "--help"),
            usage = "[--config FILE] [--FLAG VALUE]...",
            note = "Without flags and file the server runs on the defaults. Flags win over the \
                    file.\n\n\
                    The file is a JSON object. Its keys are eventListenerPort, \
                    eventListenerAddress,\nclientListenerPort, clientListenerAddress, and the \
                    other flags in camelCase:\n\n  \
                    {{\"eventListenerPort\": 9090, \"clientListenerPort\": 9099, \
                    \"gapTimeoutMs\": 5000}}\n\n\
                    --check-config prints a longer one.",
            example = "{command_name}\n{command_name} --client-listen 0.0.0.0:9099 \
                       --gap-timeout-ms 5000\n{command_name} --config events.json --check-config",
            error_code(0, "The server was stopped by SIGINT or SIGTERM."),
            error_code(1, "Running failed, or a second signal cut the stop short."),
            error_code(2, "Wrong flags or configuration.")
        )]
        struct Flags {
            #[argh(option, description = "read settings from this JSON file")]
            config: Option<String>,
            $(
                #[argh($form, long = $flag, description = $help)]
                $field: Option<$given>,
            )*
            #[argh(
                switch,
                description = "check flags and file, print the settings in force as such a file, \
                               and exit"
            )]
            check_config: bool,
            #[argh(switch, description = "print the version and exit")]
            version: bool,
        }

        /// Every key of the configuration file, in the order of the table.
        const KEYS: &[&str] = &[$($key, $($part,)*)*];

        /// Every flag, in the order of `--help`.
        const FLAGS: &[&str] =
            &["--config", $(concat!("--", $flag),)* "--check-config", "--version", "--help"];

        impl ConfigBuilder {
            /// Takes the value of one key of a file. `None`: there is no such key; an error says
            /// what is allowed there.
            fn apply_key(&mut self, place: Origin, key: &str, value: &Value) -> Option<Result<(), String>> {
                let taken = match key {
                    $(
                        $key => $kind.read_json(value, &self.config.$field).map(|it| {
                            self.config.$field = it;
                            self.places.$field = place;
                        }),
                        $(
                            $part => $part_kind.read_json(value, &self.config.$field).map(|it| {
                                self.config.$field = it;
                                self.places.$field = place;
                            }),
                        )*
                    )*
                    _ => return None,
                };
                Some(taken)
            }

            /// Takes every flag that was given.
            fn apply_flags(&mut self, flags: &Flags) -> Result<(), Error> {
                $(
                    if let Some(given) = &flags.$field {
                        let text = given.to_string();
                        let place = Origin::Flag($flag);
                        self.config.$field = $kind
                            .read_flag(&text)
                            .map_err(|reason| Error::invalid_value(&place, &text, reason))?;
                        self.places.$field = place;
                    }
                )*
                Ok(())
            }
        }

        /// Where each setting comes from.
        #[derive(Default)]
        struct Origins {
            $($field: Origin,)*
        }

        impl Config {
            /// The settings as the object that a configuration file holds, in the order of the
            /// table. What depends on the machine or is switched off is left out.
            pub fn to_json(&self) -> Map<String, Value> {
                let mut object = Map::new();
                let mut put = |key: &str, value: Option<Value>| {
                    object.extend(value.map(|it| (key.to_owned(), it)));
                };
                $(
                    put($key, $kind.print_json(&self.$field));
                    $(put($part, $part_kind.print_json(&self.$field));)*
                )*
                object
            }
        }
    };
}
