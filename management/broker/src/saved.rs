//! Files that a guest's memory is written to: saved states and core dumps. They appear under their
//! name only when they are complete, and nobody but their owner reads them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{BrokerError, Granted, open};

const WHAT: &str = "saved state";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SavedAct {
    /// Make an empty file to be finished later; none may be there. Also its directory, if it is to
    /// be made.
    Create { path: PathBuf, in_new_dir: bool },
    /// Open one for reading and writing.
    Open { path: PathBuf },
    /// Give a file its name, in place of what has it. Durable afterwards.
    Rename { from: PathBuf, to: PathBuf },
    /// Durable afterwards; none there is no error.
    Remove { path: PathBuf },
}

pub(crate) fn act(act: &SavedAct) -> Result<Granted, BrokerError> {
    match act {
        SavedAct::Create { path, in_new_dir } => create(path, *in_new_dir).map(Granted::File),
        SavedAct::Open { path } => open::writable(WHAT, path).map(Granted::File),
        SavedAct::Rename { from, to } => rename(from, to).map(|()| Granted::Done),
        SavedAct::Remove { path } => remove(path).map(|()| Granted::Done),
    }
}

fn create(path: &Path, in_new_dir: bool) -> Result<OwnedFd, BrokerError> {
    let failed = |error| BrokerError::open("write", WHAT, path, error);
    if in_new_dir {
        DirBuilder::new().recursive(true).mode(0o700).create(dir_of(path)).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    // A new file is never a link, nor anything that blocks.
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map(Into::into).map_err(failed)
}

fn rename(from: &Path, to: &Path) -> Result<(), BrokerError> {
    fs::rename(from, to).map_err(|error| BrokerError::open("write", WHAT, to, error))?;
    sync(dir_of(to))
}

fn remove(path: &Path) -> Result<(), BrokerError> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BrokerError::open("remove", WHAT, path, error)),
        Ok(found) => found,
    };
    if !found.is_file() {
        return Err(BrokerError::WrongKind {
            what: WHAT.to_owned(),
            path: path.to_owned(),
            found: "no regular file".into(),
            expected: "one".into(),
        });
    }
    fs::remove_file(path).map_err(|error| BrokerError::open("remove", WHAT, path, error))?;
    sync(dir_of(path))
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(dir: &Path) -> Result<(), BrokerError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(BrokerError::host(format!("write directory {}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_renamed_over_another_and_removed_as_often_as_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let (partial, path) = (dir.path().join("new/a.partial"), dir.path().join("new/a"));
        assert!(create(&partial, false).is_err(), "its directory is not there");
        create(&partial, true).unwrap();
        assert!(create(&partial, true).is_err(), "it is there already");
        fs::write(&path, "old").unwrap();
        rename(&partial, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(remove(dir.path()).is_err(), "a directory");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(act(&SavedAct::Open { path: dir.path().to_owned() }).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(act(&SavedAct::Open { path: link }).is_err());
    }
}
