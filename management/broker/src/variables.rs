//! Firmware variables of a guest: a file of its own, copied from the template of its firmware.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::policy::Judge;
use crate::{BrokerError, lock, open};

const WHAT: &str = "firmware variables";
/// Far more than the flash of any firmware: a template is not to fill the host's disk.
const LARGEST: u64 = 64 << 20;

/// A crash leaves the old variables, or the new ones, complete.
pub(crate) fn make(
    judge: Judge<'_>,
    path: &Path,
    template: Option<&Path>,
    reset: bool,
) -> Result<(), BrokerError> {
    let is_there = path.symlink_metadata().is_ok();
    if !reset && is_there {
        return Ok(());
    }
    if reset && is_there {
        // A guest that runs has them.
        let old = open::image(judge, path, false, false)?;
        lock::image(&old, path, false, crate::Sharing::Exclusive)?;
    }
    let Some(template) = template else {
        return Err(BrokerError::NoTemplate { path: path.to_owned() });
    };
    let source = File::from(open::input(judge, "template of firmware variables", template)?);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    judge.make_all("directory of firmware variables", dir, 0o700)?;
    let place = judge.make(WHAT, path)?;
    let beside = beside(place.by());
    let copied = copy(source, &beside).and_then(|()| fs::rename(&beside, place.by()));
    if let Err(error) = copied {
        // Whatever there is of it is of no use.
        let _ = fs::remove_file(&beside);
        return Err(BrokerError::open("write", WHAT, path, error));
    }
    let synced = sync(place.by().parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(dir));
    synced.map_err(BrokerError::host(format!("write directory {}", dir.display())))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn copy(source: File, to: &Path) -> io::Result<()> {
    if source.metadata()?.len() > LARGEST {
        return Err(io::Error::other("the template is larger than 64 MiB"));
    }
    // Left by a copy that a crash broke off.
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source.take(LARGEST), &mut file)?;
    file.sync_all()
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(crate) fn remove(judge: Judge<'_>, path: &Path) -> Result<(), BrokerError> {
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
    let dir = path.parent().unwrap_or(path);
    sync(place.by().parent().unwrap_or(dir))
        .map_err(BrokerError::host(format!("write directory {}", dir.display())))
}
