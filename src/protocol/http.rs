//! Detection of HTTP requests, so that a web page cannot write events to a loopback port.

/// Returns whether `line` is the first line of an HTTP request: a method, a target, and `HTTP/`
/// (RFC 9112, section 3).
///
/// Only a prefix of a line over the limit is known (`is_prefix`). A method and the start of a target are
/// then sufficient, because `HTTP/` may follow after the prefix.
#[must_use]
pub fn is_http_request_line(line: &[u8], is_prefix: bool) -> bool {
    let Some(space) = line.iter().position(|&byte| byte == b' ') else { return false };
    let (method, rest) = (&line[..space], &line[space + 1..]);
    if method.is_empty() || !method.iter().all(|&byte| is_token_byte(byte)) {
        return false;
    }
    let has_target = rest.first().is_some_and(|&byte| byte != b' ');
    has_target && (is_prefix || rest.windows(6).any(|window| window == b" HTTP/"))
}

/// Returns whether `line` begins with the `Host:` field that every HTTP/1.1 request carries.
#[must_use]
pub fn is_host_field(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"))
}

/// Returns whether `byte` may be part of a token (RFC 9110, section 5.6.2), except for digits and `|`, so
/// that no event line matches.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || b"!#$%&'*+-.^_`~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_request_lines() {
        for line in [
            "GET / HTTP/1.1",
            "POST /events?a=1|B HTTP/1.0",
            "OPTIONS * HTTP/1.1",
            "CONNECT example.org:443 HTTP/1.1",
            "M-SEARCH * HTTP/1.1",
            "PRI * HTTP/2.0",
            "get http://127.0.0.1:9090/ HTTP/1.1",
        ] {
            assert!(is_http_request_line(line.as_bytes(), false), "{line}");
            assert!(is_http_request_line(line.as_bytes(), true), "{line}");
        }
    }

    #[test]
    fn a_cut_request_line_is_recognised_by_method_and_target() {
        let line = format!("POST /{}", "a".repeat(58));
        assert!(is_http_request_line(line.as_bytes(), true));
        assert!(!is_http_request_line(line.as_bytes(), false));
    }

    #[test]
    fn other_lines_are_none() {
        for line in
            ["", "1|B", "50", "GET", "GET ", "GET  HTTP/1.1", " / HTTP/1.1", "1|X HTTP/ HTTP/1.1"]
        {
            assert!(!is_http_request_line(line.as_bytes(), false), "{line}");
        }
        assert!(!is_http_request_line(b"666|F|60|50 HTTP/1.1 HTTP/", true));
    }

    #[test]
    fn recognises_host_fields() {
        assert!(is_host_field(b"Host: localhost:9090") && is_host_field(b"HOST:"));
        assert!(!is_host_field(b"Hos") && !is_host_field(b" Host: a"));
    }
}
