//! What several targets begin with.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A directory in memory that this process has for itself.
pub fn directory() -> PathBuf {
    let name = format!("manor-fuzz-{}", std::process::id());
    let path = PathBuf::from("/dev/shm").join(name);
    fs::create_dir_all(&path).expect("the host has a /dev/shm");
    path
}

/// The one file of this process.
pub fn empty_file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = directory().join("file");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let _ = fs::remove_file(&path);
        file.expect("a file in memory")
    })
}

/// The same, with these bytes in it and no others.
pub fn file(bytes: &[u8]) -> &'static File {
    let file = empty_file();
    file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("there is memory for it");
    file
}
