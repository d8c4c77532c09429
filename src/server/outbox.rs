//! Bytes that wait for one client.

use std::io::{self, ErrorKind, IoSlice, Write};

/// What ends every line that a client receives.
pub(crate) const TERMINATOR: &[u8] = b"\r\n";

/// Bytes on their way to one client: appended behind, written from the front.
///
/// Invariant: `sent <= bytes.len()`, and an empty outbox has neither.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    sent: usize,
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
    /// Bytes not yet written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds memory to append to.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Gives an outbox without memory a used buffer to append to.
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty() && self.bytes.is_empty());
        self.bytes = buffer;
    }

    /// Takes the memory back from an empty outbox.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        debug_assert!(self.is_empty());
        std::mem::take(&mut self.bytes)
    }

    /// Appends a line and its terminator.
    #[inline]
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        self.make_room(line.len() + TERMINATOR.len());
        self.bytes.extend_from_slice(line);
        self.bytes.extend_from_slice(TERMINATOR);
    }

    /// Appends whole lines with their terminators.
    #[inline]
    pub(crate) fn push_block(&mut self, block: &[u8]) {
        self.make_room(block.len());
        self.bytes.extend_from_slice(block);
    }

    /// Writes what waits, and `block` behind it, until all is written or the socket takes no more.
    /// What is left of `block` waits here then too.
    ///
    /// # Errors
    ///
    /// The stream's, but for "would block" and "interrupted": the connection is over.
    pub(crate) fn flush(&mut self, stream: &mut impl Write, block: &[u8]) -> io::Result<Flush> {
        let mut block = block;
        while !self.is_empty() || !block.is_empty() {
            let error = match self.write_once(stream, block) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    block = self.consume(written, block);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.push_block(block);
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(Flush::Blocked),
                _ => Err(error),
            };
        }
        Ok(Flush::Emptied)
    }

    fn write_once(&self, stream: &mut impl Write, block: &[u8]) -> io::Result<usize> {
        match (&self.bytes[self.sent..], block) {
            ([], block) => stream.write(block),
            (own, []) => stream.write(own),
            (own, block) => stream.write_vectored(&[IoSlice::new(own), IoSlice::new(block)]),
        }
    }

    /// Strikes off `written` bytes, and returns what is left of the block behind them.
    fn consume<'a>(&mut self, written: usize, block: &'a [u8]) -> &'a [u8] {
        let own = written.min(self.len());
        self.sent += own;
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        &block[written - own..]
    }

    /// Drops what was written once it is more than what waits, so that each byte moves at most
    /// once on average and no more than twice the waiting bytes are held.
    #[inline]
    fn make_room(&mut self, bytes: usize) {
        if self.sent > self.len() && self.bytes.len() + bytes > self.bytes.capacity() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.reserve(bytes);
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
            rounds in proptest::collection::vec((
                proptest::collection::vec("[a-z]{0,20}", 0..5),
                "[A-Z]{0,30}",
                proptest::collection::vec(proptest::option::weighted(0.8, 0..25_usize), 0..8),
            ), 0..20),
        ) {
            let mut outbox = Outbox::default();
            let mut socket = Socket { plan: Vec::new().into_iter(), taken: Vec::new() };
            let mut sent = Vec::new();
            for (lines, block, plan) in rounds {
                for line in lines {
                    outbox.push_line(line.as_bytes());
                    sent.extend_from_slice(line.as_bytes());
                    sent.extend_from_slice(b"\r\n");
                }
                sent.extend_from_slice(block.as_bytes());
                socket.plan = plan.into_iter();
                let flush = outbox.flush(&mut socket, block.as_bytes()).unwrap();
                prop_assert_eq!(flush == Flush::Emptied, outbox.is_empty());
                prop_assert_eq!(outbox.len(), sent.len() - socket.taken.len());
                prop_assert!(sent.starts_with(&socket.taken));
            }
            socket.plan = vec![Some(usize::MAX); 2].into_iter();
            outbox.flush(&mut socket, &[]).unwrap();
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
        outbox.push_line(b"1|B");
        let error = outbox.flush(&mut Dead, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    }

    #[test]
    fn written_bytes_do_not_pile_up_behind_a_socket_that_never_catches_up() {
        let mut outbox = Outbox::default();
        let mut socket = Socket { plan: Vec::new().into_iter(), taken: Vec::new() };
        outbox.push_block(&[b'x'; 1000]);
        for _ in 0..10_000 {
            outbox.push_block(&[b'x'; 100]);
            socket.plan = vec![Some(100)].into_iter();
            outbox.flush(&mut socket, &[]).unwrap();
        }
        assert_eq!(outbox.len(), 1000);
        assert!(outbox.bytes.capacity() <= 4096, "{} bytes", outbox.bytes.capacity());
    }
}
