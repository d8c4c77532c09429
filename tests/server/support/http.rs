use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::source::is_close;
use super::{DEADLINE, Server};

/// A connection of an HTTP client.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Header lines.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// Returns the value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let is_named = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields.iter().find(is_named).map(|(_, value)| value.as_str())
    }

    /// Parses a JSON body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Http {
    /// Connects to the admin port.
    #[track_caller]
    pub(crate) fn connect(server: &Server) -> Http {
        Http::connect_to(server.admin_address())
    }

    #[track_caller]
    pub(crate) fn connect_to(address: SocketAddr) -> Http {
        Http::from(TcpStream::connect(address).unwrap())
    }

    /// Lets a response take longer than other reads.
    #[track_caller]
    pub(crate) fn waits_for_up_to(&mut self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
    }

    #[track_caller]
    pub(crate) fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes, which the server may not read to the end.
    #[track_caller]
    pub(crate) fn sends_unless_closed(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.get_mut().write_all(bytes) {
            assert!(is_close(error.kind()), "{error}");
        }
    }

    /// Sends a GET request, and returns the response.
    #[track_caller]
    pub(crate) fn gets(&mut self, path: &str) -> Response {
        self.sends(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.receives(true)
    }

    /// Receives a response, with its body if the request was not for the head only.
    #[track_caller]
    pub(crate) fn receives(&mut self, has_body: bool) -> Response {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{line:?} is no status line"));
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None => break assert_eq!(line, "", "the end of the head"),
            }
        }
        let mut response = Response { status, fields, body: String::new() };
        if has_body {
            let len = response.field("Content-Length").unwrap().parse().unwrap();
            let mut body = vec![0; len];
            self.stream.read_exact(&mut body).unwrap();
            response.body = String::from_utf8(body).unwrap();
        }
        response
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("{line:?} has no end")).to_owned()
    }

    /// Asserts that the server closes the connection, and sends nothing before.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert!(is_close(error.kind()), "{error}");
        }
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

impl From<TcpStream> for Http {
    fn from(stream: TcpStream) -> Http {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Http { stream: BufReader::new(stream) }
    }
}
