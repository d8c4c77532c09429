//! What events mean. Pure and deterministic.
