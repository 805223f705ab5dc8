//! [`Headers`]: what lies below images, as their headers say.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use broker::{Broker, Sharing};
use image::Format;
use image::chain::{declared_format, locate};

use super::scan;

/// Images that are remembered; beyond that all are looked at anew.
const MOST: usize = 10_000;

/// A header is read by a process of its own: once, as long as the file does not change.
#[derive(Debug, Default)]
pub(crate) struct Headers(Mutex<HashMap<PathBuf, Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    stamp: Stamp,
    below: Option<Below>,
}

/// An image's path and format.
type Below = (PathBuf, Format);

/// By which a file is known to be the one that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Headers {
    /// The image below the one at `path`; none also where the header cannot be read.
    pub(crate) fn below(&self, broker: &dyn Broker, path: &Path, format: Format) -> Option<Below> {
        if format == Format::Raw {
            return None;
        }
        let found = path.metadata().ok()?;
        let stamp = Stamp {
            inode: (found.dev(), found.ino()),
            size: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        if let Some(seen) = self.seen().get(path).filter(|seen| seen.stamp == stamp) {
            return seen.below.clone();
        }
        let below = match read(broker, path, format) {
            Ok(below) => below,
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "an image's header cannot be read");
                return None;
            }
        };
        let mut seen = self.seen();
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(path.to_owned(), Seen { stamp, below: below.clone() });
        below
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(broker: &dyn Broker, path: &Path, format: Format) -> Result<Option<Below>, String> {
    // Also while a guest writes to it: what lies below is in the header's first sectors.
    let file = broker.open_image(path, true, false, Sharing::Shared);
    let file = file.map_err(|error| error.to_string())?;
    let found = scan::inspect(broker, format, &file).map_err(|error| error.chain())?;
    let Some(backing) = &found.backing else { return Ok(None) };
    let below = locate(&backing.name, path).map_err(|error| error.in_full())?;
    // One that does not say what lies below cannot be opened, and may all the same lie there.
    Ok(Some((below, declared_format(backing).unwrap_or(Format::Raw))))
}
