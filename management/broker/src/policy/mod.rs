//! Which of the host's paths the daemon may have: whoever has taken it over has the broker's acts, and with
//! them no more of the host than guests need.
//!
//! It is judged by where a path really leads, on what is open already: a link that is exchanged meanwhile
//! changes nothing. The files of other processes (`/proc/PID/root`) are no way, as they may be in mount
//! namespaces where everything has other names.

mod adopt;
mod grounds;
mod look;
mod place;
mod running;
mod volume_group;

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};
use rustix::io::Errno;

use self::grounds::{Ground, Grounds, is_personal};
pub(crate) use self::place::{Judge, Place};
use crate::ledger::Ledger;
use crate::{BrokerError, Owner};

const SET_ID: u32 = 0o6000;
const RUNS: u32 = 0o111;
const READ_BY_ALL: u32 = 0o004;

#[derive(Debug, Clone)]
pub struct Policy {
    grounds: Grounds,
    /// Where domains' cgroups are beside the usual place.
    cgroups: Option<PathBuf>,
    /// The daemon's own.
    directories: Vec<PathBuf>,
    /// Which processes and cgroups are its.
    ledger: Arc<Ledger>,
}

/// What is to be done with what lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To know that it is there, since when, and its size.
    Look,
    Read,
    Write,
}

impl Wish {
    pub(crate) fn unless(read_only: bool) -> Self {
        if read_only { Self::Read } else { Self::Write }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Look => "look at",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

type Reason = Cow<'static, str>;

/// Why not, and what root would have to allow, if that is another than where the path leads.
#[derive(Debug)]
struct Refusal {
    reason: Reason,
    allow: Option<PathBuf>,
}

impl<R: Into<Reason>> From<R> for Refusal {
    fn from(reason: R) -> Self {
        Self { reason: reason.into(), allow: None }
    }
}

impl Refusal {
    fn of(self, path: &Path, real: &Path, wish: Wish) -> BrokerError {
        match self.allow {
            None => refused(path, real, wish, self.reason),
            // What the kernel calls it says nothing to anybody.
            Some(allow) => {
                let (act, path, reason) = (wish.verb().into(), path.to_owned(), self.reason.into());
                BrokerError::Refused { act, path, real: allow, reason }
            }
        }
    }
}

impl Policy {
    /// For a daemon that has the directories of `owner`, and beside the usual places those that root names.
    #[must_use]
    pub fn new(
        owner: &Owner,
        allowed: &[PathBuf],
        cgroups: Option<PathBuf>,
        ledger: Ledger,
    ) -> Self {
        let directories = owner.directories.clone();
        let own = directories.iter().chain(allowed).cloned().collect::<Vec<_>>();
        let grounds = Grounds::new(&own, ledger.path());
        Self { grounds, cgroups, directories, ledger: Arc::new(ledger) }
    }

    /// A directory, or what is to be made: it has no properties beside its place.
    fn place(&self, real: &Path, wish: Wish) -> Result<Ground, Reason> {
        let (above, ground) = self.grounds.of(real);
        let above = above.display();
        match ground {
            Ground::Closed => Err(format!("{above} is the system's").into()),
            Ground::Programs if wish == Wish::Write => {
                Err(format!("what is in {above} is only read").into())
            }
            Ground::Homes if is_personal(self.grounds.of(real).0, real) => {
                Err("homes themselves and what is hidden in them (.ssh) are no guest's".into())
            }
            _ if real == Path::new("/") => Err("it is the root directory".into()),
            _ => Ok(ground),
        }
    }

    /// Something that is there, and open in whatever way.
    fn file(&self, file: impl AsFd, real: &Path, wish: Wish) -> Result<(), Refusal> {
        let stat = fstat(&file).map_err(|errno| errno.to_string())?;
        match FileType::from_raw_mode(stat.st_mode) {
            // They have no size.
            FileType::BlockDevice if wish == Wish::Look => Ok(()),
            FileType::BlockDevice => self.device(file, real, wish),
            FileType::RegularFile => Ok(self.regular(&stat, real, wish)?),
            FileType::Directory if wish == Wish::Read && is_group(&stat, real) => Ok(()),
            _ => Ok(self.place(real, wish).map(drop)?),
        }
    }

    fn regular(&self, stat: &Stat, real: &Path, wish: Wish) -> Result<(), Reason> {
        let ground = self.place(real, wish)?;
        let has = |bits: u32| stat.st_mode & bits != 0;
        match (ground, wish) {
            (Ground::Allowed, _) => Ok(()),
            (_, Wish::Write) if has(SET_ID) => Err("it is a program with set-user-ID".into()),
            (Ground::Homes, Wish::Write) if has(RUNS) => {
                Err("it is somebody's program (chmod a-x, if it is none)".into())
            }
            (Ground::Programs, Wish::Look | Wish::Read)
                if !has(READ_BY_ALL) && !is_kernel(real) =>
            {
                Err("not everybody may read it".into())
            }
            _ => Ok(()),
        }
    }

    /// Those that the host itself uses are its own: what is mounted, swapped to, or part of something.
    fn device(&self, device: impl AsFd, real: &Path, wish: Wish) -> Result<(), Refusal> {
        if self.grounds.of(real).1 == Ground::Allowed {
            return Ok(());
        }
        if !real.starts_with("/dev") {
            self.place(real, wish)?;
        }
        self.volume(&device)?;
        // The kernel says so, of partitions and holders too, to whoever wants it for himself alone. Two
        // that ask at the same time would be in each other's way.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match open(by_number(&device), alone, Mode::empty()) {
            Err(Errno::BUSY) => {
                Err("the host itself uses it: it is mounted, or part of something that is".into())
            }
            // Without a medium, or dead: whoever opens it will be told.
            _ => Ok(()),
        }
    }
}

/// A directory of names of devices, as the device mapper makes one for each volume group.
fn is_group(stat: &Stat, real: &Path) -> bool {
    real.parent() == Some(Path::new("/dev")) && stat.st_uid == 0 && stat.st_mode & 0o022 == 0
}

/// Their files are closed to all but root on some hosts, and no secret: packages bring them.
fn is_kernel(real: &Path) -> bool {
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    real.parent() == Some(Path::new("/boot")) && name.starts_with("vmlinuz")
}

fn by_number(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

fn refused(path: &Path, real: &Path, wish: Wish, reason: Reason) -> BrokerError {
    let leads = match path == real {
        true => String::new(),
        false => format!("it leads to {}, and ", real.display()),
    };
    let (path, real) = (path.to_owned(), real.to_owned());
    BrokerError::Refused { act: wish.verb().into(), path, real, reason: format!("{leads}{reason}") }
}

#[cfg(test)]
mod running_tests;
#[cfg(test)]
mod tests;
