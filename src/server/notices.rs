//! Log lines that peers can cause, held to a rate.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use log::Level;

use super::close_reason::CloseReason;

/// How many lines of one topic appear a second.
const LINES_A_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// How many bytes of input a log line shows.
const SHOWN_BYTES: usize = 64;

/// The kinds of log line that input or a peer can cause. Each has a rate of its own, so that one of
/// them cannot hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    SourceConnected,
    SourceClosed(CloseReason),
    ClientClosed(CloseReason),
    ClientRegistered,
    Malformed,
    Duplicate,
    Late,
    LateFirst,
    Unterminated,
    WindowExceeded,
    Gap,
    GapSkipped,
    Reset,
    Paused,
    AcceptFailed,
}

/// One second of one topic.
#[derive(Clone, Copy, Debug)]
struct Window {
    topic: Topic,
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// Lets each [`Topic`] log ten lines a second, and counts what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// The seconds under way, one for each topic that has said something lately.
    windows: Vec<Window>,
}

impl Notices {
    /// Logs a line unless its topic has had its share of this second.
    pub(crate) fn say(
        &mut self,
        topic: Topic,
        level: Level,
        now: Instant,
        line: fmt::Arguments<'_>,
    ) {
        if level <= log::max_level() && self.admits(topic, now) {
            log::log!(level, "{line}");
        }
    }

    /// Logs how many lines were left out in seconds that are over.
    pub(crate) fn report_left_out(&mut self, now: Instant) {
        self.windows.retain(|window| {
            let is_over = now.duration_since(window.since) >= SECOND;
            if is_over && window.left_out > 0 {
                let Window { topic, left_out, .. } = window;
                log::warn!("left out {left_out} more log lines of kind {topic:?}");
            }
            !is_over
        });
    }

    /// When [`report_left_out`](Self::report_left_out) has something to say, if ever.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let owing = self.windows.iter().filter(|window| window.left_out > 0);
        owing.map(|window| window.since + SECOND).min()
    }

    fn admits(&mut self, topic: Topic, now: Instant) -> bool {
        self.report_left_out(now);
        let place = self.windows.iter().position(|window| window.topic == topic);
        let place = place.unwrap_or_else(|| {
            self.windows.push(Window { topic, since: now, lines: 0, left_out: 0 });
            self.windows.len() - 1
        });
        // A place that was just found or made.
        let window = &mut self.windows[place];
        if window.lines < LINES_A_SECOND {
            window.lines += 1;
            true
        } else {
            window.left_out += 1;
            false
        }
    }
}

/// Input as a log line may show it: escaped, and cut to 64 bytes.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        let more = if self.0.len() > SHOWN_BYTES { "…" } else { "" };
        write!(f, "\"{}\"{more}", shown.escape_ascii())
    }
}

/// An error behind a reason, if there is one.
pub(crate) struct Because(pub(crate) Option<io::Error>);

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_and_a_count_of_the_rest() {
        let mut notices = Notices::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| notices.admits(Topic::Late, start)).count();
        assert_eq!(admitted, 10);
        assert!(notices.admits(Topic::Malformed, start), "another topic is not concerned");
        assert_eq!(notices.windows[0].left_out, 90);
        assert_eq!(notices.next_report(), Some(start + SECOND));
        notices.report_left_out(start + SECOND / 2);
        assert!(!notices.admits(Topic::Late, start + SECOND / 2));
        notices.report_left_out(start + SECOND);
        assert_eq!(notices.next_report(), None);
        assert!(notices.admits(Topic::Late, start + SECOND));
    }

    #[test]
    fn input_is_escaped_and_cut() {
        assert_eq!(Shown(b"1|X\x1b[31m\n\xff").to_string(), r#""1|X\x1b[31m\n\xff""#);
        let long = [b'a'; 65];
        assert_eq!(Shown(&long[..64]).to_string(), format!("\"{}\"", "a".repeat(64)));
        assert_eq!(Shown(&long).to_string(), format!("\"{}\"…", "a".repeat(64)));
    }
}
