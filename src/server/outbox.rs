//! Bytes that wait for one client.

use std::io::{self, ErrorKind, IoSlice, Write};

use super::byte_queue::ByteQueue;
use super::spares::Spares;
use super::turn_lines::{Pick, TurnLines};

/// Bytes on their way to one client: appended behind, written from the front. During a turn it
/// notes only which of the turn's lines are for it; they are copied when it is flushed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What was copied and is not yet written.
    own: ByteQueue,
    /// Lines of this turn that are for this client and not for all.
    picks: Vec<Pick>,
    /// Bytes of these lines.
    picked: usize,
    /// How much of the block is in `own`, or written.
    block_cursor: usize,
    pub(crate) state: OutboxState,
}

/// What is to be done before a line can be appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutboxState {
    /// It has to be put on the list of those to flush.
    #[default]
    Untouched,
    /// Nothing: it is on the list.
    Touched,
    /// It takes nothing more.
    Closed,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Everything is written.
    Emptied,
    /// The socket takes no more for now; it will say when it does.
    Blocked,
}

impl Outbox {
    /// Bytes not yet written, with the share of the turn's broadcasts that is still to come.
    #[inline]
    pub(crate) fn queued(&self, lines: &TurnLines) -> usize {
        self.len() + lines.block.len() - self.block_cursor
    }

    /// Bytes not yet written of its own.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.picked
    }

    /// Gives an outbox that is empty a used list to note lines in.
    #[inline]
    pub(crate) fn adopt(&mut self, spares: &mut Spares) {
        if self.picks.capacity() == 0 {
            self.picks = spares.picks.take();
        }
    }

    /// Gives back most of the memory of a burst that has left.
    pub(crate) fn shrink(&mut self) {
        self.own.shrink();
    }

    /// Appends a line that was picked, behind what it lacks of the block.
    #[inline(always)]
    pub(crate) fn push(&mut self, pick: Pick) {
        self.picks.push(pick);
        self.picked += pick.size as usize;
    }

    /// Copies what it has noted, so that the turn's lines can be forgotten but for the end of the
    /// block.
    fn copy_picks(&mut self, lines: &TurnLines, spares: &mut Spares) {
        let Some(last) = self.picks.last() else { return };
        let block_end = last.block_end as usize;
        if self.own.capacity() == 0 {
            self.own = spares.buffers.take();
        }
        self.own.reserve(self.picked + block_end - self.block_cursor);
        for pick in &self.picks {
            let block_end = pick.block_end as usize;
            if self.block_cursor < block_end {
                self.own.push_part(&lines.block, self.block_cursor, block_end - self.block_cursor);
                self.block_cursor = block_end;
            }
            self.own.push_part(&lines.picked, pick.at as usize, pick.size as usize);
        }
        self.picked = 0;
        self.picks.clear();
        spares.picks.keep(std::mem::take(&mut self.picks));
    }

    /// Copies all that it lacks, so that the turn's lines can be forgotten.
    pub(crate) fn catch_up(&mut self, lines: &TurnLines, spares: &mut Spares) {
        self.copy_picks(lines, spares);
        self.own.push_bytes(&lines.block.as_slice()[self.block_cursor..]);
        self.block_cursor = lines.block.len();
    }

    /// The block begins anew, after everybody has caught up with it.
    pub(crate) fn forget_block(&mut self) {
        self.block_cursor = 0;
    }

    /// Writes what waits until all is written or the socket takes no more. What is left waits here
    /// then.
    ///
    /// # Errors
    ///
    /// The stream's, but for "would block" and "interrupted": the connection is over.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        lines: &TurnLines,
        spares: &mut Spares,
    ) -> io::Result<Flush> {
        self.copy_picks(lines, spares);
        while self.queued(lines) > 0 {
            let error = match self.write_once(stream, &lines.block) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    let own = written.min(self.own.len());
                    self.own.consume(own);
                    self.block_cursor += written - own;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.catch_up(lines, spares);
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(Flush::Blocked),
                _ => Err(error),
            };
        }
        spares.buffers.keep(std::mem::take(&mut self.own));
        Ok(Flush::Emptied)
    }

    fn write_once(&self, stream: &mut impl Write, block: &ByteQueue) -> io::Result<usize> {
        match (self.own.as_slice(), &block.as_slice()[self.block_cursor..]) {
            ([], block) => stream.write(block),
            (own, []) => stream.write(own),
            (own, block) => stream.write_vectored(&[IoSlice::new(own), IoSlice::new(block)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket that takes so many bytes a write, by plan: `None` is "would block".
    struct Socket {
        plan: std::vec::IntoIter<Option<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.plan.next() {
                Some(Some(0)) => Err(ErrorKind::Interrupted.into()),
                Some(Some(most)) => {
                    let taken = most.min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
                Some(None) | None => Err(ErrorKind::WouldBlock.into()),
            }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.write(&all)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order_whatever_the_socket_takes(
            turns in proptest::collection::vec((
                proptest::collection::vec(("[a-z]{0,40}", any::<bool>()), 0..8),
                proptest::collection::vec(proptest::option::weighted(0.8, 0..25_usize), 0..8),
            ), 0..20),
        ) {
            let mut outbox = Outbox::default();
            let mut block = ByteQueue::default();
            let mut socket = Socket { plan: Vec::new().into_iter(), taken: Vec::new() };
            let mut sent = Vec::new();
            for (lines, plan) in turns {
                for (line, is_broadcast) in lines {
                    let plain = Line::Plain(line.as_bytes());
                    match is_broadcast {
                        true => block.push_line(&plain),
                        false => outbox.push(&plain, &block),
                    }
                    sent.extend_from_slice(line.as_bytes());
                    sent.extend_from_slice(b"\r\n");
                }
                prop_assert_eq!(outbox.queued(&block), sent.len() - socket.taken.len());
                socket.plan = plan.into_iter();
                let flush = outbox.flush(&mut socket, &block).unwrap();
                block.clear();
                outbox.forget_block();
                prop_assert_eq!(flush == Flush::Emptied, outbox.len() == 0);
                prop_assert_eq!(outbox.len(), sent.len() - socket.taken.len());
                prop_assert!(sent.starts_with(&socket.taken));
            }
            socket.plan = vec![Some(usize::MAX); 2].into_iter();
            outbox.flush(&mut socket, &block).unwrap();
            prop_assert_eq!(socket.taken, sent);
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_and_does_not_say_why_is_an_error() {
        struct Dead;
        impl Write for Dead {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut outbox = Outbox::default();
        let block = ByteQueue::default();
        outbox.push(&Line::Plain(b"1|B"), &block);
        let error = outbox.flush(&mut Dead, &block).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
        assert_eq!(outbox.len(), 5, "what could not be written is still accounted for");
    }
}
