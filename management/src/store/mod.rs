//! The store: one file for each definition, keyed by UUID, readable by people.
//!
//! A file is written beside its place, synced, renamed into it, and the directory synced before
//! anyone is told that it is stored; the version before stays as `.prev`. Every change is one
//! object (a domain's name lies inside its file, so a rename is one too): a crash leaves either the
//! old object or the new one. What cannot be read is put aside in `quarantine/`, with a reason.

mod disk;
mod filter;
mod network;
mod object;
mod pool;
mod secret;
#[cfg(test)]
mod simulation;
mod snapshots;
#[cfg(test)]
mod tests;
mod token;
mod user;
mod vfs;

use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use disk::Disk;
pub(crate) use filter::StoredFilter;
pub(crate) use network::StoredNetwork;
use object::Object;
pub(crate) use object::StoredDomain;
pub(crate) use pool::StoredPool;
pub(crate) use secret::StoredSecret;
pub(crate) use snapshots::StoredSnapshots;
pub(crate) use token::StoredToken;
pub(crate) use user::StoredUser;
pub(crate) use vfs::Vfs;

use crate::error::{Code, Error};

/// Below the state directory, of what people have made: each kind's, and what could not be read of them.
pub const DIRECTORIES: [&str; 9] = [
    StoredDomain::DIRECTORY,
    StoredNetwork::DIRECTORY,
    StoredPool::DIRECTORY,
    StoredFilter::DIRECTORY,
    StoredSecret::DIRECTORY,
    StoredSnapshots::DIRECTORY,
    StoredToken::DIRECTORY,
    StoredUser::DIRECTORY,
    QUARANTINE,
];

const QUARANTINE: &str = "quarantine";
const PREVIOUS: &str = "prev";
const UNFINISHED: &str = "tmp";

/// The objects of one kind.
pub(crate) struct Store<T = StoredDomain> {
    vfs: Arc<dyn Vfs>,
    objects: PathBuf,
    quarantine: PathBuf,
    kind: PhantomData<fn() -> T>,
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) struct Contents<T = StoredDomain> {
    pub objects: Vec<T>,
    /// Files put aside, and why.
    pub quarantined: Vec<(String, String)>,
    /// What does not work now, in words.
    pub degraded: Vec<String>,
}

impl<T> Default for Contents<T> {
    fn default() -> Self {
        Self { objects: Vec::new(), quarantined: Vec::new(), degraded: Vec::new() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub(crate) struct StoreError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let place = error.path.parent().unwrap_or(&error.path).display().to_string();
        let full = matches!(
            error.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let (code, message) = if full {
            let text = format!(
                "no space left in {place}; nothing was changed, free some space and try again"
            );
            (Code::NoSpace, text)
        } else {
            let text =
                format!("the definition could not be stored in {place}; nothing was changed");
            (Code::HostFailure, text)
        };
        Self::new(code, message).with_source(error)
    }
}

fn object_file<T: Object>(uuid: impl std::fmt::Display) -> String {
    format!("{uuid}.{}", T::EXTENSION)
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { act, path, source }
}

impl<T: Object> Store<T> {
    /// Open the store in `dir` and read everything. A store that cannot be read or written now is
    /// no reason to leave running domains alone: it is told in [`Contents::degraded`].
    pub(crate) fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> (Self, Contents<T>) {
        let (objects, quarantine) = (dir.join(T::DIRECTORY), dir.join(QUARANTINE));
        let store = Self { vfs, objects, quarantine, kind: PhantomData };
        let mut contents = Contents::default();
        for dir in [&store.objects, &store.quarantine] {
            if let Err(error) = store.vfs.make_dir(dir) {
                contents.degraded.push(format!("cannot make {}: {error}", dir.display()));
            }
        }
        match store.vfs.list(&store.objects) {
            Ok(names) => store.read_all(&names, &mut contents),
            Err(error) => {
                let place = store.objects.display();
                contents.degraded.push(format!("cannot read definitions in {place}: {error}"));
            }
        }
        (store, contents)
    }

    fn read_all(&self, names: &[String], contents: &mut Contents<T>) {
        let path = |name: &str| self.objects.join(name);
        for name in names {
            let stem = |suffix| name.strip_suffix(suffix).and_then(|stem| stem.strip_suffix('.'));
            if stem(UNFINISHED).is_some() {
                let _ = self.vfs.remove(&path(name));
            } else if let Some(uuid) = stem(PREVIOUS) {
                // Without its object it is the rest of a removal.
                if !names.contains(&object_file::<T>(uuid)) {
                    let _ = self.vfs.remove(&path(name));
                }
            } else if stem(T::EXTENSION).is_some() {
                self.read_one(name, contents);
            }
        }
        contents.objects.sort_by_key(T::generation);
        let mut names: HashMap<String, Uuid> = HashMap::new();
        contents.objects.retain(|object| {
            let other = names.insert(object.name().to_owned(), object.uuid());
            if let Some(other) = other {
                names.insert(object.name().to_owned(), other);
                let reason = format!("its name {:?} is that of {other} too", object.name());
                let file = self.put_aside(&object_file::<T>(object.uuid()));
                contents.quarantined.push((file, reason));
            }
            other.is_none()
        });
    }

    fn read_one(&self, name: &str, contents: &mut Contents<T>) {
        let path = self.objects.join(name);
        let read = |path: &Path| {
            let bytes = self.vfs.read(path).map_err(|error| error.to_string())?;
            let object = T::decode(&bytes).map_err(str::to_owned)?;
            let expected = object_file::<T>(object.uuid());
            if expected == name { Ok(object) } else { Err(format!("it holds {}", object.uuid())) }
        };
        let mut reason = match read(&path) {
            Ok(object) => return contents.objects.push(object),
            Err(reason) => reason,
        };
        let previous = path.with_extension(PREVIOUS);
        let file = self.put_aside(name);
        if let Ok(object) = read(&previous)
            && self.vfs.rename(&previous, &path).is_ok()
        {
            let _ = self.vfs.sync_dir(&self.objects);
            reason = format!("{reason}; version {} took its place", object.generation());
            contents.objects.push(object);
        }
        tracing::error!(file, reason, "a definition cannot be read and was put aside");
        contents.quarantined.push((file, reason));
    }

    /// Returns where the file lies now.
    fn put_aside(&self, name: &str) -> String {
        let from = self.objects.join(name);
        let taken = self.vfs.list(&self.quarantine).unwrap_or_default();
        let free = (0..).map(|n| format!("{name}.{n}")).find(|name| !taken.contains(name));
        let to = self.quarantine.join(free.unwrap_or_else(|| name.to_owned()));
        match self.vfs.rename(&from, &to) {
            Ok(()) => {
                let _ = self.vfs.sync_dir(&self.quarantine);
                let _ = self.vfs.sync_dir(&self.objects);
                to.display().to_string()
            }
            Err(_) => from.display().to_string(),
        }
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.objects.join(object_file::<T>(uuid))
    }

    /// Store a definition, new or changed. On return it is durable; on error the old one is.
    pub(crate) fn put(&self, object: &T) -> Result<(), StoreError> {
        let path = self.path(object.uuid());
        let unfinished = path.with_extension(UNFINISHED);
        let result = self.replace(&path, &unfinished, &object.encode());
        if result.is_err() {
            let _ = self.vfs.remove(&unfinished);
        }
        result
    }

    /// Store `object` with a change, if it is one; what is stored then.
    pub(crate) fn change(&self, object: &T, change: impl FnOnce(&mut T)) -> Result<T, StoreError>
    where
        T: Clone + PartialEq,
    {
        let mut next = object.clone();
        change(&mut next);
        if next != *object {
            next.set_generation(object.generation().saturating_add(1));
            self.put(&next)?;
        }
        Ok(next)
    }

    fn replace(&self, path: &Path, unfinished: &Path, data: &[u8]) -> Result<(), StoreError> {
        let previous = path.with_extension(PREVIOUS);
        self.vfs.create_synced(unfinished, data).map_err(failed("write", unfinished))?;
        // The old version gets a second name before its first is taken: there is no moment without it.
        let kept = self.keep(path, &previous).map_err(failed("keep the old version of", path))?;
        self.vfs.rename(unfinished, path).map_err(failed("replace", path))?;
        if let Err(source) = self.vfs.sync_dir(&self.objects) {
            // Not durable, so not stored: back to what is.
            let _ = if kept { self.vfs.rename(&previous, path) } else { self.vfs.remove(path) };
            return Err(failed("sync the directory of", path)(source));
        }
        Ok(())
    }

    fn keep(&self, path: &Path, previous: &Path) -> io::Result<bool> {
        match self.vfs.remove(previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match self.vfs.link(path, previous) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forget a definition. On return it is gone for good; on error it is still there.
    pub(crate) fn remove(&self, uuid: Uuid) -> Result<(), StoreError> {
        let path = self.path(uuid);
        let previous = path.with_extension(PREVIOUS);
        self.vfs.rename(&path, &previous).map_err(failed("remove", &path))?;
        if let Err(source) = self.vfs.sync_dir(&self.objects) {
            let _ = self.vfs.rename(&previous, &path);
            return Err(failed("sync the directory of", &path)(source));
        }
        // Without its object the rest means nothing; a crash here leaves it to the next start.
        let _ = self.vfs.remove(&previous);
        Ok(())
    }
}
