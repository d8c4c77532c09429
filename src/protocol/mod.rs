//! Bytes ↔ events. Pure: no I/O, no clock, no log.

mod event;
mod line;
mod reader;
mod short;
mod splitter;

pub use event::{Event, EventKind, Malformation, ParseError, Sequence, UserId};
pub use line::{Line, WINDOW_BYTES};
pub use reader::{EventReader, Received};
pub use short::{Letter, ShortEvent};
pub use splitter::{Cut, LineSplitter};
