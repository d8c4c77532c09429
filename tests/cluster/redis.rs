use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::DEADLINE;
use crate::wait_until;

/// A `redis-server` of the test's own, with a folder of its own, on a free port.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
    folder: TempDir,
    options: Vec<String>,
}

/// A reply. Arrays are flat lists of words, which suffices here.
pub(crate) type Reply = Result<Vec<String>, String>;

impl Redis {
    /// Starts it with these options, each as in its configuration file.
    #[track_caller]
    pub(crate) fn start(options: &[&str]) -> Redis {
        Redis::start_at(free_port(), options)
    }

    /// Starts it on a port that is free.
    #[track_caller]
    pub(crate) fn start_at(port: u16, options: &[&str]) -> Redis {
        let folder = TempDir::new().unwrap();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(port, folder.path(), &options);
        let redis = Redis { child, port, folder, options };
        redis.wait_until_ready();
        redis
    }

    /// Starts it with an append-only file, so that it forgets nothing that it has acknowledged.
    #[track_caller]
    pub(crate) fn start_durable() -> Redis {
        Redis::start(&["appendonly yes", "appendfsync everysec"])
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after a kill, on the same port, with what it has in its folder.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.spawn_again();
        self.wait_until_ready();
    }

    /// The same, without waiting until it answers.
    #[track_caller]
    pub(crate) fn spawn_again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.options);
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        wait_until(&format!("redis-server answers on port {}", self.port), || {
            // It refuses connections first, and commands while it loads.
            let reply = request(self.port, &["PING"]).ok()?;
            (reply == Ok(vec!["PONG".to_owned()]) || reply.is_err_and(|why| why.contains("NOAUTH")))
                .then_some(())
        });
    }

    /// Sends a command of these words, and returns the reply.
    #[track_caller]
    pub(crate) fn command(&self, words: &str) -> Vec<String> {
        let words: Vec<&str> =
            words.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        request(self.port, &words).unwrap().unwrap()
    }

    /// Returns the number of entries of a stream.
    #[track_caller]
    pub(crate) fn entries(&self, stream: &str) -> u64 {
        self.command(&format!("XLEN {stream}"))[0].parse().unwrap()
    }

    /// Makes it the replica of another one, and waits until it has the same data.
    #[track_caller]
    pub(crate) fn follow(&self, primary: &Redis) {
        self.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        wait_until("the replica has caught up", || {
            let info = self.command("INFO replication").concat();
            info.contains("master_link_status:up").then_some(())
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://127.0.0.1:{}", self.port)
    }
}

/// Returns a port that is free at present.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
    command.arg(folder);
    for option in options {
        let (name, values) = option.split_once(' ').unwrap();
        command.arg(format!("--{name}")).args(values.split(' '));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("redis-server: {error}: this test needs the program, of Redis 7 or Valkey")
    })
}

/// Sends a command over a connection of its own.
fn request(port: u16, words: &[&str]) -> io::Result<Reply> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    (&stream).write_all(text.as_bytes())?;
    read_reply(&mut BufReader::new(stream))
}

fn read_reply(reader: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    let len = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "+" | ":" => Ok(vec![rest.to_owned()]),
        "-" => Err(rest.to_owned()),
        "$" => {
            let mut bytes = vec![0; usize::try_from(len()?).unwrap_or(0) + 2];
            if rest != "-1" {
                reader.read_exact(&mut bytes)?;
            }
            bytes.truncate(bytes.len() - 2);
            Ok(vec![String::from_utf8_lossy(&bytes).into_owned()])
        }
        "*" => {
            let mut all = Vec::new();
            for _ in 0..len()?.max(0) {
                match read_reply(reader)? {
                    Ok(words) => all.extend(words),
                    Err(why) => return Ok(Err(why)),
                }
            }
            Ok(all)
        }
        _ => return Err(io::Error::other(format!("the reply {line:?}"))),
    })
}
