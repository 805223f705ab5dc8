//! What a saved guest's disks were like. A guest that goes on over other disks than it knew destroys
//! their file systems: it holds a good part of them in its memory.

use std::path::{Path, PathBuf};

use broker::{Broker, Stat};
use serde::{Deserialize, Serialize};
use xml::DomainDef;
use xml::device::disk::Location;

use crate::error::{Code, Error};
use crate::storage::PoolView;
use crate::translate;

/// A file, as it was when the guest stopped using it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// What it is to the guest.
    disk: String,
    path: PathBuf,
    size: u64,
    /// Seconds and nanoseconds since the Unix epoch.
    modified: (i64, i64),
}

/// Of every file below the disks of `def`, and of its firmware's variables. Block devices keep no
/// time, and servers none that can be asked for: of those nothing is known.
pub(crate) fn marks(broker: &dyn Broker, def: &DomainDef, pools: &[PoolView]) -> Vec<Mark> {
    let mark = |disk: &str, path: &Path| mark(broker, disk, path);
    let mut found = Vec::new();
    for disk in &def.devices.disks {
        let name = &disk.target.dev;
        match disk.location() {
            Location::File(path) => found.extend(mark(name, path)),
            Location::Volume { pool, volume } => {
                let pool = pools.iter().find(|known| known.name == pool);
                found.extend(pool.and_then(|pool| mark(name, &pool.path.join(volume))));
            }
            _ => {}
        }
        let mut below = disk.backing_store.as_ref();
        while let Some(store) = below {
            let file = store.source.as_ref().and_then(|source| source.file.as_deref());
            found.extend(file.and_then(|file| mark(name, file)));
            below = store.backing_store.as_deref();
        }
    }
    let variables = translate::variables(def).map(|(path, _)| path);
    found.extend(variables.and_then(|path| mark("firmware variables", path)));
    found
}

fn mark(broker: &dyn Broker, disk: &str, path: &Path) -> Option<Mark> {
    let found = broker.stat(path).ok().flatten().filter(|found| found.is_file)?;
    let Stat { size, modified, .. } = found;
    Some(Mark { disk: disk.to_owned(), path: path.to_owned(), size, modified })
}

impl Mark {
    /// Refuse an image that a snapshot holds and that is not what it was.
    pub(crate) fn check_held(&self, broker: &dyn Broker) -> Result<(), Error> {
        self.check(broker).map_err(|error| {
            let text = format!(
                "{} ({}) was changed, or is gone, since the snapshot was made: what it holds is not \
                 what the disk held then; say --force if that is meant",
                self.path.display(),
                self.disk
            );
            Error::new(Code::Risky, text).with_source(error)
        })
    }

    /// Refuse a file that is not what it was. One that is gone is told of where it is opened.
    pub(crate) fn check(&self, broker: &dyn Broker) -> Result<(), Error> {
        match mark(broker, &self.disk, &self.path) {
            Some(now) if now != *self => {
                let text = format!(
                    "{} ({}) was changed after the guest was saved: going on would damage what is on \
                     it; start the guest anew, or force it (--force, force=true) if you know better",
                    self.path.display(),
                    self.disk
                );
                Err(Error::new(Code::Changed, text))
            }
            _ => Ok(()),
        }
    }
}
