//! The seeds of this host's domains, one file each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::Seed;
use crate::error::{Code, Error};
use crate::store::Vfs;

const UNFINISHED: &str = "tmp";

pub(crate) struct Seeds {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

/// Of the seed of a domain.
pub(crate) fn file_name(uuid: Uuid) -> String {
    format!("{uuid}.iso")
}

impl Seeds {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf) -> Self {
        Self { vfs, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, uuid: Uuid) -> PathBuf {
        self.dir.join(file_name(uuid))
    }

    /// Before the definition that names it: a crash leaves a seed that nobody names, which the next
    /// daemon removes. A guest that runs keeps the one it has.
    pub(crate) fn put(&self, uuid: Uuid, seed: &Seed) -> Result<(), Error> {
        let path = self.path(uuid);
        let beside = path.with_extension(UNFINISHED);
        let write = || {
            self.vfs.make_dir(&self.dir)?;
            self.vfs.create_synced(&beside, &seed.0)?;
            self.vfs.rename(&beside, &path)?;
            self.vfs.sync_dir(&self.dir)
        };
        write().map_err(|error| {
            // Whatever there is of it is of no use.
            let _ = self.vfs.remove(&beside);
            failed("write", &path, error)
        })
    }

    /// Whether there is one, or may be.
    pub(crate) fn has(&self, uuid: Uuid) -> bool {
        self.vfs.may_be_there(&self.path(uuid))
    }

    /// None there is no error.
    pub(crate) fn remove(&self, uuid: Uuid) -> Result<(), Error> {
        let path = self.path(uuid);
        match self.vfs.remove(&path) {
            Ok(()) => self.vfs.sync_dir(&self.dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|error| failed("remove", &path, error))
    }

    /// Remove what a daemon that died left: of domains that `known` does not know, and unfinished.
    pub(crate) fn sweep(&self, known: impl Fn(Uuid) -> bool) {
        for name in self.vfs.list(&self.dir).unwrap_or_default() {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            let Ok(uuid) = stem.parse() else { continue };
            if extension == UNFINISHED || (extension == "iso" && !known(uuid)) {
                tracing::info!(name, "removing a seed that no domain has");
                let _ = self.vfs.remove(&self.dir.join(name));
            }
        }
    }
}

fn failed(act: &str, path: &Path, source: io::Error) -> Error {
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { Code::NoSpace } else { Code::HostFailure };
    let text = format!("cannot {act} the cloud-init seed {}", path.display());
    Error::new(code, text).with_source(source)
}
