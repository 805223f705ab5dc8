//! [`Ledger`]: which processes and cgroups are this daemon's, as its brokers have written down.
//!
//! A daemon that was taken over may name any process of the host, and so may a guest that has its VMM. What a
//! process says of itself, by its name or its program, any other says as well. So a broker writes down what
//! it starts, before that runs, in a directory that only root can change, and the next broker finds it there.
//!
//! ```text
//! /run/manor-broker/ 4711.889012        a process, by its number and its start
//!                    cgroup.1234 -> …   a cgroup, by the number that the kernel gives none twice
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fstat, mkdir, open, openat, readlinkat, stat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::{BrokerError, ProcessId};

const CGROUP: &str = "cgroup.";
/// What is gone is struck out after so many new ones, so that guests that come and go fill no memory.
const TIDY_AFTER: u32 = 256;

#[derive(Debug)]
pub struct Ledger {
    /// Held: another directory in its place is not looked at.
    dir: OwnedFd,
    path: PathBuf,
    since_tidied: AtomicU32,
}

impl Ledger {
    /// The one in this directory, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Self, BrokerError> {
        let failed = |source: io::Error| BrokerError::Host {
            act: format!("keep the ledger of guests' processes in {}", path.display()),
            source,
        };
        match mkdir(path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let found = fstat(&dir).map_err(|errno| failed(errno.into()))?;
        let (user, mode) = (rustix::process::geteuid().as_raw(), found.st_mode & 0o7777);
        if found.st_uid != user || mode & 0o022 != 0 {
            return Err(failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "others than user {user} may change what is in it (it is of user {}, mode {mode:04o}); \
                     remove it, and see who made it",
                    found.st_uid
                ),
            )));
        }
        let (path, since_tidied) = (path.to_owned(), AtomicU32::new(0));
        Ok(Self { dir, path, since_tidied })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called before the process can do anything.
    pub(crate) fn add_process(&self, process: ProcessId) -> io::Result<()> {
        if self.since_tidied.fetch_add(1, Ordering::Relaxed) >= TIDY_AFTER {
            self.since_tidied.store(0, Ordering::Relaxed);
            self.tidy()?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, name_of(process), flags, Mode::from_raw_mode(0o600))?;
        Ok(())
    }

    pub(crate) fn has_process(&self, process: ProcessId) -> bool {
        statat(&self.dir, name_of(process), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// One that is there.
    pub(crate) fn add_cgroup(&self, path: &Path) -> io::Result<()> {
        match symlinkat(path, &self.dir, format!("{CGROUP}{}", stat(path)?.st_ino)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn has_cgroup(&self, path: &Path) -> bool {
        let Ok(found) = stat(path) else { return false };
        let name = format!("{CGROUP}{}", found.st_ino);
        // Another file system has numbers of its own.
        readlinkat(&self.dir, name, Vec::new()).is_ok_and(|its| its.as_bytes() == bytes(path))
    }

    /// Strike out what is gone.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        let here = openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        for entry in Dir::new(here)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if self.is_gone(&name) {
                match unlinkat(&self.dir, &*name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    fn is_gone(&self, name: &str) -> bool {
        if name.starts_with(CGROUP) {
            let path = readlinkat(&self.dir, name, Vec::new());
            let path = path.map(|path| PathBuf::from(OsStr::from_bytes(path.as_bytes())));
            return path.is_ok_and(|path| !self.has_cgroup(&path));
        }
        process_of(name).is_some_and(|process| ProcessId::of(process.pid) != Some(process))
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn name_of(ProcessId { pid, start_time }: ProcessId) -> String {
    format!("{pid}.{start_time}")
}

fn process_of(name: &str) -> Option<ProcessId> {
    let (pid, start_time) = name.split_once('.')?;
    Some(ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_written_down_is_known_to_the_next_and_a_process_of_the_same_number_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, group) = (dir.path().join("ledger"), dir.path().join("group"));
        fs::create_dir(&group).unwrap();
        let own = ProcessId::of(std::process::id()).unwrap();
        let first = Ledger::open(&path).unwrap();
        assert!(!first.has_process(own) && !first.has_cgroup(&group));
        first.add_process(own).unwrap();
        first.add_process(own).unwrap();
        first.add_cgroup(&group).unwrap();
        first.add_cgroup(&group).unwrap();
        drop(first);
        let next = Ledger::open(&path).unwrap();
        assert!(next.has_process(own) && next.has_cgroup(&group));
        let other = ProcessId { start_time: own.start_time + 1, ..own };
        assert!(!next.has_process(other));
        // Gone, and another of the same name.
        fs::rename(&group, dir.path().join("away")).unwrap();
        fs::create_dir(&group).unwrap();
        assert!(!next.has_cgroup(&group) && !next.has_cgroup(&dir.path().join("away")));
    }

    #[test]
    fn what_is_gone_is_struck_out() {
        let dir = tempfile::tempdir().unwrap();
        let (path, group) = (dir.path().join("ledger"), dir.path().join("group"));
        let ledger = Ledger::open(&path).unwrap();
        let count = || fs::read_dir(&path).unwrap().count();
        let own = ProcessId::of(std::process::id()).unwrap();
        ledger.add_process(own).unwrap();
        fs::create_dir(&group).unwrap();
        ledger.add_cgroup(&group).unwrap();
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        ledger.add_process(ProcessId::of(child.id()).unwrap()).unwrap();
        ledger.tidy().unwrap();
        assert_eq!(count(), 3);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir(&group).unwrap();
        for start_time in 0..u64::from(TIDY_AFTER) + 1 {
            ledger.add_process(ProcessId { pid: u32::MAX, start_time }).unwrap();
        }
        assert!(count() < 10, "{} are left", count());
        assert!(ledger.has_process(own));
    }

    #[test]
    fn a_directory_that_others_may_change_is_none_to_write_it_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let cause = |path: &Path| {
            let error = Ledger::open(path).unwrap_err();
            std::error::Error::source(&error).unwrap().to_string()
        };
        assert!(cause(&path).contains("mode 0777"), "{}", cause(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Ledger::open(&path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(cause(&link).contains("directory"), "{}", cause(&link));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(77), None).unwrap();
            assert!(cause(&path).contains("of user 77"), "{}", cause(&path));
        }
    }
}
