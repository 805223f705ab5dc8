//! Files that a guest's memory is written to: saved states and core dumps. They appear under their
//! name only when they are complete, and nobody but their owner reads them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::policy::Judge;
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
    /// Give a file its name, which nothing has yet. Durable afterwards.
    Name { from: PathBuf, to: PathBuf },
    /// Durable afterwards; none there is no error.
    Remove { path: PathBuf },
}

pub(crate) fn act(judge: Judge<'_>, act: &SavedAct) -> Result<Granted, BrokerError> {
    match act {
        SavedAct::Create { path, in_new_dir } => {
            create(judge, path, *in_new_dir).map(Granted::File)
        }
        SavedAct::Open { path } => open::writable(judge, WHAT, path).map(Granted::File),
        SavedAct::Rename { from, to } => rename(judge, from, to).map(|()| Granted::Done),
        SavedAct::Name { from, to } => name(judge, from, to).map(|()| Granted::Done),
        SavedAct::Remove { path } => remove(judge, path).map(|()| Granted::Done),
    }
}

fn create(judge: Judge<'_>, path: &Path, in_new_dir: bool) -> Result<OwnedFd, BrokerError> {
    let failed = |error| BrokerError::open("write", WHAT, path, error);
    if in_new_dir {
        judge.make_all(WHAT, dir_of(path), 0o700)?;
    }
    let place = judge.make(WHAT, path)?;
    let mut options = OpenOptions::new();
    // A new file is never a link, nor anything that blocks.
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(place.by()).map(Into::into).map_err(failed)
}

fn rename(judge: Judge<'_>, from: &Path, to: &Path) -> Result<(), BrokerError> {
    let (old, new) = (judge.make(WHAT, from)?, judge.make(WHAT, to)?);
    fs::rename(old.by(), new.by()).map_err(|error| BrokerError::open("write", WHAT, to, error))?;
    sync(dir_of(new.by()))
}

fn name(judge: Judge<'_>, from: &Path, to: &Path) -> Result<(), BrokerError> {
    let (old, new) = (judge.make(WHAT, from)?, judge.make(WHAT, to)?);
    open::rename_new(CWD, old.by(), new.by()).map_err(|errno| match errno {
        Errno::EXIST => BrokerError::Exists { path: to.to_owned() },
        _ => BrokerError::open("write", WHAT, to, errno.into()),
    })?;
    sync(dir_of(new.by()))
}

fn remove(judge: Judge<'_>, path: &Path) -> Result<(), BrokerError> {
    let Some(place) = judge.make_if_there(WHAT, path)? else { return Ok(()) };
    let found = match place.by().symlink_metadata() {
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
    fs::remove_file(place.by()).map_err(|error| BrokerError::open("remove", WHAT, path, error))?;
    sync(dir_of(place.by()))
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
        assert!(create(Judge::NONE, &partial, false).is_err(), "its directory is not there");
        create(Judge::NONE, &partial, true).unwrap();
        assert!(create(Judge::NONE, &partial, true).is_err(), "it is there already");
        fs::write(&path, "old").unwrap();
        let taken = name(Judge::NONE, &partial, &path);
        assert!(matches!(taken, Err(BrokerError::Exists { .. })), "{taken:?}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let free = dir.path().join("new/b");
        name(Judge::NONE, &partial, &free).unwrap();
        fs::rename(&free, &partial).unwrap();
        rename(Judge::NONE, &partial, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        remove(Judge::NONE, &path).unwrap();
        remove(Judge::NONE, &path).unwrap();
        assert!(remove(Judge::NONE, dir.path()).is_err(), "a directory");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(act(Judge::NONE, &SavedAct::Open { path: dir.path().to_owned() }).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(act(Judge::NONE, &SavedAct::Open { path: link }).is_err());
    }
}
