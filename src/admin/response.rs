//! Responses, and their bytes.

use std::borrow::Cow;
use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::request::{Method, Request};

const DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// A response without what depends on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code with its phrase, such as `200 OK`.
    pub status: &'static str,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Further header lines, each with its terminator.
    pub fields: Cow<'static, str>,
    /// The body.
    pub body: Cow<'static, [u8]>,
}

/// The reason why a request is not served. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// 400, with an explanation.
    BadRequest(&'static str),
    /// 405.
    MethodNotAllowed,
    /// 413: the request has a body.
    BodyNotAllowed,
    /// 421: the server listens on a loopback address, and the request names a host that may be a web
    /// page's own.
    Misdirected,
    /// 431.
    HeadTooLarge,
    /// 505.
    UnsupportedVersion,
}

impl Response {
    /// Returns a response of one line of text.
    #[must_use]
    pub fn text(status: &'static str, line: impl Into<String>) -> Response {
        let mut body = line.into();
        body.push('\n');
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            fields: Cow::Borrowed(""),
            body: Cow::Owned(body.into_bytes()),
        }
    }

    /// Returns the bytes of the response to `request`, or to a rejected request if it is `None`.
    #[must_use]
    pub(super) fn encode(&self, framing: Framing, date: OffsetDateTime) -> Vec<u8> {
        let mut head = String::with_capacity(512);
        let Response { status, content_type, fields, body } = self;
        let date = date.format(DATE).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            head,
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             {fields}{}\r\n",
            body.len(),
            framing.connection_field(),
        );
        let mut bytes = head.into_bytes();
        if framing.has_body {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

impl Rejection {
    /// Returns the response that tells the peer.
    #[must_use]
    pub fn response(self) -> Response {
        match self {
            Rejection::BadRequest(reason) => Response::text("400 Bad Request", reason),
            Rejection::MethodNotAllowed => Response {
                fields: Cow::Borrowed("Allow: GET, HEAD\r\n"),
                ..Response::text("405 Method Not Allowed", "only GET and HEAD are served")
            },
            Rejection::BodyNotAllowed => {
                Response::text("413 Content Too Large", "a request must not have a body")
            }
            Rejection::Misdirected => Response::text(
                "421 Misdirected Request",
                "this address serves requests for an IP address or localhost only, so that no web \
                 page can read it; a proxy has to set the Host field to 127.0.0.1",
            ),
            Rejection::HeadTooLarge => Response::text(
                "431 Request Header Fields Too Large",
                "a request head has at most 8192 bytes and 64 fields",
            ),
            Rejection::UnsupportedVersion => {
                Response::text("505 HTTP Version Not Supported", "only HTTP/1.0 and 1.1 are served")
            }
        }
    }
}

/// What the connection adds to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) has_body: bool,
    pub(super) keep_alive: bool,
    confirms_keep_alive: bool,
}

impl Framing {
    /// Returns the framing of the last response on a connection, to a request of any method.
    pub(super) const LAST: Framing =
        Framing { has_body: true, keep_alive: false, confirms_keep_alive: false };

    /// Returns the framing of the response to a request. `is_last` closes the connection after it.
    pub(super) fn of(request: &Request<'_>, is_last: bool) -> Framing {
        let keep_alive = request.keep_alive && !is_last;
        Framing {
            has_body: request.method == Method::Get,
            keep_alive,
            confirms_keep_alive: keep_alive && request.is_http_1_0,
        }
    }

    fn connection_field(self) -> &'static str {
        match (self.keep_alive, self.confirms_keep_alive) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_response_has_the_length_of_its_body_whether_or_not_it_is_sent() {
        let response = Response::text("200 OK", "fine");
        let date = datetime!(2026-02-03 04:05:06 UTC);
        let head = "HTTP/1.1 200 OK\r\nDate: Tue, 03 Feb 2026 04:05:06 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
                    Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
                    Connection: close\r\n\r\n";
        let encode = |framing| String::from_utf8(response.encode(framing, date)).unwrap();
        assert_eq!(encode(Framing::LAST), format!("{head}fine\n"));
        assert_eq!(encode(Framing { has_body: false, ..Framing::LAST }), head);
    }

    #[test]
    fn only_http_1_0_is_told_that_the_connection_stays_open() {
        let request = |is_http_1_0| Request {
            method: Method::Get,
            path: "/",
            host: "",
            keep_alive: true,
            is_http_1_0,
        };
        let field =
            |is_http_1_0, is_last| Framing::of(&request(is_http_1_0), is_last).connection_field();
        assert_eq!(field(true, false), "Connection: keep-alive\r\n");
        assert_eq!(field(false, false), "");
        assert_eq!(field(true, true), "Connection: close\r\n");
        assert_eq!(field(false, true), "Connection: close\r\n");
    }
}
