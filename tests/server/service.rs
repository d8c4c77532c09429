//! The service manager: what it is told, and listeners that it keeps open.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{
    Client, DEADLINE, Http, Server, Source, activation, command, listener, run_to_exit,
};

/// The socket of a service manager.
pub(crate) struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    pub(crate) fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Manager { socket, folder }
    }

    pub(crate) fn name(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Starts a server with a watchdog of this many microseconds. 0: none.
    fn start(&self, watchdog_micros: u64) -> Server {
        Server::start_with(&[], |command| {
            command.env("NOTIFY_SOCKET", self.name());
            if watchdog_micros > 0 {
                command.env("WATCHDOG_USEC", watchdog_micros.to_string());
            }
        })
    }

    /// Returns the next message.
    #[track_caller]
    pub(crate) fn receives(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Returns the first message that contains this.
    #[track_caller]
    pub(crate) fn receives_with(&self, part: &str) -> String {
        loop {
            let message = self.receives();
            if message.contains(part) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_hears_of_start_and_stop() {
    let manager = Manager::new();
    let mut server = manager.start(0);
    let status = format!(
        "READY=1\nSTATUS=events on {}, clients on {}: 0 clients, 0 sources, awaited sequence 1\n",
        server.event_address, server.client_address
    );
    assert_eq!(manager.receives(), status);
    server.signal(Signal::TERM);
    let stopping = manager.receives();
    assert!(stopping.starts_with("STOPPING=1\nSTATUS=stopping"), "{stopping}");
    assert!(stopping.ends_with("\nEXTEND_TIMEOUT_USEC=10000000\n"), "{stopping}");
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn the_service_manager_hears_of_a_reload_and_its_end() {
    let manager = Manager::new();
    let server = manager.start(0);
    assert!(manager.receives().starts_with("READY=1\n"));
    server.signal(Signal::HUP);
    let reloading = manager.receives();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let reloaded = manager.receives();
    assert!(reloaded.starts_with("READY=1\nSTATUS=events on "), "{reloaded}");
}

#[test]
fn the_watchdog_hears_of_every_loop_that_turns() {
    let manager = Manager::new();
    let server = manager.start(40_000);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends("1|B\n");
    client.receives(&["1|B"]);
    for _ in 0..5 {
        manager.receives_with("WATCHDOG=1\nSTATUS=events on ");
    }
    manager.receives_with("1 clients, 1 sources, awaited sequence 2\n");
    // A loop that stands still sends nothing.
    server.while_suspended(|| {
        manager.socket.set_nonblocking(true).unwrap();
        while manager.socket.recv(&mut [0; 1024]).is_ok() {}
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(manager.socket.recv(&mut [0; 1024]).is_err());
        manager.socket.set_nonblocking(false).unwrap();
    });
    manager.receives_with("WATCHDOG=1");
}

#[test]
fn a_service_manager_that_is_not_there_or_does_not_read_changes_nothing() {
    let nowhere = Server::start_with(&[], |command| {
        command.env("NOTIFY_SOCKET", "/nowhere/notify");
    });
    nowhere.logs(&["WARN", "cannot reach the service manager", "/nowhere/notify"]);

    let manager = Manager::new();
    let server = manager.start(1000);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    // The manager's queue is full after some of these rounds.
    for sequence in 1..=2000 {
        let line = format!("{sequence}|B");
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
    }
}

#[test]
fn a_watchdog_of_another_process_is_none() {
    let manager = Manager::new();
    let mut server = Server::start_with(&[], |command| {
        command.env("NOTIFY_SOCKET", manager.name());
        command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    });
    assert!(manager.receives().starts_with("READY=1\n"));
    server.signal(Signal::TERM);
    assert!(manager.receives().starts_with("STOPPING=1\n"));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_restart_with_listeners_of_the_service_manager_refuses_nobody() {
    let (events, clients) = (listener(), listener());
    let start =
        || Server::start_under(activation(&[&clients, &events], "clients:events", "$$"), &[]);
    let mut server = start();
    assert_eq!(server.event_address, events.local_addr().unwrap());
    assert_eq!(server.client_address, clients.local_addr().unwrap());
    let mut client = Client::connect(&server, 1);
    Source::connect(&server).sends("1|B\n");
    client.receives(&["1|B"]);
    assert_eq!(server.stop(), Some(0));
    client.is_closed();

    // Nothing listens but the service manager.
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends("1|B\n2|P|3|1\n");
    let mut server = start();
    client.receives(&["1|B", "2|P|3|1"]);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn one_listener_may_be_the_service_managers_and_the_other_the_servers() {
    let clients = listener();
    let server = Server::start_under(activation(&[&clients], "clients", "$$"), &[]);
    assert_eq!(server.client_address, clients.local_addr().unwrap());
    let mut client = Client::connect(&server, 1);
    Source::connect(&server).sends("1|B\n");
    client.receives(&["1|B"]);
}

#[test]
fn operators_are_served_on_a_listener_of_the_service_manager() {
    let admin = listener();
    let server = Server::start_under(activation(&[&admin], "admin", "$$"), &[]);
    assert_eq!(server.admin_address(), admin.local_addr().unwrap());
    assert_eq!(Http::connect(&server).gets("/readyz").status, 200);
}

#[test]
fn listeners_for_another_process_are_left_alone() {
    let events = listener();
    let server = Server::start_under(activation(&[&events], "events", "1"), &[]);
    assert_ne!(server.event_address, events.local_addr().unwrap());
}

#[track_caller]
fn refuses(mut shell: Command, message: &str) {
    shell.arg(env!("CARGO_BIN_EXE_eventserver")).stdout(Stdio::null()).stderr(Stdio::piped());
    let (status, log) = run_to_exit(shell);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains(message), "{log}");
}

#[test]
fn a_socket_without_use_is_refused() {
    let (first, second) = (listener(), listener());
    refuses(
        activation(&[&first], "eventserver.socket", "$$"),
        "socket activation: socket \"eventserver.socket\" has no known name: give it \
         FileDescriptorName=events, clients or admin",
    );
    refuses(
        activation(&[&first, &second], "events:events", "$$"),
        "socket activation: two sockets are called \"events\"",
    );
    refuses(activation(&[&first, &second], "events", "$$"), "does not count the names");
    let mut not_passed = activation(&[&first], "events:clients", "$$");
    not_passed.env("LISTEN_FDS", "2");
    refuses(not_passed, "socket activation: socket \"clients\" is no TCP listener");
}

#[test]
fn the_units_are_valid_and_the_service_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&["--print", "unit"]).output().unwrap();
    let unit = String::from_utf8(output.stdout).unwrap();
    // Neither the program nor its manual page need be installed.
    let program = concat!("ExecStart=", env!("CARGO_BIN_EXE_eventserver"));
    let unit = unit.replace("ExecStart=eventserver", program);
    let unit = unit.replace("Documentation=man:eventserver(1)\n", "");
    let service = folder.path().join("eventserver.service");
    fs::write(&service, unit).unwrap();
    let mut units = vec![service.clone()];
    for name in ["events", "clients", "admin"] {
        let file = format!("eventserver-{name}.socket");
        let text = fs::read_to_string(format!("src/packaging/{file}")).unwrap();
        assert!(text.contains(&format!("FileDescriptorName={name}\n")), "{text}");
        units.push(folder.path().join(&file));
        fs::write(folder.path().join(file), text).unwrap();
    }
    let Some(verified) = analyze(&["verify"], &units) else { return };
    assert_eq!(verified, "");
    // In tenths: at most 2.0 of 10.
    let rating = analyze(&["security", "--offline=true", "--threshold=20"], &[service]).unwrap();
    assert!(rating.contains("Overall exposure level"), "{rating}");
}

/// Runs systemd-analyze, where it is installed. It must succeed.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Option<String> {
    let output = Command::new("systemd-analyze").args(arguments).args(units).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}");
    Some(text)
}
