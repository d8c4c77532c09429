//! The `loadgen` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    eventserver::loadgen::main()
}
