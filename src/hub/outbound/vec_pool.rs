//! A pool of reusable vectors.

/// The maximum pooled memory: enough for the lists of a busy turn, 32 KiB for each of 100 clients or 8 KiB for
/// each of a thousand. Vectors beyond it are freed, and those that replace them grow step by step.
const MAX_BYTES: usize = 8 << 20;

/// The maximum pooled memory while the server is idle.
const MAX_IDLE_BYTES: usize = 1 << 20;

/// The maximum size of a pooled vector. A larger one results from a burst, and is freed.
const MAX_VEC_BYTES: usize = 256 << 10;

/// LIFO pool: the most recently used vector is handed out first, while it is still in cache.
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
    /// Returns a pooled vector, or a new one without memory.
    pub(crate) fn get(&mut self) -> Vec<T> {
        let vec = self.free.pop().unwrap_or_default();
        self.bytes -= bytes(&vec);
        vec
    }

    /// Clears a vector and returns it to the pool, or frees it.
    pub(crate) fn put(&mut self, mut vec: Vec<T>) {
        let bytes = bytes(&vec);
        if bytes > 0 && bytes <= MAX_VEC_BYTES && self.bytes + bytes <= MAX_BYTES {
            vec.clear();
            self.bytes += bytes;
            self.free.push(vec);
        }
    }

    /// Frees vectors until the limit of an idle server is met.
    pub(crate) fn shrink(&mut self) {
        while self.bytes > MAX_IDLE_BYTES {
            self.get();
        }
    }
}

fn bytes<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}
