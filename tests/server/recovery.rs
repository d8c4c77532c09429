//! The time in which a long journal is replayed: what operators and the service manager see, and who waits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};

use eventserver::engine::{Batch, LogEntry};
use eventserver::journal::{
    CommitPoint, Position, ReadAt, SEGMENT_BYTES, Storage, StorageFile, Writer,
};
use rustix::process::Signal;

use crate::service::Manager;
use crate::support::{Client, Http, Log, Prng, Server, Source, activation, listener};

/// The sizes of journals, in bytes. A test that sees no replay, because the machine is too fast for it, takes the
/// next one.
const SIZES: [u64; 4] = [8 << 20, 32 << 20, 128 << 20, 512 << 20];

/// The number of users that makes a replay slow, because their memory does not fit a cache.
const MANY_USERS: u64 = 300_000;

/// A directory whose files are not synced, because no test cuts the power.
struct Folder(PathBuf);

struct FolderFile(File);

impl ReadAt for FolderFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
}

impl StorageFile for FolderFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all_at(bytes, offset).map(|()| bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

impl Storage for Folder {
    type File = FolderFile;

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?.map(|it| Ok(it?.file_name().into_string().unwrap())).collect()
    }

    fn create(&mut self, name: &str, _: u64) -> io::Result<FolderFile> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        options.open(self.0.join(name)).map(FolderFile)
    }

    fn open(&self, name: &str) -> io::Result<FolderFile> {
        OpenOptions::new().read(true).write(true).open(self.0.join(name)).map(FolderFile)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn random_id(&mut self) -> u64 {
        Prng::new(self.list().unwrap().len() as u64).next() | 1
    }
}

/// Writes a journal of about this many bytes, with follows between random ones of `users` and without a snapshot.
/// Numbers have at least `digits`. Returns the awaited sequence.
fn write_journal(folder: &Path, bytes: u64, users: u64, digits: usize) -> u64 {
    let position = Position {
        previous: None,
        next_generation: 1,
        awaited: 1,
        first_sequence: 1,
        stream: None,
    };
    let mut writer = Writer::new(Folder(folder.to_owned()), position, CommitPoint::Written);
    let mut random = Prng::announced(bytes);
    let (mut next, mut written) = (1, 0);
    while written < bytes {
        let mut batch = Batch { first: next, ..Batch::default() };
        while batch.lines.len() < 250_000 {
            let (a, b) = (random.below(users), random.below(users));
            let line = format!("{next}|F|{a:0digits$}|{b:0digits$}\n");
            batch.lines.extend_from_slice(line.as_bytes());
            batch.count += 1;
            next += 1;
        }
        batch.next = next;
        written += batch.lines.len() as u64;
        writer.append(LogEntry::Batch(batch));
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    next
}

/// A server that replays a journal, and listens to sources and clients on sockets of a service manager.
struct Replaying {
    server: Server,
    stdout: BufReader<ChildStdout>,
    log: Log,
    admin: SocketAddr,
}

impl Replaying {
    /// Starts a server with a journal, and waits until it serves operators.
    fn start(folder: &Path, manager: &Manager) -> Replaying {
        let (events, clients) = (listener(), listener());
        let mut shell = activation(&[&events, &clients], "events:clients", "$$");
        shell.arg(env!("CARGO_BIN_EXE_eventserver"));
        shell.args(["--admin-listen", "0", "--data-dir", folder.to_str().unwrap()]);
        shell.env("NOTIFY_SOCKET", manager.name());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let log = Log::of(child.stderr.take().unwrap());
        let (events, clients) = (events.local_addr().unwrap(), clients.local_addr().unwrap());
        let server = Server::from_child(child, events, clients);
        let admin = log.wait_for("the address for operators", |lines| {
            let line = lines.iter().find(|line| line.contains("operators are served on "))?;
            line.split_once("served on ")?.1.split_once(' ')?.0.parse().ok()
        });
        Replaying { server, stdout, log, admin }
    }

    /// Returns what the server prints, once it listens or ends.
    fn prints(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }
}

/// Runs `observe` with journals of growing size until it sees something.
fn with_a_long_journal(observe: impl Fn(&Path, u64) -> Option<()>) {
    for bytes in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let awaited = write_journal(folder.path(), bytes, MANY_USERS, 1);
        if observe(folder.path(), awaited).is_some() {
            return;
        }
        println!("{} MiB were replayed too fast to see it", bytes >> 20);
    }
    panic!("no replay was seen");
}

#[test]
fn operators_see_the_progress_while_sources_and_clients_wait() {
    with_a_long_journal(|folder, awaited| {
        let manager = Manager::new();
        let mut replaying = Replaying::start(folder, &manager);
        let mut source = Source::connect(&replaying.server);
        let mut client = Client::connect(&replaying.server, 1);
        let mut http = Http::connect_to(replaying.admin);
        let status = http.gets("/status").json();
        let [health, metrics] = ["/healthz", "/metrics"].map(|path| http.gets(path));
        sees_a_share(&mut http)?;
        assert_eq!(status["server"]["state"], "replaying");
        let reason = status["server"]["unready_reason"].as_str().unwrap();
        assert!(reason.starts_with("replaying, "), "{reason}");
        assert_eq!(status["settings"]["dataDir"], folder.to_str().unwrap());
        assert_eq!(status["clients"]["connected"], 0);
        assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
        assert!(metrics.body.contains("\neventserver_ready 0\n"));
        let message = manager.receives();
        assert!(message.starts_with("STATUS=replaying, "), "{message}");
        assert!(message.ends_with("\nEXTEND_TIMEOUT_USEC=300000000\n"), "{message}");
        assert!(replaying.prints().starts_with("eventserver ready: "));
        manager.receives_with("READY=1\nSTATUS=events on ");
        assert_eq!(http.gets("/readyz").status, 200);
        // Both have waited, and the stream goes on where the journal ends.
        let line = format!("{awaited}|B");
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
        assert_eq!(replaying.server.stop(), Some(0));
        Some(())
    });
}

/// Asks for the readiness until the answer says how much is replayed. Returns `None` if the replay ends before.
fn sees_a_share(http: &mut Http) -> Option<()> {
    loop {
        let response = http.gets("/readyz");
        if response.status == 200 {
            return None;
        }
        assert_eq!(response.status, 503);
        let progress = response.body.strip_prefix("replaying, ").unwrap();
        if let Some((share, _)) = progress.split_once(" % of ") {
            assert!(share.parse::<u8>().unwrap() <= 100, "{progress}");
            return Some(());
        }
    }
}

#[test]
fn a_stop_ends_a_replay_at_once_and_leaves_the_journal_as_it_is() {
    with_a_long_journal(|folder, awaited| {
        let mut replaying = Replaying::start(folder, &Manager::new());
        assert_eq!(replaying.server.stop(), Some(0));
        if !replaying.log.whole().contains("stopping: the journal is not recovered (replaying, ") {
            return None;
        }
        assert_eq!(replaying.prints(), "", "it has never listened");
        let server = Server::start(&["--data-dir", folder.to_str().unwrap()]);
        server.logs(&[&format!("sequence {awaited} is awaited")]);
        Some(())
    });
}

#[test]
fn a_long_replay_is_not_repeated_however_short_lives_are() {
    let folder = tempfile::tempdir().unwrap();
    let awaited = write_journal(folder.path(), SEGMENT_BYTES + SEGMENT_BYTES / 8, 100, 20);
    let flags = ["--data-dir", folder.path().to_str().unwrap()];
    let mut server = Server::start(&flags);
    server.logs(&["journal: wrote the snapshot"]);
    server.signal(Signal::KILL);
    assert_eq!(server.exit_status(), None);
    for _ in 0..5 {
        let mut server = Server::start(&flags);
        server.logs(&[&format!("sequence {awaited} is awaited"), " 0 lines replayed"]);
        server.signal(Signal::KILL);
        assert_eq!(server.exit_status(), None);
    }
}
