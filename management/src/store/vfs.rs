//! The file system as the store uses it: few acts, each with a known state after a crash.

use std::io;
use std::path::Path;

pub(crate) trait Vfs: Send + Sync {
    /// False where there is nothing at a path.
    fn may_be_there(&self, path: &Path) -> bool;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Names of the files in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Also its parents; fine if it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Write a file and wait until its content is durable; its name is not yet.
    fn create_synced(&self, path: &Path, data: &[u8]) -> io::Result<()>;
    /// Atomic; replaces what is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Give a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Wait until the names in a directory are durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}
