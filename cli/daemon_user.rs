//! Whom the daemon becomes once its broker has its privileges: a user who owns the daemon's directories
//! and nothing else.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use broker::Owner;
use management::config::{self, Config};
use management::passwd::{self, PASSWD, User};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat,
};
use rustix::io::Errno;

use crate::failure::{Failure, reason};
use crate::sys;

/// Volumes lie there unless someone says otherwise: they are the broker's to open.
const IMAGES: &CStr = c"images";
/// Whatever it is, and not where it leads.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// None: it stays who it is.
pub(crate) fn of(config: &Config) -> Result<Option<User>, Failure> {
    let name = &config.user;
    if name.is_empty() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match passwd::find(name, Path::new(PASSWD)) {
        Some(User { uid: 0, .. }) => Ok(None),
        Some(user) => Ok(Some(user)),
        None if *name == config::USER => {
            tracing::warn!(
                "there is no user '{name}', so the daemon stays root; 'manor setup' makes it"
            );
            Ok(None)
        }
        None => Err(Failure::other(format!("there is no user '{name}' in {PASSWD}")).hint(
            "set user in the daemon's configuration to one that there is, or to \"\" for root",
        )),
    }
}

/// The daemon's directories, which are `user`'s afterwards with what is in them.
pub(crate) fn hand_over(config: &Config, user: User) -> Result<Owner, Failure> {
    let directories = [&config.state_dir, &config.run_dir, &config.log_dir].map(PathBuf::clone);
    for directory in &directories {
        let failed = |error: &io::Error| {
            let path = directory.display();
            Failure::other(format!("cannot give {path} to user {}: {}", user.uid, reason(error)))
        };
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let hand_over = || {
            let file = openat(CWD, directory, LOOK, Mode::empty())?;
            let found = fstat(&file)?;
            // Once, and again where a service manager has taken it back.
            if found.st_uid == user.uid { Ok(()) } else { give(&file, &found, user) }
        };
        hand_over().map_err(|error| failed(&error))?;
    }
    Ok(Owner { uid: user.uid, gid: user.gid, directories: directories.into() })
}

/// What is root's, in this file system, and no volume. Each is held open meanwhile: a process that the user has
/// left behind may exchange what lies in the directories, and gets nothing by that.
fn give(file: &OwnedFd, found: &Stat, user: User) -> io::Result<()> {
    let is_dir = FileType::from_raw_mode(found.st_mode).is_dir();
    // A file with several names may have one where it is somebody else's affair.
    if found.st_uid != 0 || (!is_dir && found.st_nlink > 1) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if !is_dir {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(file, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") || entry.file_name() == IMAGES {
            continue;
        }
        let inner = match openat(file, entry.file_name(), LOOK, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        let its = fstat(&inner)?;
        if its.st_dev == found.st_dev {
            give(&inner, &its, user)?;
        }
    }
    Ok(())
}

/// From here on, on all threads, for good.
pub(crate) fn become_user(user: User) -> Result<(), Failure> {
    // Read once, from a file of /proc on kernels before 6.4, which is root's from here on.
    let _ = rustix::param::clock_ticks_per_second();
    sys::become_user(user.uid, user.gid).map_err(|error| {
        Failure::other(format!("cannot become user {}: {}", user.uid, reason(&error)))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};

    use super::*;

    #[test]
    fn what_is_roots_in_its_directories_is_given_and_nothing_that_is_elsewhere_as_well() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["state/domains", "state/images", "other"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for name in
            ["state/domains/own", "state/domains/theirs", "state/images/disk", "other/secret"]
        {
            fs::write(path(name), "").unwrap();
        }
        chown(path("state/domains/theirs"), Some(77), Some(77)).unwrap();
        symlink(path("other"), path("state/domains/link")).unwrap();
        fs::hard_link(path("other/secret"), path("state/domains/name")).unwrap();
        let (state_dir, run_dir, log_dir) = (path("state"), path("run"), path("log"));
        let config = Config { state_dir, run_dir, log_dir, ..Config::default() };
        let owner = hand_over(&config, User { uid: 4711, gid: 4712 }).unwrap();
        assert_eq!(owner.directories, [path("state"), path("run"), path("log")]);
        let whose = |name: &str| fs::symlink_metadata(path(name)).unwrap().uid();
        for name in
            ["state", "state/domains", "state/domains/own", "state/domains/link", "run", "log"]
        {
            assert_eq!(whose(name), 4711, "{name}");
        }
        for name in ["other", "other/secret", "state/images", "state/images/disk"] {
            assert_eq!(whose(name), 0, "{name}");
        }
        assert_eq!(whose("state/domains/theirs"), 77);
    }
}
