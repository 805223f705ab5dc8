//! The twin of a domain: another machine of the same make, with disks of its own that hold the same.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use broker::{Broker, SavedAct, Sharing};
use image::qcow2::CreateOptions;
use image::{FileStorage, Format, Inspected, Reference};
use rustix::fs::{ioctl_ficlone, seek};
use rustix::io::Errno;
use uuid::Uuid;
use xml::device::chardev::{CharLog, CharSource, CharType};
use xml::device::disk::{Disk, DiskDevice, DiskFormat, Location};
use xml::device::graphics::Graphics;
use xml::domain::os::SysinfoField;
use xml::{DomainDef, YesNo};

use super::launch::name_holder;
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::registry::Node;
use crate::saved::beside;
use crate::storage::PoolView;
use crate::translate::{self, NewIds, formats};

/// Copied between two looks at whether the job is to go on.
const PIECE: u64 = 8 << 20;

#[derive(Debug)]
pub(crate) struct Twin {
    pub def: DomainDef,
    pub files: Vec<Copy>,
}

/// What belongs to the original alone.
#[derive(Clone, Copy)]
pub(crate) struct Original<'a> {
    /// Who can see its files.
    pub broker: &'a dyn Broker,
    pub def: &'a DomainDef,
    /// Of its cloud-init.
    pub seed: &'a Path,
    /// Where its sockets are, unless its definition says otherwise.
    pub run_dir: &'a Path,
}

/// A file of the twin's own.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// What it is to the guest.
    what: String,
    from: PathBuf,
    to: PathBuf,
    partial: PathBuf,
    /// Bytes; 0 of what is not there.
    size: u64,
    /// Of a disk: its target, and how its original is read.
    disk: Option<(String, DiskFormat)>,
}

impl Twin {
    /// Of a domain that starts from its disks. Its cloud-init is not the twin's.
    pub(crate) fn plan(of: Original<'_>, name: &str, pools: &[PoolView]) -> Result<Self, Error> {
        let mut twin = Self::like(of, name, pools)?;
        let disks = &mut twin.def.devices.disks;
        disks.retain(|disk| disk.location() != Location::File(of.seed));
        Ok(twin)
    }

    /// Of one that goes on: with each device that the guest has seen. `seed`: where a copy of its
    /// cloud-init's goes.
    pub(crate) fn plan_live(
        of: Original<'_>,
        name: &str,
        pools: &[PoolView],
        seed: impl FnOnce(Uuid) -> PathBuf,
    ) -> Result<Self, Error> {
        let mut twin = Self::like(of, name, pools)?;
        let disks = &mut twin.def.devices.disks;
        if let Some(disk) = disks.iter_mut().find(|it| it.location() == Location::File(of.seed)) {
            let to = seed(twin.def.uuid.unwrap_or_default());
            twin.files.push(Copy::new(of.broker, "cloud-init", of.seed.to_owned(), to.clone())?);
            if let Some(source) = &mut disk.source {
                source.file = Some(to);
            }
        }
        Ok(twin)
    }

    fn like(of: Original<'_>, name: &str, pools: &[PoolView]) -> Result<Self, Error> {
        let mut def = of.def.clone();
        translate::rename(&mut def, name)?;
        def.uuid = Some(Uuid::new_v4());
        if let Some(genid) = &mut def.genid {
            genid.id = Some(Uuid::new_v4());
        }
        // They tell the original's UUID.
        for block in def.sysinfos.iter_mut().flat_map(|info| &mut info.system) {
            block.entries.retain(|entry| entry.name != SysinfoField::Uuid);
        }
        let mut files = Vec::new();
        for disk in &mut def.devices.disks {
            if disk.device() == DiskDevice::Disk && !disk.read_only && !disk.shareable {
                files.push(own_image(of.broker, disk, name, pools)?);
            }
        }
        for interface in &mut def.devices.interfaces {
            interface.mac = None;
            if let Some(target) = &mut interface.target {
                target.dev = None;
            }
        }
        if let Some(cid) = def.devices.vsock.as_mut().and_then(|vsock| vsock.cid.as_mut()) {
            (cid.auto, cid.address) = (Some(YesNo::Yes), None);
        }
        own_ends(&mut def, of.run_dir, name);
        if let Some(variables) = &mut def.os.nvram
            && let Some(path) = variables.path.take()
        {
            let to = path.with_file_name(format!("{name}_VARS.fd"));
            variables.path = Some(to.clone());
            // A guest that never ran has none.
            if of.broker.is_there(&path)? {
                files.push(Copy::new(of.broker, "firmware variables", path, to)?);
            }
        }
        def.fill_defaults(&mut NewIds);
        Ok(Self { def, files })
    }

    /// Make the files, each under its own name when all are there; or none.
    pub(crate) fn copy(&self, node: &Node, progress: &Progress) -> Result<(), Error> {
        let copy = |file: &Copy| {
            let opened = file.open(node, Sharing::Exclusive)?;
            opened.copy(progress)?;
            opened.sync()
        };
        let made = self.files.iter().try_for_each(copy);
        let made = made.and_then(|()| self.name_files(&*node.broker));
        if made.is_err() {
            self.remove(&*node.broker);
        }
        made
    }

    /// Make the files over originals that stay as they are: with blocks shared where the file system can,
    /// else disks as images on top of them. Each under its own name when all are there; or none.
    pub(crate) fn stand_on(&mut self, node: &Node) -> Result<(), Error> {
        let made = self.files.clone().iter().try_for_each(|file| {
            let opened = file.open(node, Sharing::Exclusive)?;
            match &file.disk {
                Some((target, format)) if opened.cost()? > 0 => {
                    opened.stack(node, *format)?;
                    self.is_stacked(target);
                }
                _ => opened.copy(&Progress::default())?,
            }
            opened.sync()
        });
        let made = made.and_then(|()| self.name_files(&*node.broker));
        if made.is_err() {
            self.remove(&*node.broker);
        }
        made
    }

    /// The image of a disk says itself what lies below it.
    fn is_stacked(&mut self, target: &str) {
        let disks = self.def.devices.disks.iter_mut();
        for disk in disks.filter(|disk| disk.target.dev == target) {
            disk.driver.get_or_insert_default().format = Some(DiskFormat::Qcow2);
            disk.backing_store = None;
        }
    }

    /// Give each its name, once all are whole.
    pub(crate) fn name_files(&self, broker: &dyn Broker) -> Result<(), Error> {
        let finish = |file: &Copy| broker.rename_saved(&file.partial, &file.to);
        Ok(self.files.iter().try_for_each(finish)?)
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
fn own_image(
    broker: &dyn Broker,
    disk: &mut Disk,
    name: &str,
    pools: &[PoolView],
) -> Result<Copy, Error> {
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
    let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    let copy = Copy { disk: Some((target, format)), ..Copy::new(broker, &what, from, to.clone())? };
    if let Some(source) = &mut disk.source {
        match volume {
            Some(volume) => source.volume = Some(volume),
            None => source.file = Some(to),
        }
    }
    Ok(copy)
}

impl Copy {
    fn new(broker: &dyn Broker, what: &str, from: PathBuf, to: PathBuf) -> Result<Self, Error> {
        if broker.is_there(&to)? {
            let text =
                format!("{} is there already, and would be {what} of the clone", to.display());
            return Err(Error::new(Code::Exists, text));
        }
        let found = broker.stat(&from)?;
        if found.is_some_and(|found| !found.is_file) {
            let text = format!("{what} ({}) is no regular file", from.display());
            return Err(Error::new(Code::Unsupported, text));
        }
        let partial = beside(&to, Uuid::new_v4());
        let size = found.map_or(0, |found| found.size);
        Ok(Self { what: what.to_owned(), from, to, partial, size, disk: None })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where it is until it is whole.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// `sharing`: as an image is opened that nobody writes to as long as it is; or with a guest that does
    /// and is paused when it matters.
    pub(crate) fn open(&self, node: &Node, sharing: Sharing) -> Result<Opened, Error> {
        let opened = node.broker.open_image(&self.from, true, false, sharing);
        let source = name_holder(opened, &node.processes())?;
        let act = SavedAct::Create { path: self.partial.clone(), in_new_dir: false };
        let target = node.broker.saved_file(act)?;
        Ok(Opened { copy: self.clone(), source: source.into(), target: target.into() })
    }
}

/// A file of the twin's own, and what is to be in it.
#[derive(Debug)]
pub(crate) struct Opened {
    copy: Copy,
    source: File,
    target: File,
}

impl Opened {
    pub(crate) fn what(&self) -> String {
        format!("{} ({})", self.copy.what, self.copy.from.display())
    }

    /// Write back what the host has cached of it: less is left to do when it matters.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.source.sync_data().map_err(|error| self.failed(error))
    }

    /// Bytes that must be moved to have a copy: none where the file system shares blocks.
    pub(crate) fn cost(&self) -> Result<u64, Error> {
        if ioctl_ficlone(&self.target, &self.source).is_ok() {
            return Ok(0);
        }
        use std::os::unix::fs::MetadataExt as _;
        Ok(self.source.metadata().map_err(|error| self.failed(error))?.blocks() * 512)
    }

    /// Make it an empty image on top of the original.
    fn stack(&self, node: &Node, format: DiskFormat) -> Result<(), Error> {
        let (from, refuse) = (&self.copy.from, |reason: &str| {
            let text = format!("{} cannot have an image on top of it: {reason}", self.what());
            Error::new(Code::ResourceMissing, text)
        });
        let known = formats::of_xml(format).ok_or_else(|| refuse("its format is not provided"))?;
        let size = match known {
            Format::Raw => self.source.metadata().map_err(|error| self.failed(error))?.len(),
            _ => {
                let answer = node.broker.inspect(known.name(), self.source.as_fd())?;
                match serde_json::from_slice(&answer) {
                    Ok(Inspected::Image(description)) => description.size,
                    Ok(Inspected::Refused(reason)) => return Err(refuse(&reason)),
                    Err(_) => return Err(refuse("its header was read to no sense")),
                }
            }
        };
        let name = from.to_str().ok_or_else(|| refuse("its name is no text"))?.to_owned();
        let backing = Reference { name, format: Some(known.name().to_owned()) };
        let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(size) };
        let file = self.target.try_clone().and_then(FileStorage::new);
        let file = file.map_err(|error| self.failed(error))?;
        image::qcow2::create(&file, &options).map_err(|error| refuse(&error.in_full()))
    }

    pub(crate) fn copy(&self, progress: &Progress) -> Result<(), Error> {
        copy(&self.source, &self.target, progress).map_err(|error| self.failed(error))
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.target.sync_all().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        let full = source.kind() == io::ErrorKind::StorageFull;
        let code = if full { Code::NoSpace } else { Code::HostFailure };
        let text = format!("{} cannot be copied to {}", self.copy.what, self.copy.to.display());
        Error::new(code, text).with_source(source)
    }
}

/// Sockets, logs and ports are had by one domain at a time.
fn own_ends(def: &mut DomainDef, run_dir: &Path, name: &str) {
    let own = |path: &mut Option<PathBuf>| {
        let Some(before) = path.take_if(|path| path.file_name().is_some()) else { return };
        if !before.starts_with(run_dir) {
            let file = before.file_name().unwrap_or_default().to_string_lossy().into_owned();
            *path = Some(before.with_file_name(format!("{name}-{file}")));
        }
    };
    let end = |kind: CharType, sources: &mut [CharSource], log: Option<&mut CharLog>| {
        if matches!(kind, CharType::Unix | CharType::File) {
            sources.iter_mut().for_each(|source| own(&mut source.path));
        }
        if let Some(log) = log {
            let mut path = Some(std::mem::take(&mut log.file));
            own(&mut path);
            log.file = path.unwrap_or_default();
        }
    };
    let devices = &mut def.devices;
    for serial in devices.serials.iter_mut().chain(&mut devices.parallels) {
        end(serial.kind, &mut serial.sources, serial.log.as_mut());
    }
    for console in &mut devices.consoles {
        end(console.kind(), &mut console.sources, console.log.as_mut());
    }
    for channel in &mut devices.channels {
        end(channel.kind, &mut channel.sources, channel.log.as_mut());
    }
    for graphics in &mut devices.graphics {
        if let Graphics::Vnc(vnc) = graphics
            && vnc.port.is_some_and(|port| port != -1)
        {
            (vnc.port, vnc.autoport) = (Some(-1), Some(YesNo::Yes));
        }
    }
}

/// Sharing blocks where the file system can; else what is there, with its holes.
fn copy(mut from: &File, mut to: &File, progress: &Progress) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        at = match seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(from, rustix::fs::SeekFrom::Hole(at)).unwrap_or(size).min(size);
        while at < hole {
            let len = PIECE.min(hole - at);
            from.seek(SeekFrom::Start(at))?;
            to.seek(SeekFrom::Start(at))?;
            if io::copy(&mut from.take(len), &mut to)? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += len;
            progress.at(progress.figures().0 + len)?;
        }
    }
    to.flush()
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
        <target dev='tap7'/></interface>\
        <serial type='file'><source path='/l/web.log'/><target port='0'/></serial>\
        <channel type='unix'><source mode='bind' path='/run/m/a.sock'/>\
        <target type='virtio' name='a'/></channel>\
        <graphics type='vnc' port='5907' autoport='no'/></devices></domain>";

    fn twin() -> Twin {
        let def = DomainDef::parse(ORIGINAL).unwrap().value;
        Twin::plan(original(&broker::Local::new(), &def), "web2", &[]).unwrap()
    }

    fn original<'a>(broker: &'a broker::Local, def: &'a DomainDef) -> Original<'a> {
        let (seed, run_dir) = (Path::new("/s/seed.iso"), Path::new("/run/m"));
        Original { broker, def, seed, run_dir }
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
    fn one_that_goes_on_has_every_device_and_a_seed_of_its_own() {
        let def = DomainDef::parse(ORIGINAL).unwrap().value;
        let seed = |uuid| PathBuf::from(format!("/s/{uuid}.iso"));
        let twin =
            Twin::plan_live(original(&broker::Local::new(), &def), "web2", &[], seed).unwrap();
        assert_eq!(twin.def.devices.disks.len(), def.devices.disks.len());
        let to: Vec<_> = twin.files.iter().map(|file| file.to.clone()).collect();
        assert_eq!(to, [PathBuf::from("/d/web2-vda.qcow2"), seed(twin.def.uuid.unwrap())]);
    }

    #[test]
    fn logs_sockets_and_ports_are_not_those_of_the_original() {
        let devices = twin().def.devices;
        let log = devices.serials[0].sources[0].path.as_deref();
        assert_eq!(log, Some(Path::new("/l/web2-web.log")));
        assert_eq!(devices.channels[0].sources[0].path, None, "where the twin's sockets are");
        let [Graphics::Vnc(vnc)] = devices.graphics.as_slice() else { panic!("no VNC") };
        assert_eq!((vnc.port, vnc.autoport), (Some(-1), Some(YesNo::Yes)));
    }

    #[test]
    fn a_copy_is_the_same_with_its_holes() {
        use std::os::unix::fs::{FileExt as _, MetadataExt as _};
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"here", 20 << 20).unwrap();
        source.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let progress = Progress::new(0);
        copy(&source, &target, &progress).unwrap();
        let (mut a, mut b) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        source.read_exact_at(&mut a, 0).unwrap();
        target.read_exact_at(&mut b, 0).unwrap();
        assert!(a == b);
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
