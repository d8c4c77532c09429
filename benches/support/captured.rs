//! The captured stream of `tests/data`, in the verification program's mix.

use std::io::Read;

use flate2::read::GzDecoder;

const COMPRESSED: &[u8] = include_bytes!("../../tests/data/verification-20k.events.gz");

/// Returns the bytes of the source, each line ended by LF.
pub(crate) fn captured_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(COMPRESSED).read_to_end(&mut bytes).unwrap();
    bytes
}
