//! The `eventserver` beside this executable: found, and built or reported if it is not current.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use log::{info, warn};

use crate::sys::interrupt;

/// File name of the server.
const NAME: &str = "eventserver";

/// Returns the path of the server beside this executable.
///
/// `cargo run --bin loadgen` builds this program only. If it runs in that way and the server is
/// missing or older than its sources, it builds the server too. Otherwise it reports that.
///
/// # Errors
///
/// There is no server, or it cannot be built or executed.
pub(crate) fn find() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(NAME);
    let source = newer_source(&path);
    if !path.is_file() || source.is_some() {
        match (Build::from_environment(&path), source) {
            (Some(build), _) => build.run()?,
            (None, Some(source)) => warn!(
                "{} is older than {}: `{}` rebuilds it",
                relative(&path),
                relative(&source),
                build_command(&path)
            ),
            (None, None) => {
                return Err(io::Error::other(format!(
                    "there is no {}, which this command starts: build it by `{}`",
                    relative(&path),
                    build_command(&path)
                )));
            }
        }
    }
    let version = version(&path)?;
    info!("server: {version}, {}", relative(&path));
    if version != concat!("eventserver ", env!("CARGO_PKG_VERSION")) {
        warn!("the server is {version}, and this program is {}", env!("CARGO_PKG_VERSION"));
    }
    Ok(path)
}

/// Returns what the server says it is.
fn version(path: &Path) -> io::Result<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    let output = output
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns a source of the executable `path` that is newer than it, by the list that cargo writes
/// beside an executable. `None` if there is no list.
fn newer_source(path: &Path) -> Option<PathBuf> {
    let built = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
    let list = std::fs::read_to_string(path.with_extension("d")).ok()?;
    let is_newer = |source: &PathBuf| {
        source.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|time| time > built)
    };
    read_sources(&list).into_iter().find(is_newer)
}

/// Reads `EXECUTABLE: SOURCE SOURCE …`, where a backslash precedes a space of a name.
fn read_sources(list: &str) -> Vec<PathBuf> {
    let Some((_, sources)) = list.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let escaped = sources.replace("\\ ", "\0");
    escaped.split_whitespace().map(|source| source.replace('\0', " ").into()).collect()
}

/// The command by which a user builds the executable `path`.
fn build_command(path: &Path) -> &'static str {
    let directory = path.parent().and_then(Path::file_name);
    if directory.is_some_and(|name| name == "debug") {
        "cargo build"
    } else {
        "cargo build --release"
    }
}

/// A build of the server by the cargo that runs this program.
struct Build {
    cargo: PathBuf,
    arguments: Vec<String>,
}

impl Build {
    /// Returns the build of `path` if `cargo run` started this program.
    fn from_environment(path: &Path) -> Option<Build> {
        let variable = |name| std::env::var(name).ok();
        let manifest = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
        if variable("CARGO_PKG_NAME")? != NAME {
            return None;
        }
        let profile_directory = path.parent()?;
        let target_directory = profile_directory.parent()?;
        // Otherwise this is not the directory of a build, or one for another platform.
        if !target_directory.join(".rustc_info.json").is_file() {
            return None;
        }
        let mut arguments = vec!["build".to_owned()];
        match profile_directory.file_name()?.to_str()? {
            "debug" => {}
            "release" => arguments.push("--release".to_owned()),
            profile => arguments.extend(["--profile".to_owned(), profile.to_owned()]),
        }
        arguments.extend(["--bin", NAME, "--manifest-path"].map(str::to_owned));
        arguments.push(manifest.to_str()?.to_owned());
        arguments.push("--target-dir".to_owned());
        arguments.push(target_directory.to_str()?.to_owned());
        Some(Build { cargo: variable("CARGO")?.into(), arguments })
    }

    fn run(&self) -> io::Result<()> {
        info!("`cargo run` builds this program only; building the server it starts:");
        let mut command = Command::new(&self.cargo);
        // Standard output has only the result.
        let status = command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let status = status.status().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.cargo.display()))
        })?;
        interrupt::check()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("the server cannot be built: cargo ended with {status}")))
    }
}

/// Formats a path for a message: relative if it is below the working directory.
fn relative(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_the_list_of_cargo() {
        let list = "/a/target/release/eventserver: /a/src/main.rs /a\\ b/src/lib.rs\n";
        let sources = ["/a/src/main.rs", "/a b/src/lib.rs"].map(PathBuf::from);
        assert_eq!(read_sources(list), sources);
        assert_eq!(read_sources(""), [] as [PathBuf; 0]);
    }

    #[test]
    fn an_executable_is_older_than_a_source_that_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (program, source) = (file("program"), file("source"));
        std::fs::write(&source, "").unwrap();
        std::fs::write(&program, "").unwrap();
        assert_eq!(newer_source(&program), None, "there is no list");
        let list = format!("{}: {}\n", program.display(), source.display());
        std::fs::write(file("program.d"), list).unwrap();
        let set_time = |file: &Path, seconds| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        };
        set_time(&program, 2000);
        set_time(&source, 1000);
        assert_eq!(newer_source(&program), None);
        set_time(&source, 3000);
        assert_eq!(newer_source(&program), Some(source));
    }

    #[test]
    fn the_build_command_fits_the_profile() {
        assert_eq!(build_command(Path::new("/a/target/debug/eventserver")), "cargo build");
        assert_eq!(build_command(Path::new("/a/bin/eventserver")), "cargo build --release");
    }
}
