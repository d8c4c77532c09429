//! The queue of bytes that the socket of a client has not accepted yet, and the writes to that socket.

use std::io::{self, ErrorKind, IoSlice, Write};

use smallvec::SmallVec;

use crate::hub::outbound::block_pool::{BLOCK_BYTES, Block, BlockPool};

/// The maximum number of slices passed to one write: at least 64 KiB, because each slice has one
/// block or more.
const MAX_SLICES: usize = 512;

/// The number of bytes at which a write gets no more slices: beyond it the cost of the call is
/// negligible, and a socket rarely accepts more.
const MAX_WRITE_BYTES: usize = 256 << 10;

/// A queue of bytes in blocks of a [`BlockPool`]: appended at the end, written from the front.
///
/// An empty queue has no memory. Any other takes less than two blocks beyond its bytes, plus the
/// links. Its blocks have to be [released](Self::clear) before it is dropped.
///
/// Invariant: an empty queue has no blocks and starts at 0; otherwise the bytes start at `start` in
/// the first block and end in the last one.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    first: Block,
    last: Block,
    start: usize,
    len: usize,
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushOutcome {
    /// All bytes are written.
    Complete,
    /// The socket accepts no more bytes for now; the poll reports when it does.
    WouldBlock,
}

/// Bytes to be sent after those of a queue, in two pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail<'a>(pub(crate) &'a [u8], pub(crate) &'a [u8]);

impl Tail<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty()
    }

    fn consume(&mut self, bytes: usize) {
        let first = bytes.min(self.0.len());
        self.0 = &self.0[first..];
        self.1 = &self.1[bytes - first..];
    }
}

impl SendQueue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        (self.start + self.len).div_ceil(BLOCK_BYTES)
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, tail: Tail<'_>, pool: &mut BlockPool) {
        self.extend_from_slice(tail.0, pool);
        self.extend_from_slice(tail.1, pool);
    }

    fn extend_from_slice(&mut self, mut bytes: &[u8], pool: &mut BlockPool) {
        while !bytes.is_empty() {
            let end = (self.start + self.len) % BLOCK_BYTES;
            if end == 0 {
                self.append_block(pool);
            }
            let (fitting, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - end));
            pool.bytes_mut(self.last)[end..end + fitting.len()].copy_from_slice(fitting);
            self.len += fitting.len();
            bytes = rest;
        }
    }

    fn append_block(&mut self, pool: &mut BlockPool) {
        let block = pool.get();
        match self.is_empty() {
            true => self.first = block,
            false => pool.link(self.last, block),
        }
        self.last = block;
    }

    /// Drops the first `bytes`.
    fn consume(&mut self, bytes: usize, pool: &mut BlockPool) {
        debug_assert!(bytes <= self.len);
        if bytes == self.len {
            return self.clear(pool);
        }
        self.len -= bytes;
        self.start += bytes;
        self.first = pool.put(self.first, self.start / BLOCK_BYTES);
        self.start %= BLOCK_BYTES;
    }

    /// Drops all bytes.
    pub(crate) fn clear(&mut self, pool: &mut BlockPool) {
        if !self.is_empty() {
            pool.put(self.first, self.blocks());
            *self = SendQueue::default();
        }
    }

    /// Writes the queue and then `tail`, until all bytes are written or the socket would block. The
    /// queue keeps the rest of both.
    ///
    /// # Errors
    ///
    /// Errors of the stream, except `WouldBlock` and `Interrupted`: the connection has failed.
    pub(crate) fn flush(
        &mut self,
        mut tail: Tail<'_>,
        pool: &mut BlockPool,
        stream: &mut impl Write,
    ) -> io::Result<FlushOutcome> {
        while !(self.is_empty() && tail.is_empty()) {
            let error = match self.write_once(tail, pool, stream) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    let first = written.min(self.len);
                    self.consume(first, pool);
                    tail.consume(written - first);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.extend(tail, pool);
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(FlushOutcome::WouldBlock),
                _ => Err(error),
            };
        }
        Ok(FlushOutcome::Complete)
    }

    fn write_once(
        &self,
        tail: Tail<'_>,
        pool: &BlockPool,
        stream: &mut impl Write,
    ) -> io::Result<usize> {
        match tail {
            _ if !self.is_empty() => self.write_blocks(tail, pool, stream),
            Tail(bytes, []) | Tail([], bytes) => stream.write(bytes),
            Tail(first, second) => {
                stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            }
        }
    }

    #[cold]
    fn write_blocks(
        &self,
        tail: Tail<'_>,
        pool: &BlockPool,
        stream: &mut impl Write,
    ) -> io::Result<usize> {
        let mut slices = SmallVec::<[IoSlice<'_>; 64]>::new();
        let mut bytes = 0;
        for run in self.runs(pool).take(MAX_SLICES) {
            slices.push(IoSlice::new(run));
            bytes += run.len();
            if bytes >= MAX_WRITE_BYTES {
                break;
            }
        }
        if bytes == self.len {
            slices.extend([IoSlice::new(tail.0), IoSlice::new(tail.1)]);
        }
        stream.write_vectored(&slices)
    }

    /// Iterates over the bytes of the queue, with adjacent blocks in one slice.
    fn runs<'a>(&self, pool: &'a BlockPool) -> impl Iterator<Item = &'a [u8]> {
        let (mut list, mut start, mut left) = (self.first, self.start, self.len);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let (run, rest) = pool.run(list, (start + left).div_ceil(BLOCK_BYTES));
            let bytes = &run[start..run.len().min(start + left)];
            left -= bytes.len();
            start = 0;
            list = rest;
            Some(bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket that accepts a planned number of bytes per write; `None` is `WouldBlock`.
    struct Socket {
        plan: std::vec::IntoIter<Option<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.plan.next() {
                Some(Some(0)) => Err(ErrorKind::Interrupted.into()),
                Some(Some(max)) => {
                    let taken = max.min(bytes.len());
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
        fn every_byte_arrives_once_and_in_order_for_any_partial_writes(
            turns in proptest::collection::vec((
                "[a-z]{0,300}",
                "[a-z]{0,300}",
                proptest::collection::vec(proptest::option::weighted(0.8, 0..200_usize), 0..5),
            ), 0..20),
        ) {
            let (mut queue, mut pool) = (SendQueue::default(), BlockPool::default());
            let mut socket = Socket { plan: Vec::new().into_iter(), taken: Vec::new() };
            let mut sent = Vec::new();
            for (first, second, plan) in turns {
                sent.extend_from_slice(first.as_bytes());
                sent.extend_from_slice(second.as_bytes());
                socket.plan = plan.into_iter();
                let tail = Tail(first.as_bytes(), second.as_bytes());
                let outcome = queue.flush(tail, &mut pool, &mut socket).unwrap();
                prop_assert_eq!(outcome == FlushOutcome::Complete, queue.is_empty());
                prop_assert_eq!(queue.len(), sent.len() - socket.taken.len());
                prop_assert!(sent.starts_with(&socket.taken));
            }
            socket.plan = vec![Some(usize::MAX); 2].into_iter();
            queue.flush(Tail(&[], &[]), &mut pool, &mut socket).unwrap();
            prop_assert_eq!(socket.taken, sent);
        }
    }

    #[test]
    fn a_queue_that_takes_several_writes_is_written_before_its_tail() {
        let (mut queue, mut pool) = (SendQueue::default(), BlockPool::default());
        let queued: Vec<u8> = (0..2 * MAX_SLICES * BLOCK_BYTES).map(|index| index as u8).collect();
        // No two blocks of the queue are adjacent, so each takes a slice.
        let mut other = SendQueue::default();
        for block in queued.chunks(BLOCK_BYTES) {
            queue.extend(Tail(block, &[]), &mut pool);
            other.extend(Tail(block, &[]), &mut pool);
        }
        let plan = vec![Some(usize::MAX); 3].into_iter();
        let mut socket = Socket { plan, taken: Vec::new() };
        let outcome = queue.flush(Tail(b"1|B\r\n", b"2|B\r\n"), &mut pool, &mut socket).unwrap();
        assert_eq!(outcome, FlushOutcome::Complete);
        let rest = socket.taken.strip_prefix(&queued[..]);
        assert_eq!(rest, Some(&b"1|B\r\n2|B\r\n"[..]));
    }

    #[test]
    fn a_socket_that_accepts_no_bytes_without_an_error_is_an_error() {
        struct Dead;
        impl Write for Dead {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut queue, mut pool) = (SendQueue::default(), BlockPool::default());
        let error = queue.flush(Tail(b"1|B\r\n", &[]), &mut pool, &mut Dead).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
        assert_eq!(queue.len(), 5, "what could not be written is still accounted for");
    }

    const MIB: usize = 1 << 20;

    /// Queues of one pool, and the peak of their bytes.
    struct Queues {
        queues: Vec<SendQueue>,
        pool: BlockPool,
        bytes: usize,
        max_bytes: usize,
    }

    impl Queues {
        fn new(count: usize) -> Queues {
            let queues = std::iter::repeat_with(SendQueue::default).take(count).collect();
            Queues { queues, pool: BlockPool::default(), bytes: 0, max_bytes: 0 }
        }

        fn push(&mut self, index: usize, bytes: usize) {
            const SOME: &[u8] = &[b'x'; 4096];
            let mut left = bytes;
            while left > 0 {
                let bytes = left.min(SOME.len());
                self.queues[index].extend(Tail(&SOME[..bytes], &[]), &mut self.pool);
                left -= bytes;
            }
            self.bytes += bytes;
            self.max_bytes = self.max_bytes.max(self.bytes);
        }

        /// Consumes bytes of a queue, but not the last `left`.
        fn consume(&mut self, index: usize, bytes: usize, left: usize) {
            let bytes = bytes.min(self.queues[index].len().saturating_sub(left));
            self.queues[index].consume(bytes, &mut self.pool);
            self.bytes -= bytes;
        }

        /// Asserts that the memory held is at most the peak of queued bytes plus a tenth and 8 MiB.
        #[track_caller]
        fn fit(&self) {
            let (held, allowed) =
                (self.pool.held_bytes(), self.max_bytes + self.max_bytes / 10 + 8 * MIB);
            assert!(held <= allowed, "{held} bytes for {}", self.max_bytes);
            let blocks: usize = self.queues.iter().map(SendQueue::blocks).sum();
            assert_eq!(self.pool.used_blocks(), blocks, "each block in use is of a queue");
        }
    }

    #[test]
    fn twenty_thousand_short_queues_fit() {
        for bytes in [1, 100, 129, 257, 1000, 3300] {
            let mut queues = Queues::new(20_000);
            // A few bytes per turn, so that the blocks of all queues are interleaved.
            for pushed in (0..bytes).step_by(100) {
                (0..20_000).for_each(|index| queues.push(index, (bytes - pushed).min(100)));
            }
            queues.fit();
        }
    }

    #[test]
    fn a_queue_that_has_everything_fits_also_after_short_queues_that_shrank_and_stay() {
        let mut queues = Queues::new(20_000);
        (0..20_000).for_each(|index| queues.push(index, 3300));
        (0..20_000).for_each(|index| queues.consume(index, usize::MAX, 101));
        queues.fit();
        queues.push(7, queues.max_bytes - queues.bytes);
        queues.fit();
        // The other way round.
        queues.consume(7, usize::MAX, 101);
        let left = queues.max_bytes - queues.bytes;
        (0..20_000).for_each(|index| queues.push(index, left / 20_000));
        queues.fit();
    }

    #[test]
    fn queues_that_drain_in_part_and_fill_again_fit() {
        let mut queues = Queues::new(100);
        (0..100).for_each(|index| queues.push(index, MIB));
        for round in 0..50 {
            for index in 0..100 {
                queues.consume(index, (index * 37 + round * 1009) % 200 * 1000, 0);
            }
            while queues.bytes < queues.max_bytes {
                let index = queues.bytes % 97;
                queues.push(index, (queues.max_bytes - queues.bytes).min(777));
            }
            queues.fit();
        }
    }

    #[test]
    fn the_memory_of_queues_that_emptied_is_given_back() {
        let mut queues = Queues::new(1000);
        (0..1000).for_each(|index| queues.push(index, 64 << 10));
        (0..1000).for_each(|index| queues.consume(index, usize::MAX, 0));
        assert_eq!(queues.bytes, 0);
        let held = queues.pool.held_bytes();
        assert!(held < 3 * MIB, "{held} bytes are held by empty queues");
        (0..1000).for_each(|index| queues.push(index, 64 << 10));
        queues.fit();
    }

    proptest! {
        #[test]
        fn queues_of_one_pool_behave_like_deques_and_fit(
            steps in proptest::collection::vec(
                (0..20_usize, "[a-z]{0,9}", 0..2000_usize, 0..3000_usize), 0..300),
        ) {
            let mut queues = Queues::new(20);
            let mut deques = vec![std::collections::VecDeque::new(); 20];
            for (index, word, repeated, consumed) in steps {
                let text = word.repeat(repeated);
                queues.queues[index].extend(Tail(text.as_bytes(), b"\r\n"), &mut queues.pool);
                deques[index].extend(text.bytes().chain(*b"\r\n"));
                queues.bytes += text.len() + 2;
                queues.max_bytes = queues.max_bytes.max(queues.bytes);
                let consumed = consumed.min(deques[index].len());
                queues.consume(index, consumed, 0);
                deques[index].drain(..consumed);
                queues.fit();
                let bytes: Vec<u8> =
                    queues.queues[index].runs(&queues.pool).flatten().copied().collect();
                prop_assert_eq!(&bytes[..], deques[index].make_contiguous() as &[u8]);
            }
        }
    }
}
