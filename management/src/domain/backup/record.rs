//! [`BackupRecord`]: what a domain's backup was asked for, in its run directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

const FILE: &str = "backup.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackupRecord {
    pub xml: String,
    /// Targets that are removed if it fails. Of our own word: a VMM is not believed what to remove.
    pub made: Vec<PathBuf>,
}

impl BackupRecord {
    pub(super) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Lasts as long as the host is up, as the backup does.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        let unfinished = dir.join("backup.tmp");
        let text = serde_json::to_vec(self).unwrap_or_default();
        let written = std::fs::write(&unfinished, text)
            .and_then(|()| std::fs::rename(&unfinished, dir.join(FILE)));
        written.map_err(|source| {
            let text = format!("cannot write down the backup in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// None there is no error: the directory may have gone with the domain.
    pub(super) fn remove(dir: &Path) {
        let _ = std::fs::remove_file(dir.join(FILE));
    }
}
