//! The twin of a domain: another machine of the same make, with disks of its own that hold the same.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use broker::{Broker, SavedAct, Sharing};
use rustix::fs::{ioctl_ficlone, seek};
use rustix::io::Errno;
use uuid::Uuid;
use xml::DomainDef;
use xml::device::disk::{Disk, DiskDevice, Location};
use xml::domain::os::SysinfoField;

use super::launch::name_holder;
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::registry::Node;
use crate::saved::beside;
use crate::storage::PoolView;
use crate::translate::{self, NewIds};

/// Copied between two looks at whether the job is to go on.
const PIECE: u64 = 8 << 20;

#[derive(Debug)]
pub(crate) struct Twin {
    pub def: DomainDef,
    pub files: Vec<Copy>,
}

/// A file of the twin's own.
#[derive(Debug)]
pub(crate) struct Copy {
    /// What it is to the guest.
    what: String,
    from: PathBuf,
    to: PathBuf,
    partial: PathBuf,
}

impl Twin {
    /// `seed`: of the original's cloud-init, which is not the twin's.
    pub(crate) fn plan(
        of: &DomainDef,
        name: &str,
        pools: &[PoolView],
        seed: &Path,
    ) -> Result<Self, Error> {
        let mut def = of.clone();
        translate::rename(&mut def, name)?;
        def.uuid = Some(Uuid::new_v4());
        if let Some(genid) = &mut def.genid {
            genid.id = Some(Uuid::new_v4());
        }
        // They tell the original's UUID.
        for block in def.sysinfos.iter_mut().flat_map(|info| &mut info.system) {
            block.entries.retain(|entry| entry.name != SysinfoField::Uuid);
        }
        def.devices.disks.retain(|disk| disk.location() != Location::File(seed));
        let mut files = Vec::new();
        for disk in &mut def.devices.disks {
            if disk.device() == DiskDevice::Disk && !disk.read_only && !disk.shareable {
                files.push(own_image(disk, name, pools)?);
            }
        }
        for interface in &mut def.devices.interfaces {
            interface.mac = None;
            if let Some(target) = &mut interface.target {
                target.dev = None;
            }
        }
        if let Some(cid) = def.devices.vsock.as_mut().and_then(|vsock| vsock.cid.as_mut()) {
            (cid.auto, cid.address) = (Some(xml::YesNo::Yes), None);
        }
        if let Some(variables) = &mut def.os.nvram
            && let Some(path) = variables.path.take()
        {
            let to = path.with_file_name(format!("{name}_VARS.fd"));
            variables.path = Some(to.clone());
            // A guest that never ran has none.
            if path.symlink_metadata().is_ok() {
                files.push(Copy::new("firmware variables", path, to)?);
            }
        }
        def.fill_defaults(&mut NewIds);
        Ok(Self { def, files })
    }

    /// Make the files, each under its own name when all are there; or none.
    pub(crate) fn copy(&self, node: &Node, progress: &Progress) -> Result<(), Error> {
        let made = self.files.iter().try_for_each(|file| file.copy(node, progress));
        let made = made.and_then(|()| {
            let finish = |file: &Copy| node.broker.rename_saved(&file.partial, &file.to);
            Ok(self.files.iter().try_for_each(finish)?)
        });
        if made.is_err() {
            self.remove(&*node.broker);
        }
        made
    }

    /// What was made for a twin that is not to be.
    pub(crate) fn remove(&self, broker: &dyn Broker) {
        for path in self.files.iter().flat_map(|file| [&file.partial, &file.to]) {
            if let Err(error) = broker.remove_saved(path) {
                tracing::error!(%error, path = %path.display(), "a file of a clone is left");
            }
        }
    }
}

/// Give a disk a file beside its own, and say what is to be in it.
fn own_image(disk: &mut Disk, name: &str, pools: &[PoolView]) -> Result<Copy, Error> {
    let target = disk.target.dev.clone();
    let beside = |path: &Path| {
        let end = path.extension().map(|end| format!(".{}", end.to_string_lossy()));
        format!("{name}-{target}{}", end.unwrap_or_default())
    };
    let what = format!("disk {target}");
    let (from, to, volume) = match disk.location() {
        Location::File(path) => (path.to_owned(), path.with_file_name(beside(path)), None),
        Location::Volume { pool, volume } => {
            let pool = pools.iter().find(|known| known.name == pool).ok_or_else(|| {
                let text = format!("{what} is a volume of pool {pool:?}, which is not active");
                Error::new(Code::ResourceMissing, text)
            })?;
            let name = beside(Path::new(volume));
            (pool.path.join(volume), pool.path.join(&name), Some(name))
        }
        _ => {
            let text = format!(
                "{what} is neither a file nor a volume, of which alone a clone can have one of its \
                 own; take it out of the definition (detach-disk --config), or make it <readonly/> \
                 or <shareable/>"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
    };
    let copy = Copy::new(&what, from, to.clone())?;
    if let Some(source) = &mut disk.source {
        match volume {
            Some(volume) => source.volume = Some(volume),
            None => source.file = Some(to),
        }
    }
    Ok(copy)
}

impl Copy {
    fn new(what: &str, from: PathBuf, to: PathBuf) -> Result<Self, Error> {
        if to.symlink_metadata().is_ok() {
            let text =
                format!("{} is there already, and would be {what} of the clone", to.display());
            return Err(Error::new(Code::Exists, text));
        }
        if from.metadata().is_ok_and(|found| !found.is_file()) {
            let text = format!("{what} ({}) is no regular file", from.display());
            return Err(Error::new(Code::Unsupported, text));
        }
        let partial = beside(&to, Uuid::new_v4());
        Ok(Self { what: what.to_owned(), from, to, partial })
    }

    pub(crate) fn size(&self) -> u64 {
        self.from.metadata().map_or(0, |found| found.len())
    }

    fn copy(&self, node: &Node, progress: &Progress) -> Result<(), Error> {
        // As an image is opened: nobody writes to it as long as it is.
        let opened = node.broker.open_image(&self.from, true, false, Sharing::Exclusive);
        let source = name_holder(opened, &node.processes())?;
        let act = SavedAct::Create { path: self.partial.clone(), in_new_dir: false };
        let file = node.broker.saved_file(act)?;
        let copied = copy(&source, &file, progress);
        copied.map_err(|source| {
            let full = source.kind() == io::ErrorKind::StorageFull;
            let code = if full { Code::NoSpace } else { Code::HostFailure };
            let text = format!("{} cannot be copied to {}", self.what, self.to.display());
            Error::new(code, text).with_source(source)
        })
    }
}

/// Sharing blocks where the file system can; else what is there, with its holes.
fn copy(source: &OwnedFd, file: &OwnedFd, progress: &Progress) -> io::Result<()> {
    if ioctl_ficlone(file, source).is_ok() {
        return Ok(rustix::fs::fsync(file)?);
    }
    let (mut from, mut to) = (File::from(source.try_clone()?), File::from(file.try_clone()?));
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        at = match seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&from, rustix::fs::SeekFrom::Hole(at)).unwrap_or(size).min(size);
        while at < hole {
            let len = PIECE.min(hole - at);
            from.seek(SeekFrom::Start(at))?;
            to.seek(SeekFrom::Start(at))?;
            if io::copy(&mut (&mut from).take(len), &mut to)? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += len;
            progress.at(progress.figures().0 + len)?;
        }
    }
    to.flush()?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str = "<domain type='kvm'><name>web</name>\
        <uuid>11111111-2222-3333-4444-555555555555</uuid>\
        <genid>61111111-2222-3333-4444-555555555555</genid><memory>65536</memory>\
        <os><type>hvm</type><kernel>/k</kernel></os><devices>\
        <disk type='file'><source file='/d/web.qcow2'/><target dev='vda'/></disk>\
        <disk type='file' device='cdrom'><source file='/d/a.iso'/><target dev='sda'/>\
        <readonly/></disk>\
        <disk type='file' device='cdrom'><source file='/s/seed.iso'/><target dev='sdb'/>\
        <readonly/></disk>\
        <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>\
        <target dev='tap7'/></interface></devices></domain>";

    fn twin() -> Twin {
        let def = DomainDef::parse(ORIGINAL).unwrap().value;
        Twin::plan(&def, "web2", &[], Path::new("/s/seed.iso")).unwrap()
    }

    #[test]
    fn a_twin_is_another_machine() {
        let (first, second) = (twin().def, twin().def);
        assert_eq!(&*first.name, "web2");
        let ids = |def: &DomainDef| (def.uuid, def.genid.as_ref().and_then(|genid| genid.id));
        let old = DomainDef::parse(ORIGINAL).unwrap().value;
        let ((a, b), (c, d), (e, f)) = (ids(&first), ids(&second), ids(&old));
        assert!(a != c && b != d && a != e && b != f);
        let nic = &first.devices.interfaces[0];
        assert_ne!(nic.mac_address(), old.devices.interfaces[0].mac_address());
        assert!(nic.target.as_ref().is_none_or(|target| target.dev.is_none()));
    }

    #[test]
    fn what_it_writes_to_is_its_own_and_the_seed_stays_with_the_original() {
        let twin = twin();
        let places: Vec<_> =
            twin.def.devices.disks.iter().map(|disk| format!("{:?}", disk.location())).collect();
        assert_eq!(places, [r#"File("/d/web2-vda.qcow2")"#, r#"File("/d/a.iso")"#]);
        let [copy] = twin.files.as_slice() else { panic!("{:?}", twin.files) };
        assert_eq!((copy.from.as_path(), copy.to.as_path()).0, Path::new("/d/web.qcow2"));
    }

    #[test]
    fn a_copy_is_the_same_with_its_holes() {
        use std::os::unix::fs::{FileExt as _, MetadataExt as _};
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"here", 20 << 20).unwrap();
        source.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let progress = Progress::new(0);
        let (source, target) = (OwnedFd::from(source), OwnedFd::from(target));
        copy(&source, &target, &progress).unwrap();
        let (source, target) = (File::from(source), File::from(target));
        let (mut a, mut b) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        source.read_exact_at(&mut a, 0).unwrap();
        target.read_exact_at(&mut b, 0).unwrap();
        assert!(a == b);
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
