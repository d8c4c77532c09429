//! Interfaces of the operating system.

pub(crate) mod interrupt;
pub(crate) mod procfs;
pub(crate) mod sockets;
pub(crate) mod timerfd;
