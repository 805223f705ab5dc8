//! Pools and the volumes in them. A volume is named by its pool's directory and one component below
//! it that is no link, so whatever its name is, it leads nowhere else.

mod mount;

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, IFlags, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, fstatvfs,
    fsync, ioctl_getflags, ioctl_setflags, open, openat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use self::mount::MountSource;
pub(crate) use self::mount::{mounts, run};
use crate::open::{image_by, rename_new};
use crate::policy::{Judge, Place, Wish};
use crate::{BrokerError, Granted, Sharing, lock};

/// More volumes than anybody lists.
const MOST_VOLUMES: usize = 1 << 16;
const POOL: &str = "pool directory";
const VOLUME: &str = "volume";

/// What can be done to a pool and its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PoolAct {
    /// Make the directory, and those above it.
    Build(Permissions),
    /// Remove the directory, in which nothing is left.
    Delete,
    /// Mount what the pool lies on.
    Mount(MountSource),
    Unmount(MountSource),
    /// See how much space there is, and what lies there.
    Look(Wanted),
    Open {
        volume: String,
        write: bool,
        /// Past the host's page cache (`O_DIRECT`).
        direct: bool,
        sharing: Sharing,
    },
    /// Make an empty file.
    Create {
        volume: String,
        permissions: Permissions,
        /// Not copied on each write, where the file system would.
        nocow: bool,
    },
    /// Give a file the name that it is to have, if that is free.
    Finish {
        unfinished: String,
        volume: String,
    },
    Remove {
        volume: String,
    },
}

/// Which files of a pool are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    All,
    One(String),
    Nothing,
}

/// Of a directory or file that is made; what is none is left to the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Permissions {
    pub mode: Option<u32>,
    pub owner: Option<u32>,
    pub group: Option<u32>,
}

/// A pool's space, in bytes, and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolContents {
    pub capacity: u64,
    pub available: u64,
    /// When a name in it last came or went: seconds and nanoseconds. None: not known.
    pub changed: Option<(i64, u32)>,
    pub files: Vec<PoolFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFile {
    pub name: String,
    pub inode: u64,
    pub size: u64,
    /// Bytes that the host has really given to it.
    pub allocated: u64,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// Seconds and nanoseconds: of the last access, change of content, change of anything.
    pub times: [(i64, u32); 3],
}

pub(crate) fn act(judge: Judge<'_>, pool: &Path, act: &PoolAct) -> Result<Granted, BrokerError> {
    match act {
        PoolAct::Build(permissions) => build(judge, pool, *permissions).map(|()| Granted::Done),
        PoolAct::Delete => delete(judge, pool).map(|()| Granted::Done),
        PoolAct::Mount(source) => mount::mount_pool(judge, pool, source).map(|()| Granted::Done),
        PoolAct::Unmount(source) => {
            mount::unmount_pool(judge, pool, source).map(|()| Granted::Done)
        }
        PoolAct::Look(wanted) => look(judge, pool, wanted).map(Granted::Pool),
        PoolAct::Open { volume, write, direct, sharing } => {
            let (dir, path) = (open_pool(judge, Wish::Read, pool)?, place(pool, volume)?);
            let follow = is_group(pool, &dir.file);
            let found = judge.find(Wish::unless(!write), VOLUME, &path, follow)?;
            // A link that was not followed is what is found then, and opens no more than one at its path.
            let links = match follow || found.real().is_some() {
                true => OFlags::empty(),
                false => OFlags::NOFOLLOW,
            };
            let image = image_by(&path, !write, *direct, |flags| {
                open(found.by(), flags | links, Mode::empty())
            })?;
            lock::image(&image, &path, !write, *sharing)?;
            Ok(Granted::File(image))
        }
        PoolAct::Create { volume, permissions, nocow } => {
            create(judge, pool, volume, *permissions, *nocow).map(Granted::File)
        }
        PoolAct::Finish { unfinished, volume } => {
            finish(judge, pool, unfinished, volume).map(|()| Granted::Done)
        }
        PoolAct::Remove { volume } => remove(judge, pool, volume).map(|()| Granted::Done),
    }
}

/// The directory of a volume group, where the names of devices are links that the device mapper made.
/// Where others than root could make some, as in `/dev/shm`, none is followed.
fn is_group(pool: &Path, dir: &OwnedFd) -> bool {
    let roots_own = |stat: Stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0;
    pool.parent() == Some(Path::new("/dev")) && fstat(dir).is_ok_and(roots_own)
}

/// A pool's directory, and where it is.
struct Open {
    file: OwnedFd,
    place: Place,
}

fn open_pool(judge: Judge<'_>, wish: Wish, pool: &Path) -> Result<Open, BrokerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = judge.find(wish, POOL, pool, true)?;
    let file = open(place.by(), flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR if pool.symlink_metadata().is_ok() => BrokerError::WrongKind {
            what: POOL.to_owned(),
            path: pool.to_owned(),
            found: "no directory".into(),
            expected: "one".into(),
        },
        _ => BrokerError::open("read", POOL, pool, errno.into()),
    })?;
    Ok(Open { file, place })
}

/// A pool's directory to change, and the path of a volume that it may have.
fn open_for(
    judge: Judge<'_>,
    pool: &Path,
    volume: &str,
) -> Result<(OwnedFd, PathBuf), BrokerError> {
    let path = place(pool, volume)?;
    let Open { file, place } = open_pool(judge, Wish::Write, pool)?;
    judge.volume(&place, &path)?;
    Ok((file, path))
}

/// The path of a volume, whose name is one component.
fn place(pool: &Path, volume: &str) -> Result<PathBuf, BrokerError> {
    if volume.is_empty() || matches!(volume, "." | "..") || volume.contains(['/', '\0']) {
        let source = io::Error::from(io::ErrorKind::InvalidFilename);
        return Err(BrokerError::Host {
            act: format!("use {volume:?} as a volume's name"),
            source,
        });
    }
    Ok(pool.join(volume))
}

fn build(judge: Judge<'_>, pool: &Path, permissions: Permissions) -> Result<(), BrokerError> {
    const USUAL: u32 = 0o711;
    let failed = |error| BrokerError::open("make", POOL, pool, error);
    if let Some(parent) = pool.parent() {
        judge.make_all(POOL, parent, 0o755)?;
    }
    let place = judge.make(POOL, pool)?;
    let made = match DirBuilder::new().mode(USUAL).create(place.by()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed(error)),
    };
    let Open { file: dir, place } = open_pool(judge, Wish::Write, pool)?;
    if !made {
        judge.give(&place, pool)?;
    }
    // The umask has had its say.
    let mode = permissions.mode.or(made.then_some(USUAL));
    permit(&dir, Permissions { mode, ..permissions }).map_err(|errno| failed(errno.into()))?;
    fsync(&dir).map_err(|errno| failed(errno.into()))
}

fn permit(file: &OwnedFd, permissions: Permissions) -> rustix::io::Result<()> {
    let Permissions { mode, owner, group } = permissions;
    if owner.is_some() || group.is_some() {
        fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    // After the owner: changing that takes set-user-ID bits away.
    mode.map_or(Ok(()), |mode| fchmod(file, Mode::from_raw_mode(mode & 0o7777)))
}

fn delete(judge: Judge<'_>, pool: &Path) -> Result<(), BrokerError> {
    let place = judge.make(POOL, pool)?;
    std::fs::remove_dir(place.by()).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => BrokerError::NotEmpty { path: pool.to_owned() },
        _ => BrokerError::open("remove", POOL, pool, error),
    })
}

fn look(judge: Judge<'_>, pool: &Path, wanted: &Wanted) -> Result<PoolContents, BrokerError> {
    let failed = |errno: Errno| BrokerError::open("read", POOL, pool, errno.into());
    let dir = open_pool(judge, Wish::Read, pool)?.file;
    let space = fstatvfs(&dir).map_err(failed)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    // Before its names are read: what comes meanwhile is a change since.
    let stat = fstat(&dir).map_err(failed)?;
    let changed = u32::try_from(stat.st_mtime_nsec).ok().map(|nsec| (stat.st_mtime, nsec));
    let files = match wanted {
        Wanted::Nothing => Vec::new(),
        Wanted::One(name) => {
            place(pool, name)?;
            file(&dir, name)?.into_iter().collect()
        }
        Wanted::All => files(pool, &dir)?,
    };
    let (capacity, available) = (bytes(space.f_blocks), bytes(space.f_bavail));
    Ok(PoolContents { capacity, available, changed, files })
}

fn files(pool: &Path, dir: &OwnedFd) -> Result<Vec<PoolFile>, BrokerError> {
    let failed = |errno: Errno| BrokerError::open("read", POOL, pool, errno.into());
    let mut files = Vec::new();
    for entry in Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // What is not text has no name that XML could hold.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        if files.len() >= MOST_VOLUMES {
            let source = io::Error::other(format!("it holds more than {MOST_VOLUMES} files"));
            return Err(BrokerError::Host {
                act: format!("read {POOL} {}", pool.display()),
                source,
            });
        }
        files.extend(file(dir, name)?);
    }
    Ok(files)
}

/// A regular file of the pool; none if it is something else, or gone.
fn file(dir: &OwnedFd, name: &str) -> Result<Option<PoolFile>, BrokerError> {
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => {
            return Err(BrokerError::host(format!("look at {name:?}"))(errno.into()));
        }
    };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| found(name, &stat)))
}

fn found(name: &str, stat: &Stat) -> PoolFile {
    let nanoseconds = |n: u64| u32::try_from(n).unwrap_or(0);
    PoolFile {
        name: name.to_owned(),
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        mode: stat.st_mode & 0o7777,
        owner: stat.st_uid,
        group: stat.st_gid,
        times: [
            (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
            (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        ],
    }
}

fn create(
    judge: Judge<'_>,
    pool: &Path,
    volume: &str,
    permissions: Permissions,
    nocow: bool,
) -> Result<OwnedFd, BrokerError> {
    let (dir, path) = open_for(judge, pool, volume)?;
    // Nothing that is a guest's is run, by whomever.
    let mode = permissions.mode.map(|mode| mode & 0o777);
    let permissions = Permissions { mode, ..permissions };
    let failed = |errno: Errno| match errno {
        Errno::EXIST => BrokerError::Exists { path: path.clone() },
        _ => BrokerError::open("make", VOLUME, &path, errno.into()),
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&dir, volume, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    if nocow && let Ok(flags) = ioctl_getflags(&file) {
        // Only some file systems copy on write, and the others need not know of it.
        let _ = ioctl_setflags(&file, flags | IFlags::NOCOW);
    }
    if let Err(errno) = permit(&file, permissions) {
        let _ = unlinkat(&dir, volume, AtFlags::empty());
        return Err(failed(errno));
    }
    Ok(file)
}

fn finish(
    judge: Judge<'_>,
    pool: &Path,
    unfinished: &str,
    volume: &str,
) -> Result<(), BrokerError> {
    let (dir, path) = open_for(judge, pool, volume)?;
    place(pool, unfinished)?;
    let renamed = rename_new(&dir, unfinished, volume);
    renamed.and_then(|()| fsync(&dir)).map_err(|errno| match errno {
        Errno::EXIST => BrokerError::Exists { path: path.clone() },
        _ => BrokerError::open("make", VOLUME, &path, errno.into()),
    })
}

fn remove(judge: Judge<'_>, pool: &Path, volume: &str) -> Result<(), BrokerError> {
    let (dir, path) = open_for(judge, pool, volume)?;
    unlinkat(&dir, volume, AtFlags::empty())
        .and_then(|()| fsync(&dir))
        .map_err(|errno| BrokerError::open("remove", VOLUME, &path, errno.into()))
}

#[cfg(test)]
mod tests;
