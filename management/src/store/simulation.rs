//! A disk that forgets: what of it is left after a power cut is any legal part of what was not
//! synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::Vfs;

/// One act that changes the disk.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Content on its way to the disk.
    Write {
        path: PathBuf,
        data: Vec<u8>,
    },
    /// Content that arrived.
    Synced {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
    /// Not of the disk: what a caller was promised at this point.
    Promise(usize),
}

#[derive(Debug, Default)]
pub(super) struct ForgetfulDisk {
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not durable yet: what each removes and adds.
    pending: Vec<Change>,
    acts: Vec<Act>,
    /// Acts still to succeed before one fails, and how.
    fail: Option<(usize, io::ErrorKind)>,
}

/// Names removed and names added, all or none.
type Change = (Vec<PathBuf>, Vec<(PathBuf, usize)>);

#[derive(Debug, Clone)]
struct File {
    data: Vec<u8>,
    synced: bool,
}

impl ForgetfulDisk {
    pub(super) fn acts(&self) -> Vec<Act> {
        self.lock().acts.clone()
    }

    pub(super) fn promise(&self, number: usize) {
        self.lock().acts.push(Act::Promise(number));
    }

    /// The act after `count` more fails, and those after it succeed again.
    pub(super) fn fail_after(&self, count: usize, kind: io::ErrorKind) {
        self.lock().fail = Some((count, kind));
    }

    pub(super) fn failed(&self) -> bool {
        self.lock().fail.is_none()
    }

    pub(super) fn replay(acts: &[Act]) -> Self {
        let mut inner = Inner::default();
        for act in acts {
            inner.apply(act).unwrap();
        }
        Self { inner: Mutex::new(inner) }
    }

    /// The same disk once more; nothing was done to it yet.
    pub(super) fn fork(&self) -> Self {
        let inner = Inner { acts: Vec::new(), ..self.lock().clone() };
        Self { inner: Mutex::new(inner) }
    }

    pub(super) fn redo(&self, acts: &[Act]) {
        let mut inner = self.lock();
        for act in acts {
            inner.apply(act).unwrap();
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().map(|path| path.display().to_string()).collect()
    }

    pub(super) fn damage(&self, path: &Path) {
        let mut inner = self.lock();
        let file = inner.names[path];
        let at = inner.files[file].data.len() / 2;
        inner.files[file].data[at] ^= 0xff;
    }

    /// Every disk that a power cut at this moment could leave.
    pub(super) fn after_power_cut(&self) -> Vec<Self> {
        let inner = self.lock().clone();
        let mut disks = Vec::new();
        for chosen in 0..1_u32 << inner.pending.len() {
            let mut names = inner.durable.clone();
            for (bit, (removed, added)) in inner.pending.iter().enumerate() {
                if chosen & (1 << bit) != 0 {
                    for path in removed {
                        names.remove(path);
                    }
                    names.extend(added.iter().cloned());
                }
            }
            let open: BTreeSet<usize> =
                names.values().copied().filter(|file| !inner.files[*file].synced).collect();
            // All unsynced content lost, half of it there, or all of it.
            for part in if open.is_empty() { 2..3 } else { 0..3 } {
                let mut files = inner.files.clone();
                for file in &open {
                    let len = files[*file].data.len();
                    files[*file].data.truncate(len * part / 2);
                }
                files.iter_mut().for_each(|file| file.synced = true);
                let left = Inner {
                    files,
                    names: names.clone(),
                    durable: names.clone(),
                    ..Inner::default()
                };
                disks.push(Self { inner: Mutex::new(left) });
            }
        }
        disks
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn act(&self, act: Act) -> io::Result<()> {
        let mut inner = self.lock();
        if let Some((count, kind)) = &mut inner.fail {
            if *count == 0 {
                let kind = *kind;
                inner.fail = None;
                if let Act::Write { path, data } = &act {
                    // A full disk takes what fits.
                    let half = data[..data.len() / 2].to_owned();
                    inner.apply(&Act::Write { path: path.clone(), data: half })?;
                }
                return Err(kind.into());
            }
            *count -= 1;
        }
        inner.apply(&act)?;
        inner.acts.push(act);
        Ok(())
    }
}

impl Inner {
    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, removed: Vec<PathBuf>, added: Vec<(PathBuf, usize)>) {
        for path in &removed {
            self.names.remove(path);
        }
        self.names.extend(added.iter().cloned());
        self.pending.push((removed, added));
    }

    fn apply(&mut self, act: &Act) -> io::Result<()> {
        match act {
            Act::Write { path, data } => match self.file(path) {
                Ok(file) => self.files[file] = File { data: data.clone(), synced: false },
                Err(_) => {
                    self.files.push(File { data: data.clone(), synced: false });
                    self.change(Vec::new(), vec![(path.clone(), self.files.len() - 1)]);
                }
            },
            Act::Synced { path } => {
                let file = self.file(path)?;
                self.files[file].synced = true;
            }
            Act::Rename { from, to } => {
                let file = self.file(from)?;
                self.change(vec![from.clone()], vec![(to.clone(), file)]);
            }
            Act::Link { from, to } => {
                let file = self.file(from)?;
                if self.names.contains_key(to) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.change(Vec::new(), vec![(to.clone(), file)]);
            }
            Act::Remove { path } => {
                self.file(path)?;
                self.change(vec![path.clone()], Vec::new());
            }
            Act::SyncDir { dir } => {
                let (durable, open) = std::mem::take(&mut self.pending).into_iter().partition(
                    |(removed, added): &Change| {
                        let paths = removed.iter().chain(added.iter().map(|(path, _)| path));
                        paths.into_iter().any(|path| path.parent() == Some(dir))
                    },
                );
                self.pending = open;
                for (removed, added) in durable {
                    for path in removed {
                        self.durable.remove(&path);
                    }
                    self.durable.extend(added);
                }
            }
            Act::Promise(_) => {}
        }
        Ok(())
    }
}

impl Vfs for ForgetfulDisk {
    fn may_be_there(&self, path: &Path) -> bool {
        self.lock().names.contains_key(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.lock();
        Ok(inner.files[inner.file(path)?].data.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let names = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_synced(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.act(Act::Write { path: path.to_owned(), data: data.to_owned() })?;
        self.act(Act::Synced { path: path.to_owned() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Act::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Act::Link { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.act(Act::Remove { path: path.to_owned() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.act(Act::SyncDir { dir: dir.to_owned() })
    }
}
