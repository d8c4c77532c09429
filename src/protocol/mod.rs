//! Bytes ↔ events. Pure: no I/O, no clock, no log.

mod event;

pub use event::{Event, EventKind, Malformation, ParseError, Sequence, UserId};
