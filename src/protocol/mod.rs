//! The wire protocol: bytes to lines, lines to events. Pure: no I/O, no clock, no log.

mod decoder;
mod event;
mod fast_path;
mod http;
mod id_line;
mod line;
mod line_buffer;

pub use decoder::{Decoded, EventDecoder};
pub(crate) use event::split_sequence;
pub use event::{Event, EventKind, ParseError, ParseErrorKind, Sequence, UserId};
pub use fast_path::{CompactEvent, EventTag};
pub use http::{is_host_field, is_http_request_line};
pub use id_line::{IdLine, IdLineError};
pub use line::{Line, PADDED_LINE_BYTES};
pub use line_buffer::{LineBuffer, LineFrame};
