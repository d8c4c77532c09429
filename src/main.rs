//! The `eventserver` program: flags and configuration in, the server run, an exit status out.

use std::fmt::Display;
use std::io::{self, LineWriter, Write};
use std::process::ExitCode;

use eventserver::config::{Config, Request};
use eventserver::server::{Server, Stop};
use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// Running failed, or a second signal cut the stop short.
const FAILED: u8 = 1;
/// Wrong flags or configuration.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    match request() {
        Ok(Request::Print(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Serve(config)) => serve(&config),
        Err(reason) => fail(MISUSED, &reason),
    }
}

fn request() -> Result<Request, String> {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string)
        .collect::<Result<_, _>>()
        .map_err(|argument| format!("the argument {argument:?} is not UTF-8"))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Request::from_arguments(&arguments).map_err(|reason| reason.to_string())
}

fn serve(config: &Config) -> ExitCode {
    log_to_standard_error(config.log_level);
    let server = match Server::bind(config) {
        Ok(server) => server,
        Err(reason) => return fail(FAILED, &reason),
    };
    say(&format!(
        "eventserver ready: events on {}, clients on {}",
        server.event_address(),
        server.client_address()
    ));
    match server.run() {
        Ok(Stop::Drained) => ExitCode::SUCCESS,
        Ok(Stop::Forced) => ExitCode::from(FAILED),
        Err(reason) => fail(FAILED, &reason),
    }
}

/// Logs lines such as `2026-01-31T12:00:00.123456789Z [INFO] 3 clients`, the time in UTC.
fn log_to_standard_error(level: LevelFilter) {
    let format = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    // Standard error has no buffer: without one each piece of a line would be a write of its own.
    // Nothing else sets a logger, and without one the server runs all the same.
    let _ = WriteLogger::init(level, format, LineWriter::new(io::stderr()));
}

/// Prints one message on standard output, at once. A closed one is no reason to die.
fn say(message: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", message.trim_end()).and_then(|()| out.flush());
}

fn fail(status: u8, reason: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "eventserver: {reason}");
    ExitCode::from(status)
}
