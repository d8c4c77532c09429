//! All event sources: accepts, reads, applies and closes them.

mod answers;
mod apply;
mod source;
mod table;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use log::Level;

pub(super) use self::apply::Applier;
pub(super) use self::source::SourceWork;

use self::apply::StopReason;
use self::source::Source;
use self::table::{Decision, SourceTable};
use super::Readiness;
use crate::config::{Config, OnSourceDisconnect};
use crate::hub::budgets::Budgets;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::Disconnect;
use crate::hub::context::Context;
use crate::hub::listener::Listener;
use crate::hub::log_limiter::{CausedBy, Escaped, LogKind};
use crate::hub::log_line::log_line;
use crate::hub::recent_closes::{ClosedConnection, Side};
use crate::hub::token::SourceKey;
use crate::hub::transport::{Acceptor, BACKLOG};

/// The event sources, from the accept to the close.
pub(super) struct Sources<A: Acceptor> {
    listener: Listener<A>,
    table: SourceTable<A::Stream>,
}

impl<A: Acceptor> Sources<A> {
    pub(super) fn new(acceptor: A, config: &Config) -> Sources<A> {
        Sources { listener: Listener::new(acceptor), table: SourceTable::new(config.max_sources) }
    }

    /// Changes the settings, between two turns.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.table.reconfigure(config);
    }

    /// Returns the listening socket, until it is closed.
    pub(super) fn acceptor_mut(&mut self) -> Option<&mut A> {
        self.listener.acceptor_mut()
    }

    /// Returns the number of admitted sources.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the number of open sources, admitted or not.
    pub(super) fn open(&self) -> usize {
        self.table.open()
    }

    /// Returns how many lines of an open source were decoded so far.
    pub(super) fn lines_received(&self, key: SourceKey) -> Option<u64> {
        self.table.get(key).map(Source::lines_received)
    }

    /// Returns whether connections over the limit await a decision.
    pub(super) fn has_undecided(&self) -> bool {
        self.table.has_undecided()
    }

    /// Returns whether lines may be left that were read and not decoded.
    pub(super) fn may_have_lines(&self) -> bool {
        self.table.iter().any(Source::may_have_lines)
    }

    /// Returns whether a source has sent a line, decoded or not.
    pub(super) fn has_any_sent_line(&self) -> bool {
        self.table.iter().any(Source::has_sent_line)
    }

    /// Returns whether all bytes known to be in the kernel were read and decoded.
    pub(super) fn are_all_drained(&self) -> bool {
        !self.has_undecided() && self.table.iter().all(Source::is_drained)
    }

    /// Returns whether another turn can read, decode or close without new readiness, as far as each is
    /// possible.
    pub(super) fn have_work(&self, may: SourceWork, cx: &Context) -> bool {
        let may_read = may.read && !self.listener.is_closed();
        let is_reset_pending = self.is_reset_pending(cx);
        self.table.iter().any(|source| {
            let read = may_read && (!is_reset_pending || source.has_sent_line());
            source.has_work(SourceWork { read, ..may })
        })
    }

    /// Returns whether a source has ended whose close may reset the stream. The first line of another one
    /// belongs to the stream after the reset.
    fn is_reset_pending(&self, cx: &Context) -> bool {
        cx.config.on_source_disconnect == OnSourceDisconnect::Reset
            && self.table.iter().any(Source::closed_after_line)
    }

    /// Returns whether another turn can accept a connection without new readiness.
    pub(super) fn can_accept(&self) -> bool {
        self.table.may_accept() && self.listener.is_ready()
    }

    /// Returns the end of the accept back-off, if one is running.
    pub(super) fn backoff_until(&self) -> Option<Instant> {
        self.listener.backoff_until()
    }

    /// Records that connections may be pending.
    pub(super) fn set_listener_readable(&mut self) {
        self.listener.set_readable();
    }

    /// Records the readiness of a source.
    pub(super) fn set_ready(&mut self, key: SourceKey, readiness: &Readiness) {
        if let Some(source) = self.table.get_mut(key) {
            source.set_ready(readiness);
        }
    }

    /// Shrinks the buffers of idle sources.
    pub(super) fn trim_buffers(&mut self) {
        self.table.for_each_mut(Source::trim);
    }

    /// Panics unless the invariants hold.
    pub(super) fn check(&self) {
        self.table.check();
    }
}

/// Accepting and reading.
impl<A: Acceptor> Sources<A> {
    /// Accepts sources until none is pending, or until as many as possible await a decision.
    pub(super) fn accept(&mut self, cx: &mut Context) {
        for _ in 0..BACKLOG {
            if !self.table.may_accept() {
                return;
            }
            match self.listener.accept(self.table.vacant_key().token(), cx.now) {
                Ok(Some((stream, peer))) => self.add(stream, peer, cx),
                Ok(None) => return,
                Err(error) => return cx.on_accept_error("event source", &error),
            }
        }
    }

    fn add(&mut self, stream: A::Stream, peer: SocketAddr, cx: &mut Context) {
        cx.counters.sources_accepted += 1;
        let source = Source::new(stream, peer, cx.config.max_line_bytes, cx.now);
        if let (_, true) = self.table.insert(source) {
            log_admitted(peer, cx);
        }
    }

    /// Admits or rejects the sources over the limit on which a decision can be made.
    pub(super) fn decide(&mut self, cx: &mut Context) {
        while let Some(decision) = self.table.decide() {
            match decision {
                Decision::Admitted(key) => {
                    if let Some(source) = self.table.get(key) {
                        log_admitted(source.peer(), cx);
                    }
                }
                Decision::Rejected(key) => self.reject(key, cx),
            }
        }
    }

    fn reject(&mut self, key: SourceKey, cx: &mut Context) {
        let Some(source) = self.table.remove(key) else { return };
        let (reason, peer) = (CloseReason::TooManySources, source.peer());
        let connected = self.len();
        record_closed(peer, &reason.into(), false, cx);
        cx.log(
            LogKind::SourceClosed(reason),
            Level::Warn,
            log_line!(
                "rejected source {peer}: {reason}, {connected} sources are connected";
                peer = peer, reason = reason
            ),
        );
    }

    /// Reads from every readable source into its buffer. Returns whether any bytes arrived.
    pub(super) fn read(&mut self, cx: &mut Context) -> bool {
        if self.listener.is_closed() {
            return false;
        }
        let Budgets { source_bytes, min_source_bytes, total_source_bytes, .. } = cx.budgets;
        let share = (total_source_bytes / self.len().max(1)).clamp(min_source_bytes, source_bytes);
        let resets = cx.config.on_source_disconnect == OnSourceDisconnect::Reset;
        let mut is_reset_pending = self.is_reset_pending(cx);
        // A source that begins may have come after the end of another one, which resets the stream first.
        let seeks_end = resets && self.table.iter().any(|source| !source.has_sent_line());
        let mut bytes_read = 0;
        self.table.for_each_mut(|source| {
            let may_read = source.has_sent_line() || !is_reset_pending;
            if source.is_readable() && may_read {
                bytes_read += source.read(share, cx.now, seeks_end);
                is_reset_pending |= resets && source.closed_after_line();
            }
        });
        cx.counters.bytes_read += bytes_read as u64;
        bytes_read > 0
    }
}

/// Applying.
impl<A: Acceptor> Sources<A> {
    /// Applies due events and lines that were read, within the budget of a turn.
    pub(super) fn apply(&mut self, applier: &mut Applier<'_, A::Stream>)
    where
        A::Stream: Write,
    {
        // A source whose turn exhausts the budget comes last in the next one.
        for _ in 0..self.len() {
            if applier.apply_due() != StopReason::Drained {
                return;
            }
            let Some(source) = self.table.next_to_apply() else { return };
            if source.may_have_lines() {
                let stopped = applier.apply_lines(source);
                source.set_may_have_lines(stopped != StopReason::Drained);
            }
        }
        applier.apply_due();
    }
}

/// Answering.
impl<A: Acceptor> Sources<A> {
    /// Answers the sources that have sent `SYNC`: all sequences before `awaited` are committed and
    /// applied.
    pub(super) fn answer(&mut self, awaited: u64) {
        self.table.for_each_mut(|source| source.answer(awaited));
    }
}

/// Closing.
impl<A: Acceptor> Sources<A> {
    /// Closes the listener: nothing more is accepted or read.
    pub(super) fn stop(&mut self) {
        self.listener.close();
    }

    /// Closes the sources that have ended and whose lines are all applied. Returns whether one of
    /// them had sent a line.
    pub(super) fn close_ended(&mut self, cx: &mut Context) -> bool {
        let mut had_lines = false;
        let mut index = 0;
        while let Some(key) = self.table.key_at(index) {
            match self.table.get_mut(key).and_then(Source::take_end) {
                Some(end) => had_lines |= self.close(key, &end, cx),
                None => index += 1,
            }
        }
        had_lines
    }

    /// Closes all sources, because the server is stopping.
    pub(super) fn close_all(&mut self, cx: &mut Context) {
        for key in self.table.keys() {
            let end = self.table.get_mut(key).and_then(Source::discard_end);
            self.close(key, &end.unwrap_or(CloseReason::Stopped.into()), cx);
        }
    }

    /// Closes a source. Returns whether it had sent a line.
    fn close(&mut self, key: SourceKey, end: &Disconnect, cx: &mut Context) -> bool {
        let Some(source) = self.table.remove(key) else { return false };
        let &Disconnect { reason, ref error, .. } = end;
        let (peer, lines) = (source.peer(), source.lines_received());
        // A reset before any bytes is what health checks do.
        let is_probe = lines == 0 && source.is_empty() && end.is_reset();
        let is_expected = reason.is_expected() || is_probe;
        record_closed(peer, end, is_expected, cx);
        let level = if is_expected { Level::Info } else { Level::Warn };
        let cause = CausedBy(error.as_ref());
        cx.log(
            LogKind::SourceClosed(reason),
            level,
            log_line!(
                "source {peer} closed: {reason}{cause}, after {lines} lines";
                peer = peer, reason = reason
            ),
        );
        let unterminated = source.partial_line();
        if !unterminated.is_empty() {
            cx.counters.unterminated += 1;
            let shown = Escaped(unterminated);
            cx.log(
                LogKind::Unterminated,
                Level::Warn,
                log_line!("discarded the unterminated last line of source {peer}: {shown}"; peer = peer),
            );
        }
        lines > 0
    }
}

/// Counts the close of a source, and keeps it among the recent ones.
fn record_closed(peer: SocketAddr, end: &Disconnect, is_expected: bool, cx: &mut Context) {
    cx.counters.sources_closed.count(end.reason);
    cx.recent_closes.push(ClosedConnection {
        side: Side::Source,
        user: None,
        peer,
        reason: end.reason,
        is_expected,
        input: end.input.clone(),
        unwritten_bytes: 0,
        at: cx.now,
    });
}

fn log_admitted(peer: SocketAddr, cx: &mut Context) {
    cx.log(
        LogKind::SourceConnected,
        Level::Info,
        log_line!("source {peer} connected"; peer = peer),
    );
}
