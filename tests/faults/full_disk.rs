//! A disk that fills up during a capture.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::RESET;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::Server;
use crate::verification::passes_verification;

/// Capacity of the disk, for lines and times together.
const DISK_BYTES: u64 = 256 << 10;

/// Returns a command that runs a program with a disk of `bytes` in `folder` that only it sees, or `None`
/// where the system does not allow that.
pub(crate) fn with_a_small_disk(folder: &Path, bytes: u64) -> Option<Command> {
    let command = || {
        let mut unshare = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={bytes} none \"$FOLDER\"");
        unshare.env("FOLDER", folder).args(["--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(mount + " && exec \"$0\" \"$@\"");
        unshare
    };
    let output = command().arg("true").output().ok()?;
    output.status.success().then(command)
}

#[test]
fn a_disk_that_fills_under_a_capture() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream.events");
    let flags = [&RESET[..], &["--capture", file.to_str().unwrap()]].concat();
    let disk = with_a_small_disk(folder.path(), DISK_BYTES);
    let is_full_from_the_start = disk.is_none();
    let mut server = match disk {
        Some(wrapper) => Server::start_under(wrapper, &flags),
        None => {
            println!("cannot mount a small disk: the server captures to /dev/full");
            symlink("/dev/full", &file).unwrap();
            Server::start(&flags)
        }
    };
    let mut stream = Stream::connect(&server);
    stream.run_during(|| server.logs(&["capture to", "stopped", "No space left on device"]));
    (0..scaled(100, 1000)).for_each(|_| stream.round());

    let mut captured = 0;
    if !is_full_from_the_start {
        let root = format!("/proc/{}/root", server.process().0.as_raw_nonzero());
        let lines = fs::read(root + file.to_str().unwrap()).unwrap();
        captured = lines.len();
        assert!(captured as u64 > DISK_BYTES / 2, "{captured} bytes are captured");
        assert!(
            stream.first_sent().starts_with(&lines),
            "the captured bytes differ from the sent ones"
        );
    }
    let figures = stream.ends(&server);
    report(format_args!("a capture that ends after {captured} bytes; {figures}"));
    passes_verification(&server);
    assert_eq!(server.stop(), Some(0));
    let errors = server.log_lines().into_iter().filter(|line| line.contains("capture to")).count();
    assert_eq!(errors, 1);
}
