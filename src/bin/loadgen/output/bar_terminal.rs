//! The terminal as a progress bar sees it.

use std::io::{self, Write};

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;

/// Columns kept free after a bar. A bar is padded to the width of its terminal, and Ctrl-C shows `^C`
/// after it: in a full line that would begin a new one, and the bar before it would stay.
const FREE_COLUMNS: u16 = 4;

/// Width of a terminal that does not tell it.
const DEFAULT_COLUMNS: u16 = 80;

/// Standard error without its last columns.
#[derive(Debug)]
pub(super) struct BarTerminal;

impl BarTerminal {
    /// Writes an escape sequence that moves the cursor by `n`.
    fn move_cursor(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write_str(&format!("\x1b[{n}{direction}")) }
    }
}

impl TermLike for BarTerminal {
    fn width(&self) -> u16 {
        let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { DEFAULT_COLUMNS } else { columns };
        columns.saturating_sub(FREE_COLUMNS).max(1)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
