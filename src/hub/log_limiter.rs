//! Rate-limited logging for messages that a peer can trigger.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use log::Level;

use crate::hub::close_reason::CloseReason;
use crate::hub::log_line::LogLine;

/// The maximum number of lines logged per second and kind.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The maximum number of input bytes that a log line shows.
const MAX_LOGGED_INPUT: usize = 64;

/// The kinds of log line that a peer can trigger. Each has its own rate limit, so that one kind
/// cannot hide another.
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
    ResumeGap,
}

/// Formats the kind for a message about suppressed lines.
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
            LogKind::ResumeGap => "gap of a client that resumes",
        };
        f.write_str(words)
    }
}

/// The lines of one kind within one second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    kind: LogKind,
    since: Instant,
    lines: u32,
    suppressed: u64,
    /// The most severe level of the suppressed lines.
    level: Level,
}

impl Bucket {
    /// Logs how many lines were suppressed, if any.
    fn report(&self) {
        let Bucket { kind, suppressed, level, .. } = self;
        match suppressed {
            0 => {}
            1 => log::log!(*level, "suppressed 1 similar message ({kind})"),
            _ => log::log!(*level, "suppressed {suppressed} similar messages ({kind})"),
        }
    }
}

/// A logger that allows ten lines per second for each [`LogKind`], and counts the suppressed ones.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    /// The current buckets, one for each kind that was logged within the last second.
    buckets: Vec<Bucket>,
}

impl LogLimiter {
    /// Logs a line unless the limit of its kind is reached.
    pub(crate) fn log(&mut self, kind: LogKind, level: Level, now: Instant, line: LogLine<'_>) {
        if level <= log::max_level() && self.allow(kind, level, now) {
            line.log(level);
        }
    }

    /// Logs how many lines were suppressed in buckets that have expired, and drops those buckets.
    pub(crate) fn report_suppressed(&mut self, now: Instant) {
        self.buckets.retain(|bucket| {
            let is_expired = now.duration_since(bucket.since) >= SECOND;
            if is_expired {
                bucket.report();
            }
            !is_expired
        });
    }

    /// Logs how many lines were suppressed in all buckets, for the end of the program.
    pub(crate) fn report_all_suppressed(&mut self) {
        self.buckets.drain(..).for_each(|bucket| bucket.report());
    }

    /// Returns when [`report_suppressed`](Self::report_suppressed) has a count to log, if ever.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let due = self.buckets.iter().filter(|bucket| bucket.suppressed > 0);
        due.map(|bucket| bucket.since + SECOND).min()
    }

    fn allow(&mut self, kind: LogKind, level: Level, now: Instant) -> bool {
        self.report_suppressed(now);
        let index = self.buckets.iter().position(|bucket| bucket.kind == kind);
        let index = index.unwrap_or_else(|| {
            self.buckets.push(Bucket { kind, since: now, lines: 0, suppressed: 0, level });
            self.buckets.len() - 1
        });
        // The index was just found or created.
        let bucket = &mut self.buckets[index];
        if bucket.lines < LINES_PER_SECOND {
            bucket.lines += 1;
            true
        } else {
            bucket.level = if bucket.suppressed == 0 { level } else { bucket.level.min(level) };
            bucket.suppressed += 1;
            false
        }
    }
}

/// Displays input escaped, and truncated to 64 bytes.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MAX_LOGGED_INPUT)];
        let more = if self.0.len() > MAX_LOGGED_INPUT { "…" } else { "" };
        write!(f, "\"{}\"{more}", shown.escape_ascii())
    }
}

/// Displays the error that caused a close, if any.
pub(crate) struct CausedBy<'a>(pub(crate) Option<&'a io::Error>);

impl fmt::Display for CausedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_per_second_and_a_count_of_the_rest() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        let allow = |limiter: &mut LogLimiter, kind, now| limiter.allow(kind, Level::Warn, now);
        let allowed = (0..100).filter(|_| allow(&mut limiter, LogKind::Late, start)).count();
        assert_eq!(allowed, 10);
        assert!(allow(&mut limiter, LogKind::Malformed, start), "another kind has its own limit");
        assert_eq!(limiter.buckets[0].suppressed, 90);
        assert_eq!(limiter.next_report(), Some(start + SECOND));
        limiter.report_suppressed(start + SECOND / 2);
        assert!(!allow(&mut limiter, LogKind::Late, start + SECOND / 2));
        limiter.report_suppressed(start + SECOND);
        assert_eq!(limiter.next_report(), None);
        assert!(allow(&mut limiter, LogKind::Late, start + SECOND));
    }

    #[test]
    fn suppressed_lines_are_reported_at_the_most_severe_of_their_levels() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        for _ in 0..10 {
            assert!(limiter.allow(LogKind::Paused, Level::Error, start));
        }
        for (level, reported) in
            [(Level::Debug, Level::Debug), (Level::Warn, Level::Warn), (Level::Info, Level::Warn)]
        {
            assert!(!limiter.allow(LogKind::Paused, level, start));
            assert_eq!(limiter.buckets[0].level, reported);
        }
        limiter.report_all_suppressed();
        assert_eq!(limiter.next_report(), None);
    }

    #[test]
    fn kinds_are_displayed_in_words() {
        assert_eq!(LogKind::LateFirst.to_string(), "late first event of a source");
        let closed = LogKind::ClientClosed(CloseReason::BadId);
        assert_eq!(closed.to_string(), "client closed: bad_id");
    }

    #[test]
    fn input_is_escaped_and_truncated() {
        assert_eq!(Escaped(b"1|X\x1b[31m\n\xff").to_string(), r#""1|X\x1b[31m\n\xff""#);
        let long = [b'a'; 65];
        assert_eq!(Escaped(&long[..64]).to_string(), format!("\"{}\"", "a".repeat(64)));
        assert_eq!(Escaped(&long).to_string(), format!("\"{}\"…", "a".repeat(64)));
    }
}
