//! Bytes that wait for one client.

use std::io::{self, ErrorKind, IoSlice, Write};

use super::byte_queue::ByteQueue;
use crate::protocol::Line;

/// Bytes on their way to one client: appended behind, written from the front. What is broadcast
/// stands in a block that all outboxes share for the length of a turn; an outbox knows how much of it
/// it has, and takes the rest when something of its own follows or when its socket refuses it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    own: ByteQueue,
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
    /// Bytes not yet written, with the share of `block` that is still to come.
    #[inline]
    pub(crate) fn queued(&self, block: &ByteQueue) -> usize {
        self.own.len() + block.len() - self.block_cursor
    }

    /// Bytes not yet written of its own.
    pub(crate) fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether it holds memory to append to.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.own.capacity() > 0
    }

    /// Gives an outbox without memory a used buffer to append to.
    pub(crate) fn adopt(&mut self, buffer: ByteQueue) {
        debug_assert!(buffer.is_empty() && self.own.is_empty());
        self.own = buffer;
    }

    /// Takes the memory back from an empty outbox.
    pub(crate) fn release(&mut self) -> ByteQueue {
        debug_assert!(self.own.is_empty());
        std::mem::take(&mut self.own)
    }

    /// Gives back most of the memory of a burst that has left.
    pub(crate) fn shrink(&mut self) {
        self.own.shrink();
    }

    /// Appends a line, behind what it lacks of the block.
    #[inline(always)]
    pub(crate) fn push(&mut self, line: &Line<'_>, block: &ByteQueue) {
        if self.block_cursor < block.len() {
            self.catch_up(block);
        }
        self.own.push_line(line);
    }

    /// Appends what it lacks of the block.
    pub(crate) fn catch_up(&mut self, block: &ByteQueue) {
        self.own.push_bytes(&block.as_slice()[self.block_cursor..]);
        self.block_cursor = block.len();
    }

    /// The block begins anew, after everybody has caught up with it.
    pub(crate) fn forget_block(&mut self) {
        self.block_cursor = 0;
    }

    /// Writes what waits, and what it lacks of the block behind it, until all is written or the
    /// socket takes no more. What is left waits here then.
    ///
    /// # Errors
    ///
    /// The stream's, but for "would block" and "interrupted": the connection is over.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        block: &ByteQueue,
    ) -> io::Result<Flush> {
        while self.queued(block) > 0 {
            let error = match self.write_once(stream, block) {
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
            self.catch_up(block);
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(Flush::Blocked),
                _ => Err(error),
            };
        }
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
