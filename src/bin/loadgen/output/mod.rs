//! Results as text, JSON and HTML.

pub(crate) mod html;
pub(crate) mod progress;
pub(crate) mod summary;
