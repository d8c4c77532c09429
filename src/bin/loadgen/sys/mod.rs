//! Interfaces of the operating system.

pub(crate) mod affinity;
pub(crate) mod descriptors;
pub(crate) mod interrupt;
pub(crate) mod procfs;
pub(crate) mod sockets;
pub(crate) mod timerfd;
