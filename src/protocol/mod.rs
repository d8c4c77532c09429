//! Bytes ↔ events. Pure: no I/O, no clock, no log.

mod event;
mod http;
mod line;
mod reader;
mod short;
mod splitter;

pub use event::{Event, EventKind, Malformation, ParseError, Sequence, UserId};
pub use http::{is_host_field, is_http_request_line};
pub use line::{Line, WINDOW_BYTES};
pub use reader::{EventReader, Received};
pub use short::{Letter, ShortEvent};
pub use splitter::{Cut, LineSplitter};
