//! Log lines that peers can cause, held to a rate.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use log::Level;

use crate::hub::close_reason::CloseReason;

/// How many lines of one topic appear a second.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// How many bytes of input a log line shows.
const MAX_LOGGED_INPUT: usize = 64;

/// The kinds of log line that input or a peer can cause. Each has a rate of its own, so that one of
/// them cannot hide another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
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

/// What the lines of a topic are about, in words.
impl fmt::Display for LogKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            LogKind::SourceClosed(reason) => return write!(f, "source closed: {reason}"),
            LogKind::ClientClosed(reason) => return write!(f, "client closed: {reason}"),
            LogKind::SourceConnected => "source connected",
            LogKind::ClientRegistered => "client registered",
            LogKind::Malformed => "malformed line",
            LogKind::Duplicate => "duplicate event",
            LogKind::Late => "late event",
            LogKind::LateFirst => "late first event of a source",
            LogKind::Unterminated => "unterminated last line",
            LogKind::WindowExceeded => "event outside the reorder window",
            LogKind::Gap => "missing sequence",
            LogKind::GapSkipped => "missing sequences skipped",
            LogKind::Reset => "stream reset",
            LogKind::Paused => "paused or resumed",
            LogKind::AcceptFailed => "failed accept",
        };
        f.write_str(words)
    }
}

/// One second of one topic.
#[derive(Clone, Copy, Debug)]
struct Window {
    topic: LogKind,
    since: Instant,
    lines: u32,
    suppressed: u64,
    /// The most severe level of the lines left out.
    level: Level,
}

impl Window {
    /// Logs how many lines were left out, if any.
    fn report(&self) {
        let Window { topic, suppressed, level, .. } = self;
        match suppressed {
            0 => {}
            1 => log::log!(*level, "suppressed 1 similar message ({topic})"),
            _ => log::log!(*level, "suppressed {suppressed} similar messages ({topic})"),
        }
    }
}

/// Lets each [`LogKind`] log ten lines a second, and counts what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    /// The seconds under way, one for each topic that has said something lately.
    windows: Vec<Window>,
}

impl LogLimiter {
    /// Logs a line unless its topic has had its share of this second.
    pub(crate) fn say(
        &mut self,
        topic: LogKind,
        level: Level,
        now: Instant,
        line: fmt::Arguments<'_>,
    ) {
        if level <= log::max_level() && self.admits(topic, level, now) {
            log::log!(level, "{line}");
        }
    }

    /// Logs how many lines were left out in seconds that are over.
    pub(crate) fn report_suppressed(&mut self, now: Instant) {
        self.windows.retain(|window| {
            let is_over = now.duration_since(window.since) >= SECOND;
            if is_over {
                window.report();
            }
            !is_over
        });
    }

    /// Logs how many lines were left out, those of seconds that are not over included: at the end.
    pub(crate) fn report_all_left_out(&mut self) {
        self.windows.drain(..).for_each(|window| window.report());
    }

    /// Returns when [`report_suppressed`](Self::report_suppressed) has something to say, if ever.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let owing = self.windows.iter().filter(|window| window.suppressed > 0);
        owing.map(|window| window.since + SECOND).min()
    }

    fn admits(&mut self, topic: LogKind, level: Level, now: Instant) -> bool {
        self.report_suppressed(now);
        let place = self.windows.iter().position(|window| window.topic == topic);
        let place = place.unwrap_or_else(|| {
            self.windows.push(Window { topic, since: now, lines: 0, suppressed: 0, level });
            self.windows.len() - 1
        });
        // A place that was just found or made.
        let window = &mut self.windows[place];
        if window.lines < LINES_PER_SECOND {
            window.lines += 1;
            true
        } else {
            window.level = if window.suppressed == 0 { level } else { window.level.min(level) };
            window.suppressed += 1;
            false
        }
    }
}

/// Input as a log line may show it: escaped, and cut to 64 bytes.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MAX_LOGGED_INPUT)];
        let more = if self.0.len() > MAX_LOGGED_INPUT { "…" } else { "" };
        write!(f, "\"{}\"{more}", shown.escape_ascii())
    }
}

/// An error behind a reason, if there is one.
pub(crate) struct CausedBy(pub(crate) Option<io::Error>);

impl fmt::Display for CausedBy {
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
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        let admits = |limiter: &mut LogLimiter, topic, now| limiter.admits(topic, Level::Warn, now);
        let admitted = (0..100).filter(|_| admits(&mut limiter, LogKind::Late, start)).count();
        assert_eq!(admitted, 10);
        assert!(admits(&mut limiter, LogKind::Malformed, start), "another topic is not concerned");
        assert_eq!(limiter.windows[0].suppressed, 90);
        assert_eq!(limiter.next_report(), Some(start + SECOND));
        limiter.report_suppressed(start + SECOND / 2);
        assert!(!admits(&mut limiter, LogKind::Late, start + SECOND / 2));
        limiter.report_suppressed(start + SECOND);
        assert_eq!(limiter.next_report(), None);
        assert!(admits(&mut limiter, LogKind::Late, start + SECOND));
    }

    #[test]
    fn lines_left_out_are_told_of_at_the_most_severe_of_their_levels() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        for _ in 0..10 {
            assert!(limiter.admits(LogKind::Paused, Level::Error, start));
        }
        for (level, told) in
            [(Level::Debug, Level::Debug), (Level::Warn, Level::Warn), (Level::Info, Level::Warn)]
        {
            assert!(!limiter.admits(LogKind::Paused, level, start));
            assert_eq!(limiter.windows[0].level, told);
        }
        limiter.report_all_left_out();
        assert_eq!(limiter.next_report(), None);
    }

    #[test]
    fn topics_are_told_in_words() {
        assert_eq!(LogKind::LateFirst.to_string(), "late first event of a source");
        let closed = LogKind::ClientClosed(CloseReason::BadId);
        assert_eq!(closed.to_string(), "client closed: bad_id");
    }

    #[test]
    fn input_is_escaped_and_cut() {
        assert_eq!(Escaped(b"1|X\x1b[31m\n\xff").to_string(), r#""1|X\x1b[31m\n\xff""#);
        let long = [b'a'; 65];
        assert_eq!(Escaped(&long[..64]).to_string(), format!("\"{}\"", "a".repeat(64)));
        assert_eq!(Escaped(&long).to_string(), format!("\"{}\"…", "a".repeat(64)));
    }
}
