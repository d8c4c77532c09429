//! Vectors to use again.

/// The most memory that is kept: enough for the lists of a busy turn of a thousand clients. Beyond it
/// vectors are freed.
const MAX_BYTES: usize = 2 << 20;

/// The same while the server is idle.
const MAX_IDLE_BYTES: usize = 1 << 20;

/// A longer vector came from a burst and is not kept.
const MAX_VEC_BYTES: usize = 256 << 10;

/// Empty vectors. The one used last comes first, because the cache holds it.
#[derive(Debug)]
pub(crate) struct VecPool<T> {
    free: Vec<Vec<T>>,
    bytes: usize,
}

impl<T> Default for VecPool<T> {
    fn default() -> VecPool<T> {
        VecPool { free: Vec::new(), bytes: 0 }
    }
}

impl<T> VecPool<T> {
    /// Returns a vector that was kept, or one without memory.
    pub(crate) fn get(&mut self) -> Vec<T> {
        let vec = self.free.pop().unwrap_or_default();
        self.bytes -= bytes(&vec);
        vec
    }

    /// Keeps a vector, without what it holds, or frees it.
    pub(crate) fn put(&mut self, mut vec: Vec<T>) {
        let bytes = bytes(&vec);
        if bytes > 0 && bytes <= MAX_VEC_BYTES && self.bytes + bytes <= MAX_BYTES {
            vec.clear();
            self.bytes += bytes;
            self.free.push(vec);
        }
    }

    /// Frees what is not kept by an idle server.
    pub(crate) fn shrink(&mut self) {
        while self.bytes > MAX_IDLE_BYTES {
            self.get();
        }
    }
}

fn bytes<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}
