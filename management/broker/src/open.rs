//! Opening what a guest uses. A path may lead to anything, a FIFO or a tape drive too: files are
//! opened without blocking, looked at, and only then handed on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fcntl_getfl, fcntl_setfl, fstat, linkat, open,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::BrokerError;
use crate::error::Ownership;
use crate::policy::{Judge, Wish};

const CAREFUL: OFlags = OFlags::CLOEXEC.union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

pub(crate) fn kvm() -> Result<OwnedFd, BrokerError> {
    let path = Path::new("/dev/kvm");
    open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => BrokerError::NoKvm {
            reason: "/dev/kvm does not exist; enable virtualisation in the firmware and load kvm_intel or kvm_amd".into(),
            source: errno.into(),
        },
        Errno::NXIO | Errno::NODEV => BrokerError::NoKvm {
            reason: "/dev/kvm has no driver behind it; load kvm_intel or kvm_amd".into(),
            source: errno.into(),
        },
        _ => denied(path, errno)
            .unwrap_or_else(|| BrokerError::open("open", "device", path, errno.into())),
    })
}

fn denied(path: &Path, errno: Errno) -> Option<BrokerError> {
    let remedy = match errno {
        Errno::ACCESS => {
            "run as root, or join the group it belongs to (usermod --append --groups kvm USER) and \
             log in again"
        }
        // Its mode would do: a device cgroup stands in the way.
        Errno::PERM => {
            "allow the device in the container or service this runs in (DeviceAllow=/dev/kvm rw)"
        }
        _ => return None,
    };
    Some(BrokerError::KvmDenied { owner: Ownership::of(path).ok()?, remedy: remedy.into() })
}

pub(crate) fn input(judge: Judge<'_>, what: &str, path: &Path) -> Result<OwnedFd, BrokerError> {
    let place = judge.find(Wish::Read, what, path, true)?;
    let file = open(place.by(), OFlags::RDONLY | CAREFUL, Mode::empty())
        .map_err(|errno| BrokerError::open("read", what, path, errno.into()))?;
    expect(&file, what, path, &[FileType::RegularFile], "a regular file")?;
    blocking(file)
}

/// An existing regular file, to be read and written.
pub(crate) fn writable(judge: Judge<'_>, what: &str, path: &Path) -> Result<OwnedFd, BrokerError> {
    let place = judge.make(what, path)?;
    let file = open(place.by(), OFlags::RDWR | OFlags::NOFOLLOW | CAREFUL, Mode::empty()).map_err(
        |errno| match errno {
            Errno::LOOP => wrong(what, path, "a symbolic link", "a regular file"),
            Errno::ISDIR => wrong(what, path, "a directory", "a regular file"),
            _ => BrokerError::open("write", what, path, errno.into()),
        },
    )?;
    expect(&file, what, path, &[FileType::RegularFile], "a regular file")?;
    blocking(file)
}

pub(crate) fn output(judge: Judge<'_>, path: &Path, append: bool) -> Result<OwnedFd, BrokerError> {
    let place = judge.make("output file", path)?;
    let how = if append { OFlags::APPEND } else { OFlags::TRUNC };
    // Not through a link in the last place: this writes as a privileged process.
    // A log is read too, when it is full and goes to an older one.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | CAREFUL | how;
    let file =
        open(place.by(), flags, Mode::from_raw_mode(0o600)).map_err(|errno| match errno {
            Errno::LOOP => wrong("output file", path, "a symbolic link", "a regular file"),
            // A FIFO that nobody reads, opened without blocking.
            Errno::NXIO => wrong("output file", path, "a FIFO or a dead device", "a regular file"),
            _ => BrokerError::open("write", "output file", path, errno.into()),
        })?;
    let kinds = [FileType::RegularFile, FileType::CharacterDevice];
    expect(&file, "output file", path, &kinds, "a regular file")?;
    blocking(file)
}

pub(crate) fn image(
    judge: Judge<'_>,
    path: &Path,
    read_only: bool,
    direct: bool,
) -> Result<OwnedFd, BrokerError> {
    let place = judge.find(Wish::unless(read_only), "image", path, true)?;
    image_by(path, read_only, direct, |flags| open(place.by(), flags, Mode::empty()))
}

/// An image that `open` opens; `path` is for errors.
pub(crate) fn image_by(
    path: &Path,
    read_only: bool,
    direct: bool,
    open: impl FnOnce(OFlags) -> rustix::io::Result<OwnedFd>,
) -> Result<OwnedFd, BrokerError> {
    let mut flags = CAREFUL | if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    if direct {
        flags |= OFlags::DIRECT;
    }
    let act = if read_only { "read" } else { "write" };
    let file = open(flags).map_err(|errno| match errno {
        // The errno of O_DIRECT on a file system without it.
        Errno::INVAL if direct => BrokerError::Host {
            act: format!(
                "open image {} past the page cache; its file system cannot, use another cache mode \
                 than 'none' or 'directsync'",
                path.display()
            ),
            source: errno.into(),
        },
        Errno::ISDIR => wrong("image", path, "a directory", IMAGE),
        Errno::LOOP => wrong("image", path, "a symbolic link", IMAGE),
        Errno::ROFS => BrokerError::Host {
            act: format!("write image {}; add <readonly/> to only read it", path.display()),
            source: errno.into(),
        },
        _ => BrokerError::open(act, "image", path, errno.into()),
    })?;
    expect(&file, "image", path, &[FileType::RegularFile, FileType::BlockDevice], IMAGE)?;
    blocking(file)
}

const IMAGE: &str = "a regular file or a block device";

fn expect(
    file: &OwnedFd,
    what: &str,
    path: &Path,
    kinds: &[FileType],
    expected: &'static str,
) -> Result<(), BrokerError> {
    let stat = fstat(file)
        .map_err(|errno| BrokerError::host(format!("look at {}", path.display()))(errno.into()))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kinds.contains(&kind) {
        return Ok(());
    }
    let found = match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    };
    Err(wrong(what, path, found, expected))
}

fn wrong(what: &str, path: &Path, found: &'static str, expected: &'static str) -> BrokerError {
    BrokerError::WrongKind {
        what: what.to_owned(),
        path: path.to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}

/// Reads and writes may block again, now that it is known what they go to.
fn blocking(file: OwnedFd) -> Result<OwnedFd, BrokerError> {
    let set = || fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK);
    set().map_err(|errno| BrokerError::host("set file flags")(errno.into()))?;
    Ok(file)
}

/// Rename, in a directory, what is to replace nothing.
pub(crate) fn rename_new(
    dir: impl AsFd,
    old: impl Arg + Copy,
    new: impl Arg + Copy,
) -> rustix::io::Result<()> {
    match renameat_with(&dir, old, &dir, new, RenameFlags::NOREPLACE) {
        // A file system that cannot do it at once: a second name is refused as well if it is taken.
        Err(Errno::INVAL) => linkat(&dir, old, &dir, new, AtFlags::empty())
            .and_then(|()| unlinkat(&dir, old, AtFlags::empty())),
        other => other,
    }
}
