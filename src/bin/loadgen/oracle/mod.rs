//! Expected deliveries, and their comparison with what was received.

pub(crate) mod comparison;
pub(crate) mod expected;
pub(crate) mod in_flight;
pub(crate) mod mismatch;
pub(crate) mod model;
