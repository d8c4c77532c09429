//! The macro that expands the table of settings.

/// Expands a table of settings into `Config`, its defaults, the program's `Flags`, and the conversions
/// between them, environment variables and JSON. Each row defines one setting:
///
/// ```text
/// /// documentation, with the unit
/// field: Type = default,
///     Group, Effect, "flag-name" VALUE, "help text",
///     "jsonKey" => the setting type, which parses and prints the value;
/// ```
///
/// `VALUE` is what help calls the flag's value; a toggle is called BOOL. Further keys set parts of the same
/// field. The setting type of the first key parses the text of flag and variable. Names and help are `tt`,
/// because argh accepts literals only as bare tokens.
macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $field:ident: $type:ty = $default:expr,
            $group:ident, $effect:ident, $flag:tt $value:tt, $help:tt,
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

        /// The parsed flags. Help is made from the table.
        #[derive(Clone, Debug, argh::FromArgs)]
        #[argh(help_triggers("-h", "--help"))]
        struct Flags {
            #[argh(option, description = "configuration file")]
            config: Option<String>,
            $(
                #[argh(option, long = $flag, description = $help)]
                $field: Option<String>,
            )*
            #[argh(switch, description = "print the effective settings")]
            check_config: bool,
            #[argh(option, description = "print a generated text")]
            print: Option<String>,
            #[argh(switch, short = 'V', description = "print the version")]
            version: bool,
        }

        /// The keys of the configuration file, in the order of the table.
        const KEYS: &[&str] = &[$($key, $($part_key,)*)*];

        /// The flags that take a value. Of toggles it may be left out.
        const VALUE_FLAGS: &[&str] = &["--config", "--print", $(concat!("--", $flag),)*];

        /// All flags.
        const FLAGS: &[&str] = &[
            "--config", $(concat!("--", $flag),)* "--check-config", "--print", "--version", "--help",
        ];

        /// Returns a description of each setting, in the order of the table.
        fn settings() -> Vec<Setting> {
            let defaults = Config::default();
            vec![$({
                let setting = $setting;
                Setting {
                    flag: $flag,
                    key: $key,
                    group: Group::$group,
                    effect: Effect::$effect,
                    value: $value,
                    help: $help,
                    default: setting.show(&defaults.$field),
                    allowed: SettingType::<$type>::allowed(&setting),
                    names: SettingType::<$type>::names(&setting),
                }
            },)*]
        }

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

            /// Applies all variables that are set.
            fn apply_environment(&mut self, environment: &Environment) -> Result<(), Error> {
                $(
                    if let Some((name, text)) = environment.value_of($flag)? {
                        let origin = Origin::Variable(name);
                        self.config.$field = $setting
                            .read_text(text)
                            .map_err(|reason| Error::invalid_value(&origin, text, reason))?;
                        self.origins.$field = origin;
                    }
                )*
                Ok(())
            }

            /// Applies all given flags.
            fn apply_flags(&mut self, flags: &Flags) -> Result<(), Error> {
                $(
                    if let Some(text) = &flags.$field {
                        let origin = Origin::Flag($flag);
                        self.config.$field = $setting
                            .read_text(text)
                            .map_err(|reason| Error::invalid_value(&origin, text, reason))?;
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
            /// Takes the settings of `new` that can change while the server runs.
            pub fn reload(&mut self, new: &Config) -> Reloaded {
                let mut reloaded = Reloaded::default();
                $(
                    if self.$field != new.$field {
                        match Effect::$effect {
                            Effect::Reload => {
                                self.$field = new.$field.clone();
                                reloaded.changed.push(concat!("--", $flag));
                            }
                            Effect::Restart => {
                                reloaded.unchangeable.push(concat!("--", $flag));
                            }
                        }
                    }
                )*
                reloaded
            }

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
