//! What the fake VMM makes of a commit: the images are real, and become one as a real one has them.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::qcow2::{OpenOptions, Qcow2, describe, relink};
use image::{FileStorage, Image, Reference};
use vmm_protocol::block_job::BlockWork;
use vmm_protocol::config::Layer;

/// Copy what lies on the base into it; what lies on that then lies on the base.
pub(super) fn commit(work: &BlockWork, files: &[OwnedFd]) {
    let (into, link) = match work {
        BlockWork::ActiveCommit { into, .. } => (path(into, files), None),
        BlockWork::Commit { into, backing, .. } => (path(into, files), Some(backing)),
        _ => return,
    };
    let Some(from) = lying_on(&into) else { return };
    let source = open(&from, true);
    let target = open(&into, false);
    let mut data = vec![0; usize::try_from(source.size()).unwrap()];
    source.read(&mut data, 0).unwrap();
    target.write(&data, 0).unwrap();
    target.flush().unwrap();
    if let (Some(backing), Some(above)) = (link, lying_on(&from)) {
        let format = Some(backing.format.clone());
        relink(&storage(&above), Some(&Reference { name: backing.name.clone(), format })).unwrap();
    }
}

fn path(layer: &Layer, files: &[OwnedFd]) -> PathBuf {
    let file = &files[usize::try_from(layer.file.0).unwrap()];
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// The only image in its directory that says so.
fn lying_on(image: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(image.parent()?).unwrap().flatten();
    let mut images = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    images.find(|path| {
        let dir = path.parent().unwrap();
        let file = FileStorage::new(File::open(path).unwrap()).unwrap();
        let below = describe(&file).ok().and_then(|found| found.backing);
        below.is_some_and(|below| dir.join(&below.name) == image)
    })
}

fn storage(path: &Path) -> FileStorage {
    FileStorage::new(File::options().read(true).write(true).open(path).unwrap()).unwrap()
}

fn open(path: &Path, read_only: bool) -> Arc<dyn Image> {
    let below = describe(&storage(path)).unwrap().backing;
    let dir = path.parent().unwrap();
    let backing = below.map(|below| open(&dir.join(&below.name), true));
    let options = OpenOptions { read_only, backing, ..OpenOptions::default() };
    Arc::new(Qcow2::open(Arc::new(storage(path)), options).unwrap())
}
