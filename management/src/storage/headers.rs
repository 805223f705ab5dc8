//! [`Headers`]: what lies below images, as their headers say, or said when they could be read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Broker, Sharing};
use image::Format;
use image::chain::{declared_format, locate};

use super::scan;
use crate::store::Vfs;

/// Images whose headers are at hand; beyond that all are read anew.
const MOST: usize = 10_000;

/// An image's path and the name of its format.
pub(crate) type Below = (PathBuf, String);

/// What definitions need, by image: also of images that cannot be seen at present, whose pool is not
/// active or whose file system is not mounted.
pub(crate) type Remembered = BTreeMap<PathBuf, Below>;

/// A header is read by a process of its own: once, as long as the file does not change.
pub(crate) struct Headers {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    seen: Mutex<HashMap<PathBuf, Seen>>,
    remembered: Mutex<Remembered>,
}

struct Seen {
    stamp: Stamp,
    below: Option<Below>,
}

/// By which a file is known to be the one that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// In the state directory.
const FILE: &str = "images.json";

impl Headers {
    /// With what a former daemon remembered.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        let found = vfs.read(&dir.join(FILE)).ok();
        let remembered = found.and_then(|bytes| match serde_json::from_slice(&bytes) {
            Ok(remembered) => Some(remembered),
            Err(error) => {
                tracing::warn!(%error, "what lay below images is forgotten: {FILE} makes no sense");
                None
            }
        });
        let (seen, remembered) = (Mutex::default(), Mutex::new(remembered.unwrap_or_default()));
        Self { vfs, dir: dir.to_owned(), seen, remembered }
    }

    /// The image below the one at `path`; of one that cannot be read now, what was there last.
    pub(crate) fn below(&self, broker: &dyn Broker, path: &Path, format: Format) -> Option<Below> {
        if format == Format::Raw {
            return None;
        }
        match self.look(broker, path, format) {
            Ok(below) => below,
            Err(error) => {
                tracing::debug!(path = %path.display(), error, "an image's header cannot be read");
                lock(&self.remembered).get(path).cloned()
            }
        }
    }

    fn look(
        &self,
        broker: &dyn Broker,
        path: &Path,
        format: Format,
    ) -> Result<Option<Below>, String> {
        let found = broker.stat(path).map_err(|error| error.to_string())?;
        let found = found.ok_or("it is not there")?;
        let stamp =
            Stamp { inode: (found.device, found.inode), size: found.size, changed: found.changed };
        if let Some(seen) = lock(&self.seen).get(path).filter(|seen| seen.stamp == stamp) {
            return Ok(seen.below.clone());
        }
        let below = read(broker, path, format)?;
        let mut seen = lock(&self.seen);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(path.to_owned(), Seen { stamp, below: below.clone() });
        Ok(below)
    }

    /// This too; what nobody needs any more goes when all is looked at.
    pub(crate) fn remember_also(&self, needed: Remembered) {
        let mut remembered = lock(&self.remembered);
        if needed.iter().all(|(image, below)| remembered.get(image) == Some(below)) {
            return;
        }
        let mut all = remembered.clone();
        all.extend(needed);
        self.replace(&mut remembered, all);
    }

    /// From now on this is what is known of images that cannot be seen: nothing but what some
    /// definition needs, so that it grows no larger than those.
    pub(crate) fn remember(&self, needed: Remembered) {
        self.replace(&mut lock(&self.remembered), needed);
    }

    fn replace(&self, remembered: &mut Remembered, needed: Remembered) {
        if *remembered == needed {
            return;
        }
        if let Err(error) = self.write(&needed) {
            // It is known to this daemon all the same.
            tracing::warn!(%error, "what lies below images is not remembered over a restart");
        }
        *remembered = needed;
    }

    fn write(&self, needed: &Remembered) -> std::io::Result<()> {
        let (path, unfinished) = (self.dir.join(FILE), self.dir.join("images.json.tmp"));
        self.vfs.create_synced(&unfinished, &serde_json::to_vec_pretty(needed)?)?;
        self.vfs.rename(&unfinished, &path)?;
        self.vfs.sync_dir(&self.dir)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(broker: &dyn Broker, path: &Path, format: Format) -> Result<Option<Below>, String> {
    // Also while a guest writes to it: what lies below is in the header's first sectors.
    let file = broker.open_image(path, true, false, Sharing::Shared);
    let file = file.map_err(|error| error.to_string())?;
    let found = scan::inspect(broker, format, &file).map_err(|error| error.chain())?;
    let Some(backing) = &found.backing else { return Ok(None) };
    let below = locate(&backing.name, path).map_err(|error| error.in_full())?;
    // One that does not say what lies below cannot be opened, and may all the same lie there.
    let format = declared_format(backing).unwrap_or(Format::Raw);
    Ok(Some((below, format.name().to_owned())))
}
