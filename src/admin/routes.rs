//! The paths, and the responses to requests for them.

use std::borrow::Cow;

use serde::Serialize;
use time::OffsetDateTime;

use super::history::HistoryColumns;
use super::metrics;
use super::page;
use super::request::Request;
use super::response::Response;
use super::status::Status;

/// The server that is monitored.
pub trait Monitored {
    /// Returns the time of day.
    fn utc_now(&self) -> OffsetDateTime;

    /// Returns why the server should not be sent work, or `None` if it may.
    fn unready_reason(&self) -> Option<Cow<'static, str>>;

    /// Returns the totals of the last minutes.
    fn history(&self) -> HistoryColumns;

    /// Returns a snapshot. Its cost is the caller's only cost of being monitored.
    fn status(&mut self) -> Status;
}

/// A path that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`: the page for people.
    Page,
    /// `/status`: the status as JSON.
    Status,
    /// `/history`: totals of the last five minutes as JSON.
    History,
    /// `/metrics`: the status for Prometheus.
    Metrics,
    /// `/healthz`: 200 while the loop turns.
    Health,
    /// `/readyz`: 200, or 503 with the reason.
    Readiness,
}

impl Route {
    /// All paths.
    pub const ALL: [(&'static str, Route); 6] = [
        ("/", Route::Page),
        ("/status", Route::Status),
        ("/history", Route::History),
        ("/metrics", Route::Metrics),
        ("/healthz", Route::Health),
        ("/readyz", Route::Readiness),
    ];

    /// Returns the route of a path.
    #[must_use]
    pub fn of(path: &str) -> Option<Route> {
        Route::ALL.into_iter().find_map(|(served, route)| (served == path).then_some(route))
    }
}

/// Returns the response to a request.
pub fn respond(request: &Request<'_>, server: &mut impl Monitored) -> Response {
    match Route::of(request.path) {
        Some(Route::Page) => page::response(),
        Some(Route::Status) => json(&server.status()),
        Some(Route::History) => json(&server.history()),
        Some(Route::Metrics) => {
            ok(metrics::CONTENT_TYPE, metrics::render(&server.status()).into_bytes())
        }
        Some(Route::Health) => Response::text("200 OK", "ok"),
        Some(Route::Readiness) => match server.unready_reason() {
            None => Response::text("200 OK", "ready"),
            Some(reason) => Response::text("503 Service Unavailable", reason),
        },
        None => Response::text("404 Not Found", NOT_FOUND),
    }
}

const NOT_FOUND: &str = "there are /, /status, /history, /metrics, /healthz and /readyz";

fn ok(content_type: &'static str, body: Vec<u8>) -> Response {
    Response { status: "200 OK", content_type, fields: Cow::Borrowed(""), body: Cow::Owned(body) }
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut json) => {
            json.push(b'\n');
            ok("application/json", json)
        }
        // All keys are strings, so this does not happen.
        Err(error) => Response::text("500 Internal Server Error", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_an_unknown_path_names_all_others() {
        for (path, _) in Route::ALL {
            let mut words = NOT_FOUND.split([' ', ',']);
            assert!(words.any(|word| word == path), "{path}");
        }
    }
}
