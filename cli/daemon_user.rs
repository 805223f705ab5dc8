//! Whom the daemon becomes once its broker has its privileges: a user who owns the daemon's directories
//! and nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use broker::Owner;
use management::config::{self, Config};
use management::passwd::{self, PASSWD, User};

use crate::failure::{Failure, reason};
use crate::sys;

/// Volumes lie there unless someone says otherwise: they are the broker's to open.
const IMAGES: &str = "images";

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
        let found = fs::symlink_metadata(directory).map_err(|error| failed(&error))?;
        // Once, and again where a service manager has taken it back.
        if found.uid() != user.uid {
            give(directory, &found, user).map_err(|error| failed(&error))?;
        }
    }
    Ok(Owner { uid: user.uid, gid: user.gid, directories: directories.into() })
}

/// What is root's, in this file system, and no volume.
fn give(path: &Path, found: &fs::Metadata, user: User) -> io::Result<()> {
    if found.uid() != 0 {
        return Ok(());
    }
    lchown(path, Some(user.uid), Some(user.gid))?;
    if !found.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let inner = entry.metadata()?;
        if entry.file_name() != IMAGES && inner.dev() == found.dev() {
            give(&entry.path(), &inner, user)?;
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
