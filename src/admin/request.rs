//! Request heads of HTTP/1.0 and 1.1.

use std::net::IpAddr;

use super::response::Rejection;

/// The maximum length of a request head, in bytes.
pub const MAX_HEAD_BYTES: usize = 8 << 10;

/// The maximum number of header fields in a head. Browsers send about 15.
const MAX_FIELDS: usize = 64;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The answer has a body.
    Get,
    /// The answer has the head that `GET` would get, and no body.
    Head,
}

/// A request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path of the target, without the query. Percent-encoding is left as it is.
    pub path: &'a str,
    /// The host that the request names, without its port. Empty if it names none, which only
    /// HTTP/1.0 allows.
    pub host: &'a str,
    /// Whether the peer keeps the connection open after the answer.
    pub keep_alive: bool,
    /// Whether the request is of HTTP/1.0, where the answer has to confirm `keep_alive`.
    pub is_http_1_0: bool,
}

/// The result of parsing the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// The head is incomplete.
    Partial,
    /// A request, and the length of its head in bytes.
    Complete(Request<'a>, usize),
}

impl Request<'_> {
    /// Returns whether the host is an IP address or `localhost`: a name that nobody can point to
    /// another machine. A web page whose own name is made to resolve to this machine is not.
    #[must_use]
    pub fn names_this_machine(&self) -> bool {
        let address = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = self.host.to_ascii_lowercase();
        host.is_empty()
            || host == "localhost"
            || host.ends_with(".localhost")
            || address.unwrap_or(&host).parse::<IpAddr>().is_ok()
    }
}

/// Parses a request head from the bytes that have arrived.
///
/// # Errors
///
/// The rejection to answer with. The connection cannot be used any further.
pub fn parse(bytes: &[u8]) -> Result<Head<'_>, Rejection> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_BYTES => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(Head::Partial),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Rejection::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Rejection::UnsupportedVersion),
        Err(_) => return Err(Rejection::BadRequest("the request head is not valid HTTP/1.1")),
    };
    let is_http_1_0 = head.version == Some(0);
    let fields = Fields::read(head.headers)?;
    fields.check_body()?;
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(Rejection::MethodNotAllowed),
    };
    let (path, target_host) = split_target(head.path.unwrap_or_default())?;
    let host = match (fields.host, target_host) {
        (None, _) if !is_http_1_0 => {
            return Err(Rejection::BadRequest("an HTTP/1.1 request needs a Host field"));
        }
        (_, Some(host)) => host,
        (host, None) => host.unwrap_or_default(),
    };
    let request = Request {
        method,
        path,
        host: without_port(host),
        keep_alive: fields.keeps_alive(is_http_1_0),
        is_http_1_0,
    };
    Ok(Head::Complete(request, len))
}

/// The header fields that matter.
#[derive(Clone, Copy, Debug, Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    content_length: Option<&'a [u8]>,
    has_transfer_encoding: bool,
    asks_close: bool,
    asks_keep_alive: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Fields<'a>, Rejection> {
        let mut fields = Fields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                let host = host_value(header.value)?;
                if fields.host.replace(host).is_some() {
                    return Err(Rejection::BadRequest("the request has several Host fields"));
                }
            } else if is("content-length") {
                if fields.content_length.replace(header.value).is_some() {
                    return Err(Rejection::BadRequest("the request has several lengths"));
                }
            } else if is("transfer-encoding") {
                fields.has_transfer_encoding = true;
            } else if is("connection") {
                let options = || header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                fields.asks_close |= options().any(|it| it.eq_ignore_ascii_case(b"close"));
                fields.asks_keep_alive |=
                    options().any(|it| it.eq_ignore_ascii_case(b"keep-alive"));
            }
        }
        Ok(fields)
    }

    /// Rejects a request with a body.
    fn check_body(&self) -> Result<(), Rejection> {
        let length = self.content_length.unwrap_or(b"0");
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(Rejection::BadRequest("the Content-Length is not a number"));
        }
        match self.has_transfer_encoding || length.iter().any(|&digit| digit != b'0') {
            true => Err(Rejection::BodyNotAllowed),
            false => Ok(()),
        }
    }

    fn keeps_alive(&self, is_http_1_0: bool) -> bool {
        !self.asks_close && (!is_http_1_0 || self.asks_keep_alive)
    }
}

/// Returns the value of a `Host` field, or rejects one that cannot be a host.
fn host_value(value: &[u8]) -> Result<&str, Rejection> {
    let is_allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte);
    std::str::from_utf8(value.trim_ascii())
        .ok()
        .filter(|host| host.bytes().all(|byte| is_allowed(&byte)))
        .ok_or(Rejection::BadRequest("the Host field is not a host"))
}

/// Splits a request target into its path, and its host if it is a whole URI as sent to proxies.
fn split_target(target: &str) -> Result<(&str, Option<&str>), Rejection> {
    let (rest, host) = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let host_len = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(host_len);
            (path, Some(host_value(host.as_bytes())?))
        }
        _ => (target, None),
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    match host {
        Some(_) if path.is_empty() => Ok(("/", host)),
        _ if path.starts_with('/') => Ok((path, host)),
        _ => Err(Rejection::BadRequest("the request target is not a path")),
    }
}

/// Returns a host without its port. The colons of an IPv6 address are within brackets.
fn without_port(host: &str) -> &str {
    match host.rfind([':', ']']) {
        Some(index) if host[index..].starts_with(':') => &host[..index],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request<'_> {
        match parse(text.as_bytes()) {
            Ok(Head::Complete(request, len)) => {
                assert_eq!(len, text.len());
                request
            }
            other => panic!("{other:?} for {text:?}"),
        }
    }

    fn rejection(text: &str) -> Rejection {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_request_is_parsed() {
        let parsed = request("GET /status?pretty HTTP/1.1\r\nhost: [::1]:9091\r\n\r\n");
        let expected = Request {
            method: Method::Get,
            path: "/status",
            host: "[::1]",
            keep_alive: true,
            is_http_1_0: false,
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn every_beginning_of_a_head_is_partial() {
        let text = "HEAD /metrics HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n\r\n";
        for len in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..len]), Ok(Head::Partial), "{len} bytes");
        }
        assert_eq!(request(text).method, Method::Head);
        let followed = format!("{text}GET");
        assert!(
            matches!(parse(followed.as_bytes()), Ok(Head::Complete(_, len)) if len == text.len())
        );
    }

    #[test]
    fn connections_stay_open_as_the_version_and_the_peer_say() {
        let keeps = |text: &str| request(text).keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn a_target_may_be_a_whole_uri() {
        let parsed = request("GET http://b:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((parsed.path, parsed.host), ("/x", "b"));
        assert_eq!(request("GET HTTP://b?y HTTP/1.1\r\nHost: a\r\n\r\n").path, "/");
        for target in ["*", "a:1", "", "//"] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            if target != "//" {
                assert!(parse(text.as_bytes()).is_err(), "{target:?}");
            }
        }
    }

    #[test]
    fn the_host_is_required_once_and_checked() {
        for fields in
            ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: <\r\n"]
        {
            let rejected = rejection(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
            assert!(matches!(rejected, Rejection::BadRequest(_)), "{fields:?}: {rejected:?}");
        }
        assert_eq!(request("GET / HTTP/1.0\r\n\r\n").host, "");
    }

    #[test]
    fn names_that_others_may_point_here_are_told_from_this_machine() {
        let is_own = |host: &str| {
            request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).names_this_machine()
        };
        for host in
            ["127.0.0.1:9091", "[::1]:9091", "[::1]", "localhost", "LOCALHOST:1", "10.0.0.1"]
        {
            assert!(is_own(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9091", "a"] {
            assert!(!is_own(host), "{host}");
        }
    }

    #[test]
    fn bodies_are_rejected() {
        let rejected = |fields: &str| {
            parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes()).err()
        };
        assert_eq!(rejected("Content-Length: 0"), None);
        assert_eq!(rejected("Content-Length: 1"), Some(Rejection::BodyNotAllowed));
        assert_eq!(rejected("Transfer-Encoding: chunked"), Some(Rejection::BodyNotAllowed));
        for fields in
            ["Content-Length: +1", "Content-Length:", "content-length: 0\r\nContent-Length: 0"]
        {
            assert!(matches!(rejected(fields), Some(Rejection::BadRequest(_))), "{fields}");
        }
    }

    #[test]
    fn what_is_not_served_is_rejected_with_its_reason() {
        let with_host = |line: &str| rejection(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(with_host("POST / HTTP/1.1"), Rejection::MethodNotAllowed);
        assert_eq!(with_host("BREW / HTTP/1.1"), Rejection::MethodNotAllowed);
        assert_eq!(with_host("GET / HTTP/2.0"), Rejection::UnsupportedVersion);
        assert_eq!(rejection("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Rejection::UnsupportedVersion);
        for garbage in
            ["\x16\x03\x01\x02", "1|F|60|50\n", "GET /\r\n", "GET / HTTP/1.1\r\na b: c\r\n"]
        {
            assert!(matches!(rejection(garbage), Rejection::BadRequest(_)), "{garbage:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let head = |filler: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(filler))
        };
        let overhead = head(0).len();
        assert!(parse(head(MAX_HEAD_BYTES - overhead).as_bytes()).is_ok());
        let too_long = head(MAX_HEAD_BYTES - overhead + 1);
        assert_eq!(rejection(&too_long), Rejection::HeadTooLarge);
        assert_eq!(rejection(&too_long[..MAX_HEAD_BYTES]), Rejection::HeadTooLarge);
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(rejection(&many), Rejection::HeadTooLarge);
    }
}
