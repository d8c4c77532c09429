use std::sync::Once;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process have as many sockets as the system allows, for tests with thousands of them.
pub(crate) fn raise_descriptor_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
    });
}
