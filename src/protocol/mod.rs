//! Bytes ↔ events. Pure: no I/O, no clock, no log.

mod event;
mod lines;

pub use event::{Event, EventKind, Malformation, ParseError, Sequence, UserId};
pub use lines::{Line, LineSplitter};
