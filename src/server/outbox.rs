//! Bytes that wait for one client.

use std::io::{self, ErrorKind, IoSlice, Write};

use super::byte_queue::ByteQueue;

/// Bytes on their way to one client: appended behind, written from the front. It holds memory only
/// while bytes wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) waiting: ByteQueue,
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
    /// Writes what waits, and `behind` after it, until all is written or the socket takes no more.
    /// What is left waits here then.
    ///
    /// # Errors
    ///
    /// The stream's, but for "would block" and "interrupted": the connection is over.
    pub(crate) fn flush(
        &mut self,
        mut behind: &[u8],
        stream: &mut impl Write,
    ) -> io::Result<Flush> {
        while !(self.waiting.is_empty() && behind.is_empty()) {
            let error = match self.write_once(behind, stream) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    let first = written.min(self.waiting.len());
                    self.waiting.consume(first);
                    behind = &behind[written - first..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.waiting.push_bytes(behind);
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(Flush::Blocked),
                _ => Err(error),
            };
        }
        Ok(Flush::Emptied)
    }

    fn write_once(&self, behind: &[u8], stream: &mut impl Write) -> io::Result<usize> {
        match (self.waiting.as_slice(), behind) {
            ([], behind) => stream.write(behind),
            (first, []) => stream.write(first),
            (first, behind) => stream.write_vectored(&[IoSlice::new(first), IoSlice::new(behind)]),
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
                "[a-z]{0,60}",
                "[a-z]{0,60}",
                proptest::collection::vec(proptest::option::weighted(0.8, 0..25_usize), 0..8),
            ), 0..20),
        ) {
            let mut outbox = Outbox::default();
            let mut socket = Socket { plan: Vec::new().into_iter(), taken: Vec::new() };
            let mut sent = Vec::new();
            for (own, behind, plan) in turns {
                outbox.waiting.push_bytes(own.as_bytes());
                sent.extend_from_slice(own.as_bytes());
                sent.extend_from_slice(behind.as_bytes());
                socket.plan = plan.into_iter();
                let flush = outbox.flush(behind.as_bytes(), &mut socket).unwrap();
                prop_assert_eq!(flush == Flush::Emptied, outbox.waiting.is_empty());
                prop_assert_eq!(outbox.waiting.len(), sent.len() - socket.taken.len());
                prop_assert!(sent.starts_with(&socket.taken));
            }
            socket.plan = vec![Some(usize::MAX); 2].into_iter();
            outbox.flush(&[], &mut socket).unwrap();
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
        let error = outbox.flush(b"1|B\r\n", &mut Dead).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
        assert_eq!(outbox.waiting.len(), 5, "what could not be written is still accounted for");
    }
}
