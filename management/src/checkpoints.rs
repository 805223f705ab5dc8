//! [`Checkpoints`]: what is remembered of the checkpoints of each domain, one file for a domain.
//!
//! They are in the order in which they were made; the last one is current. What was written since
//! lies in the dirty bitmaps of the disks, which the VMM has while the guest runs and the images
//! while it does not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Error};
use crate::store::Vfs;

/// Each costs a bitmap in memory for each disk.
pub(crate) const MOST: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Those of all disks that it knows.
    pub disks: Vec<CheckpointDisk>,
    /// The domain's definition then.
    pub domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointDisk {
    /// The target: `vda`.
    pub disk: String,
    /// None: writes to it are not recorded.
    pub bitmap: Option<String>,
}

impl Checkpoint {
    pub(crate) fn bitmap(&self, disk: &str) -> Option<&str> {
        self.disks.iter().find(|it| it.disk == disk)?.bitmap.as_deref()
    }
}

pub(crate) struct Checkpoints {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, state: &Path) -> Self {
        Self { vfs, dir: state.join("checkpoints") }
    }

    fn path(&self, domain: Uuid) -> PathBuf {
        self.dir.join(format!("{domain}.json"))
    }

    /// Those of a domain, the oldest first.
    pub(crate) fn read(&self, domain: Uuid) -> Result<Vec<Checkpoint>, Error> {
        let path = self.path(domain);
        let failed = |source: io::Error| {
            let text = format!("cannot read the checkpoints in {}", path.display());
            Error::new(Code::HostFailure, text).with_source(source)
        };
        match self.vfs.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
        }
    }

    /// In place of those that are there, durably.
    pub(crate) fn write(&self, domain: Uuid, all: &[Checkpoint]) -> Result<(), Error> {
        let path = self.path(domain);
        let write = || -> io::Result<()> {
            self.vfs.make_dir(&self.dir)?;
            let unfinished = path.with_extension("tmp");
            self.vfs.create_synced(&unfinished, &serde_json::to_vec(all)?)?;
            self.vfs.rename(&unfinished, &path)?;
            self.vfs.sync_dir(&self.dir)
        };
        write().map_err(|source| {
            let full = source.kind() == io::ErrorKind::StorageFull;
            let code = if full { Code::NoSpace } else { Code::HostFailure };
            let text = format!("cannot write the checkpoints in {}", path.display());
            Error::new(code, text).with_source(source)
        })
    }

    /// The domain is gone.
    pub(crate) fn forget(&self, domain: Uuid) {
        match self.vfs.remove(&self.path(domain)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%domain, %error, "its checkpoints cannot be forgotten");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Disk;

    #[test]
    fn what_was_written_is_read_again_and_what_was_forgotten_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(Arc::new(Disk), dir.path());
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let disks = vec![CheckpointDisk { disk: "vda".into(), bitmap: Some("a".into()) }];
        let all = [Checkpoint {
            name: "a".into(),
            description: None,
            created: 1,
            disks,
            domain: "<domain/>".into(),
        }];
        checkpoints.write(one, &all).unwrap();
        assert_eq!(checkpoints.read(one).unwrap(), all);
        assert_eq!(checkpoints.read(other).unwrap(), []);
        checkpoints.forget(one);
        checkpoints.forget(one);
        assert_eq!(checkpoints.read(one).unwrap(), []);
        std::fs::write(checkpoints.path(one), "{").unwrap();
        let damaged = checkpoints.read(one).unwrap_err();
        assert!(damaged.message.contains("cannot read the checkpoints"), "{damaged}");
    }
}
