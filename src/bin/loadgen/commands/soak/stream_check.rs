//! Checks of a churn client's output that do not depend on when it was registered.

use super::ticks::Broadcasts;
use crate::codec::{Event, Line};

/// Maximum length of a line in this load.
const MAX_LINE_BYTES: usize = 128;

/// Checker of the lines that one churn client receives.
pub(super) struct StreamChecker {
    /// `None`: it has sent no valid id, and must receive nothing.
    user: Option<u64>,
    /// Sequence of the last line; 0 before the first.
    last_sequence: u64,
    /// Beginning of an incomplete line.
    partial: Vec<u8>,
}

/// The events sent so far.
#[derive(Clone, Copy)]
pub(super) struct SentSoFar<'a> {
    pub(super) next_sequence: u64,
    pub(super) broadcasts: &'a Broadcasts,
}

impl StreamChecker {
    pub(super) fn of(user: Option<u64>) -> StreamChecker {
        StreamChecker { user, last_sequence: 0, partial: Vec::new() }
    }

    /// Checks received bytes: whole lines that have been sent and concern this user, ascending,
    /// without a missing broadcast in between.
    ///
    /// # Errors
    ///
    /// A check fails; the error describes it.
    pub(super) fn check(&mut self, bytes: &[u8], sent: SentSoFar<'_>) -> Result<(), String> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") || self.partial.len() > MAX_LINE_BYTES {
                let line = std::mem::take(&mut self.partial);
                let name = |why| {
                    let line = line[..line.len().min(MAX_LINE_BYTES)].escape_ascii();
                    match self.user {
                        Some(user) => {
                            format!("the churn client of user {user} got `{line}`, {why}")
                        }
                        None => format!("a client without an id got `{line}`"),
                    }
                };
                self.last_sequence = self.check_line(&line, sent).map_err(name)?;
                self.partial = line;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Checks a line and returns its sequence.
    fn check_line(&self, line: &[u8], sent: SentSoFar<'_>) -> Result<u64, &'static str> {
        let line = line.strip_suffix(b"\r\n").ok_or("which is not a line")?;
        let Line::Event(sequence, event) = Line::read(line) else {
            return Err("which is not an event");
        };
        let concerns = match event {
            Event::Follow { followed: user, .. } | Event::Private { to: user, .. } => {
                Some(user) == self.user
            }
            Event::Broadcast | Event::Status { .. } => self.user.is_some(),
            Event::Unfollow { .. } => false,
        };
        let last = self.last_sequence;
        if !concerns {
            Err("which is not addressed to it")
        } else if sequence <= last {
            Err("which is out of order")
        } else if sequence >= sent.next_sequence {
            Err("which was not sent")
        } else if last > 0 && sent.broadcasts.any_between(last, sequence) {
            Err("without the broadcast before it")
        } else {
            Ok(sequence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: Option<u64>, chunks: &[&str]) -> Result<(), String> {
        let mut broadcasts = Broadcasts::default();
        [3, 5, 9].into_iter().for_each(|sequence| broadcasts.push(sequence));
        let sent = SentSoFar { next_sequence: 20, broadcasts: &broadcasts };
        let mut checker = StreamChecker::of(user);
        chunks.iter().try_for_each(|chunk| checker.check(chunk.as_bytes(), sent))
    }

    #[test]
    fn what_is_right_in_any_pieces() {
        let lines = ["3|B\r\n4|P|1|7\r", "\n5|B\r\n6|S|2\r\n7|F|", "1|7\r\n", "9|B\r\n19|P|"];
        assert_eq!(check(Some(7), &lines), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (lines, why) in [
            ("4|P|1|8\r\n", "not addressed to it"),
            ("4|U|1|7\r\n", "not addressed to it"),
            ("5|B\r\n4|P|1|7\r\n", "out of order"),
            ("4|P|1|7\r\n4|P|1|7\r\n", "out of order"),
            ("20|B\r\n", "not sent"),
            ("3|B\r\n9|B\r\n", "without the broadcast before it"),
            ("4|P|1|7\r\n8|P|1|7\r\n", "without the broadcast before it"),
            ("3|B\n", "not a line"),
            ("3|b\r\n", "not an event"),
            ("\r\n", "not an event"),
        ] {
            let error = check(Some(7), &[lines]).unwrap_err();
            assert!(error.contains(why) && error.contains("user 7"), "{error}");
        }
        assert!(check(None, &["3|B\r\n"]).unwrap_err().contains("without an id"));
        assert!(check(Some(7), &["1".repeat(MAX_LINE_BYTES + 1).as_str()]).is_err());
    }
}
