//! Clients that come back, and what they have missed.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::event::Action;
use super::super::kernel::SocketId;
use super::super::sequencer::Line;
use super::{Model, TERMINATOR, TurnSnapshot};

/// An applied event of the current stream.
#[derive(Debug)]
pub(super) struct Applied {
    sequence: u64,
    line: Line,
    action: Action,
    /// The follows before it.
    follows: Rc<BTreeSet<(u64, u64)>>,
}

/// A client that has sent a sequence and gets no live events yet.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The first sequence that it lacks.
    next: u64,
    /// Time and turn of its registration.
    since: u64,
    turn: u64,
    /// Since when it certainly waits for later sequences.
    ahead_since: Option<u64>,
    /// Since when the timeout is over and it waits once more.
    extended_since: Option<u64>,
    /// The number of resets since its registration.
    stream: u64,
    /// What it must receive, in order, with the stream and the sequence. A gap stands before what it does not hide.
    pieces: Vec<(u64, u64, Vec<u8>)>,
    /// The streams that it was told no gap at the end of, and the sequences that were awaited at their resets.
    before_resets: Vec<(u64, u64)>,
    gaps: u32,
}

impl Replay {
    pub(super) fn is_ahead(&self, awaited: u64) -> bool {
        self.next > awaited
    }

    /// Returns when a timeout has certainly expired, at the latest.
    pub(super) fn due_at(&self, awaited: u64, timeout: u64, now: u64) -> Option<u64> {
        let since = self.extended_since.or(self.ahead_since).filter(|_| self.is_ahead(awaited))?;
        // It may have waited since its registration, and have got the timeout once more at any time since that was over.
        let is_extended = self.extended_since.is_none() && now >= self.since + timeout;
        Some(timeout + if is_extended { now } else { since })
    }

    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(_, _, bytes)| bytes).copied().collect()
    }

    /// Returns the index of the reset that a gap up to `last` is told for. Where an earlier gap ends with the last
    /// event before the reset, it may be told alone: the sequences after it were void or lost.
    fn gap_of_reset(&self, last: u64, is_any_dropped: bool) -> Option<usize> {
        let is_last_of =
            |stream| !self.pieces.iter().any(|&(of, sequence, _)| of == stream && sequence > last);
        let up_to_reset = self.before_resets.iter().position(|&(_, awaited)| awaited == last + 1);
        up_to_reset.or_else(|| {
            let mut resets = self.before_resets.iter().filter(|_| !is_any_dropped);
            resets.position(|&(stream, awaited)| awaited > last && is_last_of(stream))
        })
    }

    /// Replaces what is within a gap by the gap.
    fn hide(&mut self, stream: u64, (first, last): (u64, u64), gap: Vec<u8>) {
        let at = self.pieces.partition_point(|&(of, sequence, _)| (of, sequence) < (stream, first));
        let is_within = |sequence: u64| (first..=last).contains(&sequence);
        self.pieces.retain(|&(of, sequence, _)| of != stream || !is_within(sequence));
        self.pieces.insert(at, (stream, last, gap));
    }

    /// Appends the line of an event that concerns the user, unless the client has it.
    fn push(&mut self, sequence: u64, line: &[u8]) {
        if sequence >= self.next {
            self.pieces.push((self.stream, sequence, [line, TERMINATOR].concat()));
        }
    }
}

impl Applied {
    fn concerns(&self, user: u64) -> bool {
        self.action.concerns(user, &self.follows)
    }
}

impl Model {
    /// Starts the replay of a client that was registered in this turn.
    pub(super) fn start_replay(&mut self, id: SocketId, user: u64, after: u64) {
        let mut replay = Replay {
            next: after + 1,
            since: self.now,
            turn: self.turns,
            ahead_since: None,
            extended_since: None,
            stream: 0,
            pieces: Vec::new(),
            before_resets: Vec::new(),
            gaps: 0,
        };
        for event in self.history.iter().filter(|event| event.concerns(user)) {
            replay.push(event.sequence, &event.line);
        }
        self.deliveries.1 += replay.pieces.len() as u64;
        let client = self.client(id);
        client.expected = replay.bytes();
        client.replay = Some(replay);
    }

    /// Records an applied event, which no client that resumes gets as a live one.
    pub(super) fn record(&mut self, sequence: u64, line: &Line, action: Action) {
        let event = Applied {
            sequence,
            line: Line::clone(line),
            action,
            follows: Rc::clone(&self.follows),
        };
        for (&user, id) in &self.users {
            let Some(client) = self.clients.get_mut(id) else { continue };
            let Some(replay) = &mut client.replay else { continue };
            if event.concerns(user) {
                replay.push(sequence, line);
                client.expected = replay.bytes();
                self.deliveries.1 += 1;
            }
        }
        // Nobody needs to know of an unfollow that changes nothing.
        let is_kept = match action {
            Action::Unfollow { follower, followed } => self.follows.contains(&(follower, followed)),
            _ => true,
        };
        if is_kept {
            self.history.push(event);
        }
    }

    /// Records a reset: what clients that resume have not got yet is a gap.
    pub(super) fn reset_replays(&mut self, awaited: u64) {
        self.history.clear();
        self.before_reset = Some(awaited);
        let first = self.sequencer.first();
        for client in self.clients.values_mut() {
            let Some(replay) = client.replay.as_mut().filter(|it| !it.is_ahead(awaited)) else {
                continue;
            };
            replay.before_resets.push((replay.stream, awaited));
            replay.stream += 1;
            replay.next = first;
        }
    }

    /// Checks a gap that a client is told, and removes what it hides.
    pub(super) fn tell_gap(&mut self, id: SocketId, first: u64, last: u64) {
        assert!(first <= last, "a gap is not empty");
        let awaited = self.sequencer.awaited();
        let kept_after = self.history.iter().filter(|event| event.sequence > last).count();
        let dropped = self.history.len().saturating_sub(self.limits.resume_events);
        let is_any_dropped =
            self.history[..dropped].iter().any(|event| (first..=last).contains(&event.sequence));
        let (now, turn, before_reset) = (self.now, self.turns, self.before_reset);
        let stream_start = self.sequencer.first();
        let (timeout, limit) = (self.limits.identify_timeout, self.limits.resume_events);
        let user = self.client(id).user;
        let kept =
            self.history.iter().filter(|event| user.is_some_and(|user| event.concerns(user)));
        let kept: Vec<_> = kept.map(|event| (event.sequence, Line::clone(&event.line))).collect();
        let client = self.client(id);
        let written = client.written as usize;
        let Some(replay) = &mut client.replay else { panic!("client {id} has live events") };
        let gap = format!("gap {first} {last}\r\n").into_bytes();
        let mut deliveries = 1;
        if replay.is_ahead(awaited) {
            // The server may have given up to wait before the latest events, or before the stream was reset.
            let is_before_reset = before_reset == Some(first);
            assert!(is_before_reset || first <= awaited, "it has more than the server");
            assert_eq!(last, replay.next - 1, "the gap ends with what it has");
            assert!(now >= replay.since + timeout, "client {id} did not wait long enough");
            assert!(replay.pieces.is_empty());
            replay.pieces.push((replay.stream, first, gap));
            replay.stream += u64::from(is_before_reset);
            replay.next = if is_before_reset { stream_start } else { first };
            if !is_before_reset {
                kept.iter().for_each(|(sequence, line)| replay.push(*sequence, line));
            }
            deliveries = replay.pieces.len() as u64;
        } else if let Some(index) = replay.gap_of_reset(last, is_any_dropped) {
            let (stream, _) = replay.before_resets.remove(index);
            replay.hide(stream, (first, last), gap);
        } else {
            assert!(is_any_dropped, "the server has all events from {first} to {last}");
            assert!(first >= replay.next, "the client has {first}");
            let is_at_once = replay.turn == turn && replay.gaps == 0;
            // A client that the stream outruns goes on nearer to the newest event each time.
            if is_at_once {
                assert_eq!(first, replay.next, "the gap follows what it has");
                assert!(
                    kept_after >= limit,
                    "the server has more than {kept_after} events after {last}"
                );
            }
            replay.gaps += 1;
            replay.hide(replay.stream, (first, last), gap);
        }
        client.expected = replay.bytes();
        assert!(client.expected.len() >= written, "what was written is no gap");
        self.deliveries.1 += deliveries;
    }

    /// Records that live events continue what a client has missed.
    pub(super) fn end_replay(&mut self, id: SocketId) {
        let awaited = self.sequencer.awaited();
        let Some(replay) = self.client(id).replay.take() else { panic!("client {id} is live") };
        assert!(!replay.is_ahead(awaited), "client {id} has events that are not applied");
        self.deliveries.0 += replay.pieces.len() as u64;
        assert!(self.limits.resume_events > 0, "clients may not resume");
        self.client(id).fills_alone = true;
    }

    /// Checks that clients that resume wait for nothing but their sockets, or for later sequences.
    pub(super) fn check_replays(
        &mut self,
        snapshot: &TurnSnapshot,
        is_blocked: impl Fn(SocketId) -> bool,
    ) {
        let awaited = self.sequencer.awaited();
        let (now, timeout) = (snapshot.now, self.limits.identify_timeout);
        for (&id, client) in &mut self.clients {
            let Some(replay) = &mut client.replay else { continue };
            if replay.is_ahead(awaited) {
                let since = *replay.ahead_since.get_or_insert(now);
                if now >= since + timeout {
                    let since = *replay.extended_since.get_or_insert(now);
                    assert!(now < since + timeout, "client {id} still waits for {}", replay.next);
                }
            } else {
                assert!(is_blocked(id), "client {id} could be sent what it has missed");
                (replay.ahead_since, replay.extended_since) = (None, None);
            }
        }
    }
}
