//! A connection for unit tests.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use super::transport::Stream;

/// A connection in memory. Without input a read returns `WouldBlock`, or the end of the stream if
/// the peer has closed.
#[derive(Debug)]
pub(crate) struct TestStream {
    pub(crate) input: VecDeque<u8>,
    pub(crate) is_closed_by_peer: bool,
    /// The maximum number of bytes per read.
    pub(crate) max_read: usize,
    /// The number of reads.
    pub(crate) reads: usize,
    /// The number of bytes that it still accepts.
    pub(crate) capacity: usize,
    pub(crate) written: Vec<u8>,
}

impl Default for TestStream {
    fn default() -> TestStream {
        TestStream {
            input: VecDeque::new(),
            is_closed_by_peer: false,
            max_read: usize::MAX,
            reads: 0,
            capacity: 0,
            written: Vec::new(),
        }
    }
}

impl TestStream {
    /// A connection whose peer has sent `input`.
    pub(crate) fn with_input(input: &[u8]) -> TestStream {
        TestStream { input: input.iter().copied().collect(), ..TestStream::default() }
    }
}

impl Read for TestStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let max = buffer.len().min(self.max_read);
        match self.input.is_empty() && !self.is_closed_by_peer {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.input.read(&mut buffer[..max]),
        }
    }
}

impl Write for TestStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.capacity);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.capacity -= taken;
        self.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for TestStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}
