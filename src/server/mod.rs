//! The only rooms with sockets, clock and signals.
