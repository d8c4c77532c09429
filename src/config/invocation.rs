//! What the program is asked to do.

use argh::{EarlyExit, FromArgs};

use super::builder::ConfigBuilder;
use super::environment::{self, Environment};
use super::error::Error;
use super::print::{self, Printed};
use super::{Config, FLAGS, Flags, arguments, file};

/// The parsed arguments of the program.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Runs the server.
    Run {
        /// The effective settings.
        config: Box<Config>,
        /// Reads the settings again.
        source: Box<ConfigSource>,
    },
    /// Prints a text on standard output and exits: help, version, the effective settings, or a text for
    /// other programs.
    Print(String),
}

/// The origins of the settings in force: the flags and variables of the program, and the file that they
/// name.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    flags: Flags,
    environment: Environment,
}

impl Invocation {
    /// Parses the program's arguments (without its name) and reads the configuration file that they or the
    /// environment name.
    ///
    /// # Errors
    ///
    /// A flag, a variable or the file is wrong, or two settings contradict each other.
    pub fn parse(arguments: &[&str], environment: &Environment) -> Result<Invocation, Error> {
        let arguments = arguments::separate(arguments)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let flags = match Flags::from_args(&[env!("CARGO_PKG_NAME")], &arguments) {
            Ok(flags) => flags,
            Err(EarlyExit { status: Ok(()), .. }) => return Ok(Invocation::Print(print::help())),
            Err(EarlyExit { output, .. }) => return Err(Error::usage(&output, FLAGS)),
        };
        if flags.version {
            let version = concat!("eventserver ", env!("CARGO_PKG_VERSION"));
            return Ok(Invocation::Print(version.to_owned()));
        }
        if let Some(name) = &flags.print {
            if arguments.len() > 2 {
                let reason = "--print cannot be combined with other flags".to_owned();
                return Err(Error::Conflict(reason));
            }
            return Ok(Invocation::Print(Printed::named(name)?.text()));
        }
        let check_config = flags.check_config;
        let source = ConfigSource { flags, environment: environment.clone() };
        let config = source.read()?;
        if check_config {
            return Ok(Invocation::Print(config.to_string()));
        }
        Ok(Invocation::Run { config: Box::new(config), source: Box::new(source) })
    }
}

impl ConfigSource {
    /// Reads the settings. Blocks for as long as the file does.
    ///
    /// # Errors
    ///
    /// A flag, a variable or the file is wrong, or two settings contradict each other.
    pub fn read(&self) -> Result<Config, Error> {
        let mut settings = ConfigBuilder::default();
        if let Some(file) = self.file()? {
            settings.apply_json(&file, &file::read(&file)?)?;
        }
        settings.apply_environment(&self.environment)?;
        settings.apply_flags(&self.flags)?;
        settings.validate()
    }

    /// Returns the name of the configuration file, if there is one.
    fn file(&self) -> Result<Option<String>, Error> {
        let variable = self.environment.value_of(environment::CONFIG)?;
        let from_variable = variable.map(|(_, file)| file.to_owned());
        Ok(self.flags.config.clone().or(from_variable))
    }
}

impl Config {
    /// Parses the text of a configuration file. Errors name it `file`.
    ///
    /// # Errors
    ///
    /// The text is no JSON object of settings, a value is not allowed, or two settings contradict each other.
    pub fn from_json(file: &str, text: &str) -> Result<Config, Error> {
        let mut settings = ConfigBuilder::default();
        settings.apply_json(file, text)?;
        settings.validate()
    }
}
