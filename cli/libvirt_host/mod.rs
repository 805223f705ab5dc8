//! What libvirt has on a host, by its files: nothing of it needs to run, and nothing is written.
//!
//! ```text
//! etc/libvirt/{qemu,qemu/networks,storage,nwfilter,secrets}/NAME.xml     definitions
//!             …/autostart/NAME.xml                                       links: starts with the host
//! var/lib/libvirt/qemu/{save/NAME.save,snapshot/NAME/,checkpoint/NAME/}  what belongs to a guest
//! run/libvirt/qemu/NAME.{xml,pid}, run/{libvirtd,virtqemud}.pid          what runs
//! ```

mod tree;

use std::io;
use std::path::{Path, PathBuf};

use api::types::{Import, ImportDocument, ImportKind};
use rustix::fs::FileType;

use self::tree::{Directory, Tree};

/// Of the daemon that has QEMU's guests, whichever way libvirt is split up.
const DAEMONS: [&str; 2] = ["libvirtd", "virtqemud"];

/// What was found.
pub(crate) struct Found {
    pub(crate) import: Import,
    pub(crate) unread: Vec<Unread>,
    /// libvirt's daemon, if it runs: its name and process.
    pub(crate) daemon: Option<(&'static str, u32)>,
}

/// A definition that is there and was not read.
pub(crate) struct Unread {
    pub(crate) kind: ImportKind,
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) error: io::Error,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("there are no definitions of libvirt's: {} is not there", path.display())]
    NoLibvirt { path: PathBuf },
}

/// Look through the host whose root this is.
pub(crate) fn read(root: &Path) -> Result<Found, HostError> {
    let failed = |path: PathBuf| move |source| HostError::Open { path, source };
    let tree = Tree::open(root).map_err(failed(root.to_owned()))?;
    let shown = |path: &str| tree.path().join(path);
    if tree.directory("etc/libvirt").map_err(failed(shown("etc/libvirt")))?.is_none() {
        return Err(HostError::NoLibvirt { path: shown("etc/libvirt") });
    }
    let is_here = tree.path() == Path::new("/");
    let root = tree.path().display().to_string();
    let mut host = Host { tree: &tree, is_here, documents: Vec::new(), unread: Vec::new() };
    for (kind, dir) in [
        (ImportKind::Secret, "etc/libvirt/secrets"),
        (ImportKind::Filter, "etc/libvirt/nwfilter"),
        (ImportKind::Network, "etc/libvirt/qemu/networks"),
        (ImportKind::Pool, "etc/libvirt/storage"),
        (ImportKind::Domain, "etc/libvirt/qemu"),
    ] {
        host.definitions(kind, dir).map_err(failed(shown(dir)))?;
    }
    let state = "var/lib/libvirt/qemu";
    host.guests().map_err(failed(shown(state)))?;
    let daemon = host.daemon();
    let Host { documents, unread, .. } = host;
    Ok(Found { import: Import { root, documents }, unread, daemon })
}

struct Host<'a> {
    tree: &'a Tree,
    /// Its processes are to be seen.
    is_here: bool,
    documents: Vec<ImportDocument>,
    unread: Vec<Unread>,
}

impl Host<'_> {
    fn definitions(&mut self, kind: ImportKind, path: &str) -> io::Result<()> {
        let Some(dir) = self.tree.directory(path)? else { return Ok(()) };
        let marked = match dir.inner("autostart")? {
            // Where they lead does not matter: libvirt goes by the name.
            Some(marks) => marks.names(".xml", FileType::Symlink)?,
            None => Vec::new(),
        };
        for name in dir.names(".xml", FileType::RegularFile)? {
            // Nobody misses one that is here as well.
            if kind == ImportKind::Filter && management::filters::is_builtin(&name) {
                continue;
            }
            let file = self.tree.path().join(&dir.path).join(format!("{name}.xml"));
            let file = file.display().to_string();
            let text = dir.read(&format!("{name}.xml"));
            let value = (kind == ImportKind::Secret).then(|| secret(&dir, &name)).transpose();
            match text.and_then(|xml| Ok((xml, value?.flatten()))) {
                Ok((xml, value)) => self.documents.push(ImportDocument {
                    kind,
                    autostart: marked.binary_search(&name).is_ok(),
                    name,
                    file,
                    xml,
                    runs: false,
                    managed_save: false,
                    snapshots: Vec::new(),
                    checkpoints: Vec::new(),
                    value,
                }),
                Err(error) => self.unread.push(Unread { kind, name, file, error }),
            }
        }
        Ok(())
    }

    /// What is known of guests beside their definitions.
    fn guests(&mut self) -> io::Result<()> {
        let names = |dir: Option<Directory>, suffix: &str| match dir {
            Some(dir) => dir.names(suffix, FileType::RegularFile),
            None => Ok(Vec::new()),
        };
        let running = self.tree.directory("run/libvirt/qemu")?;
        let saved = names(self.tree.directory("var/lib/libvirt/qemu/save")?, ".save")?;
        let snapshots = self.tree.directory("var/lib/libvirt/qemu/snapshot")?;
        let checkpoints = self.tree.directory("var/lib/libvirt/qemu/checkpoint")?;
        let inner = |dir: &Option<Directory>, name: &str| match dir {
            Some(dir) => names(dir.inner(name)?, ".xml"),
            None => Ok(Vec::new()),
        };
        for document in &mut self.documents {
            if document.kind != ImportKind::Domain {
                continue;
            }
            let name = &document.name;
            document.managed_save = saved.binary_search(name).is_ok();
            document.snapshots = inner(&snapshots, name)?;
            document.checkpoints = inner(&checkpoints, name)?;
            document.runs = match &running {
                Some(dir) => runs(dir, name, self.is_here)?,
                None => false,
            };
        }
        Ok(())
    }

    fn daemon(&self) -> Option<(&'static str, u32)> {
        let run = self.tree.directory("run").ok()??;
        DAEMONS.into_iter().find_map(|name| {
            let pid = run.read(&format!("{name}.pid")).ok()?.trim().parse().ok()?;
            (!self.is_here || is_process(pid, name)).then_some((name, pid))
        })
    }
}

/// The value beside a secret's definition, in base64; none: nobody has told it.
fn secret(dir: &Directory, name: &str) -> io::Result<Option<String>> {
    match dir.read(&format!("{name}.base64")) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// libvirt has a status of each guest that runs; after a crash of the host's it can be an old one.
fn runs(dir: &Directory, name: &str, is_here: bool) -> io::Result<bool> {
    let is_there = |suffix: &str| match dir.read(&format!("{name}.{suffix}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if is_there("xml")?.is_none() {
        return Ok(false);
    }
    let pid = is_there("pid")?.and_then(|text| text.trim().parse().ok());
    Ok(match pid {
        // Another program has the number since.
        Some(pid) if is_here => is_process(pid, "qemu") || is_process(pid, "kvm"),
        _ => true,
    })
}

fn is_process(pid: u32, name: &str) -> bool {
    let said = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    said.is_ok_and(|said| said.trim().starts_with(name))
}
