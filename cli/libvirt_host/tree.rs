//! The files of a host that somebody else wrote: bounded, and never past the host's root.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

/// Of one directory; there is no host with so many guests.
const MOST_FILES: usize = 16_384;
/// A definition larger than this is not one; Manor takes 1 MiB.
const LARGEST: u64 = (1 << 20) + 1;

pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

/// A directory of it.
pub(super) struct Directory {
    fd: OwnedFd,
    /// As that host knows it.
    pub(super) path: PathBuf,
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty())?;
        Ok(Self { root, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Links on the way lead where they lead on that host, as `/var/run` does. None: there is no such one.
    pub(super) fn directory(&self, path: &str) -> io::Result<Option<Directory>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(Directory { fd, path: PathBuf::from(path) })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Directory {
    /// Names, without `suffix`, of what of this kind bears one, in their order.
    pub(super) fn names(&self, suffix: &str, kind: FileType) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.fd.as_fd())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_kind = entry.file_type() == kind || entry.file_type() == FileType::Unknown;
            let Some(stem) = name.strip_suffix(suffix).filter(|stem| !stem.is_empty()) else {
                continue;
            };
            if !is_kind || name.starts_with('.') {
                continue;
            }
            if names.len() == MOST_FILES {
                return Err(io::Error::other(format!("more than {MOST_FILES} files")));
            }
            names.push(stem.to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The text of a regular file, and of nothing that a link leads to.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        // A FIFO of this name is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(&self.fd, name, flags, Mode::empty(), resolve)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == LARGEST {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
    }

    /// A directory in it, which no link leads to.
    pub(super) fn inner(&self, name: &str) -> io::Result<Option<Directory>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.fd, name, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(Directory { fd, path: self.path.join(name) })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/libvirt/qemu")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn links_of_directories_lead_where_they_lead_on_that_host() {
        let (dir, tree) = tree();
        std::fs::create_dir_all(dir.path().join("run/libvirt")).unwrap();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        std::fs::write(dir.path().join("run/libvirt/a.pid"), "1").unwrap();
        let found = tree.directory("var/run/libvirt").unwrap().unwrap();
        assert_eq!(found.names(".pid", FileType::RegularFile).unwrap(), ["a"]);
        // Up and out is the root again.
        assert!(tree.directory("../../../../../etc/libvirt/qemu").unwrap().is_some());
        assert!(tree.directory("var/lib/libvirt").unwrap().is_none());
    }

    #[test]
    fn no_file_is_read_through_a_link_nor_waited_for() {
        let (dir, tree) = tree();
        let at = |name: &str| dir.path().join("etc/libvirt/qemu").join(name);
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("/etc/passwd", at("out.xml")).unwrap();
        symlink("../../../secret", at("in.xml")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo.xml"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::create_dir(at("dir.xml")).unwrap();
        std::fs::write(at("large.xml"), vec![b' '; (1 << 20) + 1]).unwrap();
        std::fs::write(at("binary.xml"), [0xff, 0xfe]).unwrap();
        std::fs::write(at("good.xml"), "<domain/>").unwrap();
        let qemu = tree.directory("etc/libvirt/qemu").unwrap().unwrap();
        for name in ["out", "in", "fifo", "dir", "large", "binary", "none", "../../../secret"] {
            let read = qemu.read(&format!("{name}.xml"));
            assert!(read.is_err(), "{name}: {read:?}");
        }
        assert_eq!(qemu.read("good.xml").unwrap(), "<domain/>");
        let files = qemu.names(".xml", FileType::RegularFile).unwrap();
        assert_eq!(files, ["binary", "good", "large"]);
        assert_eq!(qemu.names(".xml", FileType::Symlink).unwrap(), ["in", "out"]);
    }
}
