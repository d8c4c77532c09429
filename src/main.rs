//! The `eventserver` program.
fn main() {}
