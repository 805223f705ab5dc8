//! What the tests of this room share.

use std::fs::File;
use std::io::Write;

/// An open temporary file that holds `bytes`.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}
