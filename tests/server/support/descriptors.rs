use std::sync::Once;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises this process's descriptor limit to the maximum, for tests with thousands of sockets.
pub(crate) fn raise_descriptor_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
    });
}
