//! The captured stream of `tests/data`: the verification mix as it really comes.

use std::io::Read;

use flate2::read::GzDecoder;

const COMPRESSED: &[u8] = include_bytes!("../../tests/data/verification-20k.events.gz");

/// What the source sent, each line ended by LF.
pub(crate) fn captured_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(COMPRESSED).read_to_end(&mut bytes).unwrap();
    bytes
}
